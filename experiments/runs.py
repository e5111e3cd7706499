"""Reading a run back: its weights, its data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import data
from jaxgen.core.types import Variables
from jaxgen.data.builders.image_folder import find_pictures, read_picture
from jaxgen.runs import checkpoint

MODES = {1: "L", 3: "RGB"}


def load_run(workdir: str | Path, step: int | None = None) -> tuple[checkpoint.Loaded, Variables]:
    """The run's last (or given) checkpoint, with the averaged weights where the run kept them."""
    loaded = checkpoint.load(workdir, step=step)
    params = loaded.params if loaded.ema_params is None else loaded.ema_params
    return loaded, Variables(params, loaded.model_state)


def load_split(config: Mapping[str, Any], split: str | None = None) -> data.Dataset:
    """The run's held-out pictures, or another split of its data."""
    options = {name: value for name, value in config["data"]["options"].items() if value is not None}
    return data.load(config["data"]["name"], split or config["data"]["test_split"],
                     image_size=config["data"]["image_size"] or None, **options)


def spread(dataset: data.Dataset, count: int) -> dict[str, np.ndarray]:
    """`count` records from all over a set, or the whole set if it has fewer."""
    return dataset.take(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int))


def read_folder(folder: Path, image_shape: list[int]) -> data.Dataset:
    """A folder's pictures, cut to the central square, in the size and colour that the model takes."""
    size, _, channels = image_shape
    if channels not in MODES:
        raise ValueError(f"--images needs a model of grey or RGB pictures, but this one takes {channels} channels")
    pictures = [np.asarray(read_picture(file, size).convert(MODES[channels])) for file in find_pictures(folder)]
    return data.Dataset.from_arrays(np.stack(pictures).reshape(-1, *image_shape), name=folder.name, split="all")
