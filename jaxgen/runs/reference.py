"""A first stage that a published checkpoint names in place of holding its weights.

The header of `model.safetensors` then has the name of the first stage's own published checkpoint and the digest of what
is in that one. It is looked for beside the directory, then among the shipped ones.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.core.types import Variables
from jaxgen.interop.safetensors_file import read_header
from jaxgen.models.base import Model, SecondStage
from jaxgen.runs.shipped import PLACE, shipped_folder
from jaxgen.runs.weights_file import WEIGHTS, fill, is_published, name_of, named, read_contents

NAME, DIGEST = "first_stage", "first_stage_digest"  # in the header's metadata


class Reference(NamedTuple):
    """What stands in for a first stage's weights.

    Attributes:
        name: of its published checkpoint.
        digest: of what is in that one's file.
        places: {the name of a tensor of the second stage: its name there}.
    """

    name: str
    digest: str
    places: Mapping[str, str]


def read_weights(directory: Path, model: Model, template: Variables) -> tuple[Variables, int]:
    """(variables, step) of a published checkpoint, a first stage's that lies elsewhere included.

    Args:
        directory: of the checkpoint.
        model: that the weights are of.
        template: arrays or `jax.ShapeDtypeStruct`, as the model's `init` gives them.

    Raises:
        FileNotFoundError: its file is not there, or its first stage's checkpoint is not, or is another one.
        DamagedCheckpointError, ValueError: see `jaxgen.runs.weights_file.read_contents` and `fill`.
    """
    file = directory / WEIGHTS
    tensors, metadata = read_contents(file)
    if NAME in metadata:
        first = read_contents(_find(metadata[NAME], metadata[DIGEST], directory) / WEIGHTS).tensors
        tensors |= {here: first[there] for here, there in _places(model, template).items() if there in first}
    return fill(file, tensors, template), int(metadata["step"])


def first_stage_of(directory: Path) -> str | None:
    """The name of the first stage whose weights a published checkpoint does not hold itself."""
    return read_header(directory / WEIGHTS).metadata.get(NAME)


def stranded_by(directory: Path) -> list[str]:
    """The names of published checkpoints beside one whose first stage it is by name, but not by what is in it."""
    digest = read_header(directory / WEIGHTS).metadata.get("digest")
    headers = {path.name: read_header(path / WEIGHTS).metadata for path in sorted(directory.parent.iterdir())
               if is_published(path)}
    return [name for name, own in headers.items() if own.get(NAME) == directory.name and own[DIGEST] != digest]


def option_of(config: Mapping[str, Any]) -> str | None:
    """The option of a second stage's configuration that names its first stage, whose description the model's has."""
    return next((name for name, described in config["model"].items()
                 if isinstance(described, Mapping) and isinstance(config.get(name), str)), None)


def find_reference(
    model: Model, variables: Variables, name: str, directory: Path, *, rounded: bool
) -> Reference | None:
    """A reference to the published checkpoint `name` in place of the first stage's weights, if they are the same.

    Args:
        model: of the second stage.
        variables: of the second stage.
        name: of the first stage's checkpoint.
        directory: where the second stage is published.
        rounded: whether weights are the same too that are so once they are rounded as the checkpoint's are.

    Returns:
        None where there is no such checkpoint; or where the weights differ, unless they may be rounded.

    Raises:
        FileNotFoundError, ValueError: with `rounded`, the same; names the first tensor that differs.
    """
    places = _places(model, variables) if isinstance(model, SecondStage) else {}
    found = _published(name, directory) if places else []
    if not found:
        if not rounded:
            return None
        if not places:
            raise ValueError(f"first_stage={name}: the model is made over no first stage with weights: leave it out")
        raise FileNotFoundError(f"first_stage={name}: no published checkpoint is at {_where(name, directory)}: publish "
                                "the first stage there")
    own, differing = named(variables), []
    for path in found:
        tensors, metadata = read_contents(path / WEIGHTS)
        others = [there for here, there in places.items() if there not in tensors or not np.array_equal(
            own[here].astype(tensors[there].dtype) if rounded else own[here], tensors[there])]
        if not others:
            return Reference(name, metadata["digest"], places)
        differing.append(f"tensor {others[0]!r} of the run's first stage is not the one in {path}")
    if rounded:
        raise ValueError(f"first_stage={name}: {', and '.join(differing)}, rounded as that is: publish the first stage "
                         "that the run was trained over")
    return None


def _places(model: SecondStage, variables: Variables) -> dict[str, str]:
    names = jax.tree_util.tree_map_with_path(lambda path, _: name_of(path), variables._asdict())
    own = model.first_stage(Variables(**names))[1]
    return {name: name_of(path) for path, name in jax.tree_util.tree_leaves_with_path(own._asdict())}


def _find(name: str, digest: str, directory: Path) -> Path:
    found = _published(name, directory)
    for path in found:
        if read_header(path / WEIGHTS).metadata.get("digest") == digest:
            return path
    if found:
        raise FileNotFoundError(f"{directory} needs its first stage {name!r} as it was (digest {digest[:12]}), and "
                                f"another one is in {' and '.join(map(str, found))}: fetch both together, or publish "
                                "this one again")
    raise FileNotFoundError(f"{directory} needs its first stage, the published checkpoint {name!r}, which is not at "
                            f"{_where(name, directory)}: put it there, or set {PLACE} to the folder that has it")


def _published(name: str, directory: Path) -> list[Path]:
    return [path for path in _candidates(name, directory) if is_published(path)]


def _candidates(name: str, directory: Path) -> list[Path]:
    # Beside the directory as it is called, and beside what a link or ".." leads to.
    folders = directory.absolute().parent, directory.resolve().parent, shipped_folder().absolute()
    return list(dict.fromkeys(folder / name for folder in folders))


def _where(name: str, directory: Path) -> str:
    return " or ".join(map(str, _candidates(name, directory)))
