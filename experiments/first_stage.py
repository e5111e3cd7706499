"""The trained autoencoder that a second model is trained on: its run, its data, its latents' deviation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.runs import load_run
from jaxgen import data
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables
from jaxgen.models import LatentDiffusion
from jaxgen.runs import checkpoint, manifest


class FirstStage(NamedTuple):
    """What `find_first_stage` gives."""

    model: dict  # the configuration of its model
    data: dict  # that of its data
    variables: Variables | None  # its weights; None where the second run was started before
    model_state: Any  # of the second run, which holds the weights; None where it is new


def find_first_stage(option: str, directory: str, workdir: str | Path, *, second: str, kinds: Sequence[str],
                     source: str) -> FirstStage:
    """A started run's own first stage, else the run in `directory`.

    Args:
        option: of the configuration, which names the first stage; the second model's description has it under the
            same name.
        directory: the option's value.
        workdir: of the second run.
        second: the name of its model.
        kinds: names of models that may be a first stage.
        source: where such runs come from, for messages.

    Raises:
        ValueError: no directory is given, or it holds another kind of run.
    """
    if manifest.find_steps(Path(workdir) / "checkpoints"):
        started = checkpoint.load(workdir)
        if started.config["model"]["name"] == second:
            return FirstStage(started.config["model"][option], started.config["data"], None, started.model_state)
    if not directory:
        raise ValueError(f"config.{option} is empty: give the directory of a run of {source}")
    if not Path(directory).is_dir():
        raise ValueError(f"config.{option}={directory} does not exist: give the directory of a run of {source}")
    loaded, variables = load_run(directory)
    if loaded.config["model"]["name"] not in kinds:
        raise ValueError(f"config.{option}={directory} is a run of {loaded.config['model']['name']!r}: give one of "
                         f"{source} whose model is a {' or '.join(kinds)}")
    return FirstStage(loaded.config["model"], loaded.config["data"], variables, None)


def take_data(config: ConfigDict, first: FirstStage, option: str) -> None:
    """Sets `config.data` to the first stage's data, but for what is the second run's own: batch, flips, shifts.

    Raises:
        ValueError: the configuration names other data.
    """
    if config.data.name not in ("", first.data["name"]):
        raise ValueError(f"config.data.name={config.data.name!r}, but the {option} was trained on "
                         f"{first.data['name']!r}, which are this run's data too: leave it out")
    for name in ("name", "image_size", "train_split", "test_split", "options"):
        config.data[name] = first.data[name]


def measure_deviation(model: LatentDiffusion, state: Any, dataset: data.Dataset, *, batch: int = 100,
                      seed: int = 0) -> np.ndarray:
    """The standard deviation of all numbers of a set's latents, [] float32; draws of a posterior count with theirs.

    Args:
        model: whose `state` has the deviation that the result is a multiple of, 1 at first.
        state: of the model.
        dataset: the set.
        batch: pictures at a time.
        seed: of the posterior's draws.

    Raises:
        ValueError: the latents do not vary.
    """
    def sums(state, images, ids):
        z = model.latents(state, data.to_float(images), key=jax.random.key(seed), sample_ids=ids)
        return z.sum(axis=(1, 2, 3)), (z**2).sum(axis=(1, 2, 3))

    run, total, square = jax.jit(sums, compiler_options=compiler_options()), 0.0, 0.0
    for found in data.evaluation_batches(dataset, min(batch, len(dataset))):
        first, second = (np.asarray(value, np.float64)[found["mask"]].sum()
                         for value in run(state, found["image"], found["id"]))
        total, square = total + first, square + second
    count = len(dataset) * np.prod(model.shape)
    variance = square / count - (total / count) ** 2
    if not variance > 0:
        raise ValueError(f"the latents of {dataset.name}/{dataset.split} have the variance {variance:.3g}: this "
                         "autoencoder tells no picture from another")
    return np.float32(np.sqrt(variance))
