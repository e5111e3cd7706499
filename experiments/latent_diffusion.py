"""Train a diffusion model in the latent space of a trained autoencoder, unconditional, by class or by caption.

    python -m experiments.vqvae --workdir=runs/codes
    python -m experiments.latent_diffusion --workdir=runs/latent --config.autoencoder=runs/codes
    python -m experiments.sample --workdir=runs/latent --classes=0,1,2
    python -m experiments.edit inpaint --workdir=runs/latent

The data are those of the autoencoder's run. Its weights and the latents' deviation, measured once over the training
set, go into the run's checkpoints, which are then complete. The same command goes on with a run that was stopped.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import command_line
from experiments.conditions import CONDITIONS, check_condition_name, check_text, class_sizes, with_text
from experiments.diffusion import make_weighting, noise_levels
from experiments.first_stage import find_first_stage, measure_deviation, take_data
from experiments.progress import make_evaluate
from experiments.runs import load_split
from experiments.sampling import LatentSampler
from experiments.training import axis_name, describe_pictures, train_batches, train_model
from jaxgen import models, objectives, train

KINDS = ("vqvae", "kl_autoencoder")


def train_latent_diffusion(config: ConfigDict, workdir: str | Path) -> train.FitResult:
    """Trains from the configuration, or goes on where the run in `workdir` stopped."""
    check_condition_name(config.condition)
    axis = axis_name(config)

    # 1. The autoencoder, and the data it was trained on.
    first = find_first_stage("autoencoder", config.autoencoder, workdir, second="latent_diffusion", kinds=KINDS,
                             source="experiments.vqvae or experiments.vqgan")
    take_data(config, first, "autoencoder")
    train_set, test_set = (load_split(config, config.data[f"{split}_split"]) for split in ("train", "test"))
    image_shape = train_set.image_shape

    # 2. The model, as pure functions, its state and the objective.
    sizes = {"autoencoder": first.model, "shape": latent_shape(first.model, image_shape),
             **class_sizes(config.condition, train_set)}
    model = models.build(**config.model.to_dict(), **sizes, axis_name=axis)
    check_text(config.condition, model)
    state = first.model_state
    if state is None:
        state = {"autoencoder": first.variables, "deviation": jnp.ones(())}
        state["deviation"] = measure_deviation(model, state, train_set)
    train_set, test_set = (with_text(dataset, model.text_length) for dataset in (train_set, test_set))
    loss_fn = partial(
        objectives.latent_diffusion_loss, latents=model.latents, denoise=model.denoise,
        draw_sigmas=noise_levels(model.schedule, **config.noise), weighting=make_weighting(**config.weighting),
        condition=CONDITIONS[config.condition], null=model.null, drop_condition=config.drop_condition,
    )

    # 3. What is measured and shown along the way.
    sampler = LatentSampler(model, image_shape, config.sampling)
    evaluate = make_evaluate(loss_fn, sampler, test_set)

    # 4. Training.
    latents = "x".join(map(str, model.shape))
    return train_model(
        config, workdir, batches=train_batches(config, train_set), init=lambda key: model.init(key, image_shape),
        model_state=state, loss_fn=partial(loss_fn, axis_name=axis), evaluate=evaluate,
        describe=f"{describe_pictures(train_set, test_set)}; latents of {latents}, deviation {state['deviation']:.4f}",
        saved={"model": sizes, "image_shape": image_shape, "class_names": train_set.class_names},
    )


def latent_shape(autoencoder: dict, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(h, w, D) of the latents that an autoencoder of this description has of one picture."""

    def encoded(key):
        model = models.build(**autoencoder)
        return model.encode(model.init(key, image_shape).params, jnp.zeros((1, *image_shape)))

    return jax.tree.leaves(jax.eval_shape(encoded, jax.random.key(0)))[0].shape[1:]


if __name__ == "__main__":
    CONFIG = command_line.define_config("experiments/configs/latent_diffusion_mnist.py", needs="autoencoder")
    WORKDIR = command_line.define_workdir("The run's directory, new or of a run to go on with.")

    def main():
        command_line.start_processes(CONFIG.value)
        train_latent_diffusion(CONFIG.value, WORKDIR.value)

    command_line.run(main)
