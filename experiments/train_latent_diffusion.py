"""Train a diffusion model in the latent space of a trained autoencoder, unconditional, by class or by caption.

    python -m experiments.train_vqvae --workdir=runs/codes
    python -m experiments.train_latent_diffusion --workdir=runs/latent --config.autoencoder=runs/codes
    python -m experiments.sample --workdir=runs/latent --classes=0,1,2
    python -m experiments.edit inpaint --workdir=runs/latent

The data are those of the autoencoder's run. Its weights and the latents' std, measured once over the training set, go
into the run's checkpoints, which are then complete. The same command goes on with a run that was stopped.
"""

from functools import partial

from ml_collections import ConfigDict

from experiments.common import command_line
from experiments.common.training import (
    Recipe,
    axis_name,
    build_model,
    conditioned_data,
    conditions_of,
    load_data,
    take_data,
)
from experiments.common.watching import watch_samples
from jaxgen import data, diffusion, models, objectives, runs


def build(config: ConfigDict, workdir: str | None = None) -> Recipe:
    """The run that a configuration describes."""
    # 1. The autoencoder, and the data it was trained on.
    first = runs.find_first_stage("autoencoder", config.autoencoder, workdir, able=models.Autoencoder,
                                  source="experiments.train_vqvae or experiments.train_vqgan")
    take_data(config, first, "autoencoder")
    train_set, test_set = load_data(config)

    # 2. The model, its state, and what of the data is its condition.
    shape = models.latent_shape(first.model, train_set.example_shape)
    sizes = {"autoencoder": first.description, "shape": shape, "conditions": conditions_of(config, train_set)}
    model, state = build_model(config, sizes), first.second_state
    if state is None:
        state = {"autoencoder": first.variables, "std": models.measure_std(
            first.model, first.variables, latent_batches(train_set))}
    train_set, test_set = conditioned_data(model, train_set, test_set)

    # 3. The objective made of its methods.
    loss_fn = partial(
        objectives.latent_diffusion_loss, to_latents=model.to_latents, denoise=model.denoise,
        draw_sigmas=diffusion.draw_noise_levels(model.schedule, **config.noise),
        weighting=diffusion.make_weighting(**config.weighting),
        conditions=objectives.Conditions(model.conditions.entries, model.null, config.drop_condition),
        entry=train_set.example,
    )

    # 4. Training; what is measured and shown along the way are a held-out loss and samples.
    note = f"latents of {'x'.join(map(str, model.sample_shape))}, std {state['std']:.4f}"
    return Recipe(model=model, sizes=sizes, state=state, train_set=train_set, test_set=test_set, notes=(note,),
                  loss_fn=partial(loss_fn, axis_name=axis_name(config)),
                  watch=watch_samples(model, loss_fn, config.sampling, test_set))


def latent_batches(dataset: data.Dataset, size: int = 100):
    """(x, ids, mask) of batches over a whole set, each example once."""
    to_model = dataset.spec[dataset.example].to_model
    for batch in data.evaluation_batches(dataset, min(size, len(dataset))):
        yield to_model(batch[dataset.example]), batch["id"], batch["mask"]


if __name__ == "__main__":
    command_line.train(build, "latent_diffusion_mnist", models=("latent_diffusion",))
