"""Train a VQ-VAE or a two-level VQ-VAE-2.

    python -m experiments.train_vqvae --workdir=runs/a
    python -m experiments.train_vqvae --workdir=runs/b --config=vqvae_emoji32
    python -m experiments.train_vqvae --workdir=runs/c --config.optimizer.learning_rate=1e-3
    python -m experiments.train_vqvae --workdir=runs/d --config.quantizer="residual(vq(512, ema_decay=0.99), depth=2)"

The same command goes on with a run that was stopped. The run's directory gets config.json, environment.json,
metrics.jsonl, metrics.csv, TensorBoard events, images/ and checkpoints/.
"""

from functools import partial

from ml_collections import ConfigDict

from experiments.common import command_line
from experiments.common.robust import forward_of
from experiments.common.training import Recipe, axis_name, build_model, load_data
from experiments.common.watching import watch_reconstructions
from jaxgen import losses, objectives
from jaxgen.core.checks import choose


def build(config: ConfigDict, workdir: str | None = None) -> Recipe:
    """The run that a configuration describes."""
    reconstruction = choose("config.reconstruction", config.reconstruction, losses.RECONSTRUCTIONS)

    # 1. Data. The model's shape is the data's.
    train_set, test_set = load_data(config)

    # 2. The model, and the objective made of its methods.
    sizes = {"example_channels": train_set.example_shape[-1]}
    model = build_model(config, sizes)
    loss_fn = partial(
        objectives.vqvae_loss, forward=forward_of(model, config), reconstruction=reconstruction,
        num_codes=model.num_codes, axis_name=axis_name(config), entry=train_set.example,
    )

    # 3. Training; what is measured and shown along the way are the reconstructions.
    return Recipe(model=model, sizes=sizes, train_set=train_set, test_set=test_set, loss_fn=loss_fn,
                  watch=watch_reconstructions(model, test_set))


if __name__ == "__main__":
    command_line.train(build, "vqvae_mnist", models=("vqvae", "vqvae2"))
