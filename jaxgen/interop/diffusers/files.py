"""Where diffusers keeps its configurations, and what their entries may say.

A configuration lies in a model's directory, or in a sub-folder of a pipeline's. Every entry is honoured, has no effect
on inference, or is an error: none is passed over.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.errors import unknown_name
from jaxgen.core.json_file import parse_object
from jaxgen.interop.diffusers.entries import check_kinds
from jaxgen.interop.safetensors import read_safetensors

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
# What diffusers' training stores with a moving average of the weights.
NOTES = {"decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"}

# Of the entries with few values that can be honoured, those that may be a list of one per level.
PER_LEVEL = {"only_cross_attention"}

# The function of jaxgen.interop that loads each class.
LOADERS = {"UNet2DModel": "load_unet", "UNet2DConditionModel": "load_unet",
           "VQModel": "load_autoencoder", "AutoencoderKL": "load_autoencoder"}


def find(directory: str | Path, file: str, *folders: str) -> Path:
    """The path of `file` in a directory, or in one of its sub-folders.

    Raises:
        FileNotFoundError: it is in none; says what was looked for.
    """
    directory = Path(directory)
    places = [directory / file, *(directory / folder / file for folder in folders)]
    for place in places:
        if place.is_file():
            return place
    there = "" if directory.is_dir() else f": there is no directory {directory}"
    raise FileNotFoundError(f"neither {' nor '.join(map(str, places))} is there{there}")


def read_config(file: Path) -> dict[str, Any]:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no object.
    """
    return parse_object(file.read_bytes(), file)


@contextmanager
def naming(file: str | Path) -> Iterator[None]:
    """Errors of what is made from a file's content, which begin with its path."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def read_weights(config: Path, variant: str | None) -> tuple[dict[str, np.ndarray], str]:
    """The tensors next to a `config.json`, as they are stored, and what errors call them.

    Raises:
        FileNotFoundError, OSError, ValueError: see `jaxgen.interop.read_safetensors`.
    """
    path = config.with_name(WEIGHTS)
    source = str(path) if variant is None else f"{path} (variant {variant})"
    return read_safetensors(path, dtype=None, variant=variant), source


def complete_entries(
    config: Mapping[str, Any],
    defaults: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Mapping[str, tuple]],
    ours: str,
) -> dict[str, Any]:
    """A configuration with the entries that its file leaves to diffusers' defaults.

    Args:
        config: the file's.
        defaults: by class, what an entry that is not there means.
        values: by class, the values that can be honoured, of the entries where not all can.
        ours: the network here that would have to, for the error.

    Raises:
        ValueError: it is of another class, or has an entry that is unknown, of another type than such entries are, or
            cannot be honoured.
    """
    name = config.get("_class_name")
    check_kinds(config)
    if name not in defaults and name in LOADERS:
        raise ValueError(f"_class_name {name!r} is not one of {', '.join(map(repr, defaults))}: load it with "
                         f"jaxgen.interop.{LOADERS[name]}")
    if name not in defaults:
        raise unknown_name("_class_name", name, defaults)
    for entry, value in config.items():
        # An entry of another version of diffusers that is null is one that is not used.
        if entry not in defaults[name] and not entry.startswith("_") and entry not in NOTES and value is not None:
            raise ValueError(f"{name} has an entry {entry}={value!r} that is not known here: the result could be wrong")
    result = {**defaults[name], **config}
    for entry, allowed in values[name].items():
        value = result[entry]
        if entry in PER_LEVEL and isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if value not in allowed:
            raise unsupported(name, entry, result[entry], ours, " or ".join(map(repr, allowed)))
    return result


def unsupported(name: str, entry: str, value: Any, ours: str, wanted: str) -> ValueError:
    """The error for an entry that cannot be honoured."""
    return ValueError(f"{name} with {entry}={value!r} cannot be loaded: jaxgen's {ours} needs {wanted}")
