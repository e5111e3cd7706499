"""Train a VQGAN, a VQ-VAE with a perceptual loss and a discriminator; or a KL autoencoder in the same way.

    python -m experiments.vqgan --workdir=runs/g
    python -m experiments.vqgan --workdir=runs/h --config=experiments/configs/vqgan_mnist.py
    python -m experiments.vqgan --workdir=runs/k --config=experiments/configs/kl_mnist.py
    python -m experiments.vqgan --workdir=runs/i --config.adversarial.weight=0.4 --config.adversarial.start=2000

The same command goes on with a run that was stopped. What comes out is an autoencoder like that of
`experiments.vqvae`: `reconstruct`, `evaluate`, `token_prior` and the others take its directory. LPIPS needs weights,
which are not downloaded on their own: the message says how to get them; --config.perceptual.name=none trains without.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict

from experiments import command_line
from experiments.classification import load_feature_distance
from experiments.reconstruction import find_reconstruction_loss, make_evaluate
from experiments.runs import load_split
from experiments.training import AdversaryRecipe, axis_name, describe_pictures, train_batches, train_model
from jaxgen import interop, losses, models, objectives, train
from jaxgen.core.errors import unknown_name
from jaxgen.core.keys import global_positions

GAN_LOSSES = {
    "hinge": losses.hinge(), "vanilla": losses.vanilla(), "non_saturating": losses.non_saturating(),
    "least_squares": losses.least_squares(), "wasserstein": losses.wasserstein(),
    # VQGAN's published code: the generator of hinge against the discriminator of vanilla.
    "vqgan_vanilla": losses.GanLoss(losses.hinge().generator, losses.vanilla().discriminator),
}


def train_vqgan(config: ConfigDict, workdir: str | Path) -> train.FitResult:
    """Trains from the configuration, or goes on where the run in `workdir` stopped."""
    axis, adversarial = axis_name(config), config.adversarial
    reconstruction = find_reconstruction_loss(config)
    if adversarial.loss not in GAN_LOSSES:
        raise unknown_name("config.adversarial.loss", adversarial.loss, GAN_LOSSES)
    if adversarial.loss == "wasserstein" and not adversarial.gradient_penalty:
        raise ValueError("config.adversarial.loss='wasserstein' is without bound alone: set "
                         "config.adversarial.gradient_penalty, for example to 10")

    # 1. Data.
    train_set, test_set = (load_split(config, config.data[f"{split}_split"]) for split in ("train", "test"))
    shape = train_set.image_shape

    # 2. The autoencoder and the discriminator, as pure functions.
    model = models.build(**config.model.to_dict(), image_channels=shape[-1], axis_name=axis)
    discriminator = models.build_discriminator(**config.discriminator.to_dict(), axis_name=axis)
    perceptual = perceptual_distance(config, shape)

    def discriminate(params, images):
        return discriminator.apply({"params": params}, images)

    def init_adversary(key):
        alone = discriminator.clone(axis_name=None)  # there is no mapped axis yet
        return alone.init(key, jnp.zeros((1, *shape)))["params"], losses.lecam_init()

    # 3. Their objectives. Both see pictures through the same kind of augmentation.
    gan = GAN_LOSSES[adversarial.loss]
    augment = partial(augment_globally, policy=tuple(adversarial.augment), axis=axis) if adversarial.augment else None
    kl = isinstance(model, models.KLAutoencoder)
    generator_loss = partial(
        objectives.vqgan_generator_loss, forward=kl_forward(model, config.kl_weight, axis) if kl else model.forward,
        num_codes=None if kl else model.num_codes, discriminate=discriminate, gan=gan, augment=augment,
        reconstruction=reconstruction, perceptual=perceptual,
        perceptual_weight=config.perceptual.weight, gan_weight=adversarial.weight,
        last_layer=("decoder", "conv_out", "kernel") if adversarial.adaptive else None,
        start=adversarial.start, ramp_steps=adversarial.ramp_steps, axis_name=axis,
    )
    discriminator_loss = partial(
        objectives.vqgan_discriminator_loss, discriminate=discriminate, gan=gan, augment=augment,
        r1_weight=adversarial.r1, r1_every=adversarial.r1_every,
        gradient_penalty_weight=adversarial.gradient_penalty, lecam_weight=adversarial.lecam, axis_name=axis,
    )

    # 4. Training; what is measured and shown along the way are the reconstructions.
    return train_model(
        config, workdir, batches=train_batches(config, train_set), init=lambda key: model.init(key, shape),
        loss_fn=generator_loss, adversary=AdversaryRecipe(init_adversary, discriminator_loss),
        evaluate=make_evaluate(model, test_set), describe=describe_pictures(train_set, test_set),
        saved={"model": {"image_channels": shape[-1]}, "image_shape": shape, "perceptual_sha256": digest(perceptual)},
    )


class Latents(NamedTuple):
    """What the objective reads of a quantizer's output, for an encoder that has none."""

    losses: dict[str, jax.Array]


def kl_forward(model: models.KLAutoencoder, weight: float, axis: str | None):
    """The forward pass of a KL autoencoder as the objective takes it, with weight * KL per number of the picture.

    LDM's published code weighs sums over a picture, 1e-6 KL against the distances of all its numbers; here distances
    are means, so that the KL is divided by as many numbers.
    """

    def forward(variables, x, *, train, key):
        positions, _ = global_positions(x.shape[0], axis)
        x_r, gaussian = model.forward(variables, x, key=key if train else None, sample_ids=positions)
        return x_r, Latents({"weighted_kl": weight * losses.gaussian_kl(gaussian) / x[0].size}), variables.state

    return forward


def augment_globally(key: jax.Array, images: jax.Array, *, policy: tuple[str, ...], axis: str | None) -> jax.Array:
    """DiffAugment, whose draws follow the place in the global batch."""
    return losses.diffaugment(key, images, policy=policy, sample_ids=global_positions(images.shape[0], axis)[0])


def perceptual_distance(config: ConfigDict, image_shape: tuple[int, ...]):
    """`(x, x_r) -> [B]`, a tree whose leaves are its network's parameters; or None."""
    name, file = config.perceptual.name, config.perceptual.file
    if name == "none":
        return None
    if name == "lpips":
        return Partial(losses.lpips, interop.load_lpips(file, net=config.perceptual.net))
    if name == "classifier":
        if not file:
            raise ValueError("config.perceptual.file is empty: train a classifier with `python -m "
                             "experiments.classifier` and give its directory, or --config.perceptual.name=none")
        return load_feature_distance(file, image_shape)
    raise unknown_name("config.perceptual.name", name, ("lpips", "classifier", "none"))


def digest(tree: Any) -> str:
    """SHA-256 of a tree's arrays: they lie outside the checkpoint, and a run goes on with the same ones alone."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    CONFIG = command_line.define_config("experiments/configs/vqgan_emoji32.py", needs="adversarial")
    WORKDIR = command_line.define_workdir("The run's directory, new or of a run to go on with.")

    def main():
        command_line.start_processes(CONFIG.value)
        train_vqgan(CONFIG.value, WORKDIR.value)

    command_line.run(main)
