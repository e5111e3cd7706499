"""Train a VQ-VAE or a two-level VQ-VAE-2.

    python -m experiments.vqvae --workdir=runs/a
    python -m experiments.vqvae --workdir=runs/b --config=experiments/configs/vqvae_emoji32.py
    python -m experiments.vqvae --workdir=runs/c --config.optimizer.learning_rate=1e-3

The same command goes on with a run that was stopped. The run's directory gets config.json, environment.json,
metrics.jsonl, TensorBoard events, images/ and checkpoints/.
"""

from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from experiments import command_line
from experiments.reconstruction import find_reconstruction_loss, make_evaluate
from experiments.runs import load_split
from experiments.training import axis_name, describe_pictures, train_batches, train_model
from jaxgen import models, objectives, train


def train_vqvae(config: ConfigDict, workdir: str | Path) -> train.FitResult:
    """Trains from the configuration, or goes on where the run in `workdir` stopped."""
    axis = axis_name(config)
    reconstruction = find_reconstruction_loss(config)

    # 1. Data. The model's image shape is the data's.
    train_set, test_set = (load_split(config, config.data[f"{split}_split"]) for split in ("train", "test"))
    shape = train_set.image_shape

    # 2. The model, as pure functions, and the objective made of them.
    model = models.build(**config.model.to_dict(), image_channels=shape[-1], axis_name=axis)
    loss_fn = partial(
        objectives.vqvae_loss, forward=model.forward, reconstruction=reconstruction,
        num_codes=model.num_codes, axis_name=axis,
    )

    # 3. Training; what is measured and shown along the way are the reconstructions.
    return train_model(
        config, workdir, batches=train_batches(config, train_set), init=lambda key: model.init(key, shape),
        loss_fn=loss_fn, evaluate=make_evaluate(model, test_set), describe=describe_pictures(train_set, test_set),
        saved={"model": {"image_channels": shape[-1]}, "image_shape": shape},
    )


if __name__ == "__main__":
    CONFIG = command_line.define_config("experiments/configs/vqvae_mnist.py")
    WORKDIR = command_line.define_workdir("The run's directory, new or of a run to go on with.")

    def main():
        command_line.start_processes(CONFIG.value)
        train_vqvae(CONFIG.value, WORKDIR.value)

    command_line.run(main)
