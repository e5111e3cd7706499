"""Train a VQGAN, a VQ-VAE with a perceptual loss and a discriminator; or a KL autoencoder in the same way.

    python -m experiments.train_vqgan --workdir=runs/g
    python -m experiments.train_vqgan --workdir=runs/h --config=vqgan_mnist --config.perceptual.file=runs/classifier
    python -m experiments.train_vqgan --workdir=runs/k --config=kl_mnist
    python -m experiments.train_vqgan --workdir=runs/i --config.adversarial.weight=0.4 --config.adversarial.start=2000

The same command goes on with a run that was stopped. What comes out is an autoencoder like that of
`experiments.train_vqvae`: `reconstruct`, `evaluate`, `train_token_prior` and the others take its directory. LPIPS needs
weights, which are not downloaded on their own: the message says how to get them; --config.perceptual.name=none trains
without.
"""

import hashlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict

from experiments.common import command_line
from experiments.common.robust import forward_of
from experiments.common.training import AdversaryRecipe, Recipe, axis_name, build_model, load_data
from experiments.common.watching import watch_reconstructions
from jaxgen import evaluate, interop, losses, models, objectives, runs
from jaxgen.core.checks import choose
from jaxgen.core.errors import unknown_name
from jaxgen.core.keys import global_positions


def build(config: ConfigDict, workdir: str | None = None) -> Recipe:
    """The run that a configuration describes."""
    axis, adversarial = axis_name(config), config.adversarial
    reconstruction = choose("config.reconstruction", config.reconstruction, losses.RECONSTRUCTIONS)
    gan = choose("config.adversarial.loss", adversarial.loss, losses.GAN_LOSSES)()
    if adversarial.loss == "wasserstein" and not adversarial.gradient_penalty:
        raise ValueError("config.adversarial.loss='wasserstein' has no bound by itself: set "
                         "config.adversarial.gradient_penalty, for example to 10")

    # 1. Data.
    train_set, test_set = load_data(config)
    shape, entry = train_set.example_shape, train_set.example

    # 2. The autoencoder and the discriminator.
    sizes = {"example_channels": shape[-1]}
    model = build_model(config, sizes)
    discriminator = models.build_discriminator(**{"dtype": config.dtype, **config.discriminator}, axis_name=axis)
    perceptual = perceptual_distance(config, shape)

    def discriminate(params, images):
        return discriminator.apply({"params": params}, images)

    def init_adversary(key):
        unmapped = discriminator.clone(axis_name=None)  # there is no mapped axis yet
        return unmapped.init(key, jnp.zeros((1, *shape)))["params"], losses.lecam_init()

    # 3. Their objectives. Both see images through the same kind of augmentation.
    augment = partial(augment_globally, policy=tuple(adversarial.augment), axis=axis) if adversarial.augment else None
    generator_loss = partial(
        objectives.vqgan_generator_loss, forward=forward_of(model, config), num_codes=model.num_codes,
        discriminate=discriminate, gan=gan, augment=augment, reconstruction=reconstruction, perceptual=perceptual,
        perceptual_weight=config.perceptual.weight, gan_weight=adversarial.weight,
        last_layer=("decoder", "conv_out", "kernel") if adversarial.adaptive else None,
        start=adversarial.start, ramp_steps=adversarial.ramp_steps, axis_name=axis, entry=entry,
    )
    discriminator_loss = partial(
        objectives.vqgan_discriminator_loss, discriminate=discriminate, gan=gan, augment=augment,
        r1_weight=adversarial.r1, r1_every=adversarial.r1_every,
        gradient_penalty_weight=adversarial.gradient_penalty, lecam_weight=adversarial.lecam, axis_name=axis,
        entry=entry,
    )

    # 4. Training; what is measured and shown along the way are the reconstructions.
    return Recipe(model=model, sizes=sizes, train_set=train_set, test_set=test_set, loss_fn=generator_loss,
                  adversary=AdversaryRecipe(init_adversary, discriminator_loss),
                  watch=watch_reconstructions(model, test_set), saved={"perceptual_sha256": digest(perceptual)},
                  notes=(f"the discriminator starts at step {adversarial.start}",) if adversarial.start else ())


def augment_globally(key: jax.Array, images: jax.Array, *, policy: tuple[str, ...], axis: str | None) -> jax.Array:
    """DiffAugment, whose draws follow the place in the global batch."""
    return losses.diffaugment(key, images, policy=policy, sample_ids=global_positions(images.shape[0], axis)[0])


def perceptual_distance(config: ConfigDict, example_shape: tuple[int, ...]):
    """`(x, x_r) -> [B]`, a tree whose leaves are its network's parameters; or None."""
    name, file = config.perceptual.name, config.perceptual.file
    if name == "none":
        return None
    if name == "lpips":
        return Partial(losses.lpips, interop.load_lpips(file and runs.expand(file), net=config.perceptual.net))
    if name == "classifier":
        return features_of_run(file, example_shape)
    raise unknown_name("config.perceptual.name", name, ("lpips", "classifier", "none"))


def features_of_run(directory: str | None, example_shape: tuple[int, ...]):
    """The perceptual distance of a trained classifier's features."""
    if not directory:
        raise ValueError("config.perceptual.file is empty: train a classifier with `python -m "
                         "experiments.train_classifier` and give its directory, or --config.perceptual.name=none")
    run = runs.load_classifier("config.perceptual.file", directory)
    if run.example_shape != tuple(example_shape):
        raise ValueError(f"the classifier in {directory} was trained on images of {run.example_shape}, but these are "
                         f"{tuple(example_shape)}: train one on these")
    return evaluate.perceptual_distance(run.model, run.variables)


def digest(tree: Any) -> str:
    """SHA-256 of a tree's arrays: they lie outside the checkpoint, and a run goes on with the same ones only.

    Not `jaxgen.core.digest`, which takes in names and shapes too: runs that were begun hold this one.
    """
    result = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        result.update(np.asarray(leaf).tobytes())
    return result.hexdigest()


if __name__ == "__main__":
    command_line.train(build, "vqgan_emoji32", models=("vqvae", "kl_autoencoder"), needs="adversarial")
