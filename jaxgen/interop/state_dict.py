"""Trees of parameters under the names and in the layouts of another library's state dict.

A convolution's kernel [H, W, I, O] is a weight [O, I, H, W] there, a linear layer's [I, O] is [O, I], and all else
differs in name only.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

PyTree = Any
Path = tuple[str, ...]
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
# The axes of a kernel in the other layout, by its rank.
TO_TENSOR = {2: (1, 0), 4: (3, 2, 0, 1)}
TO_PARAM = {2: (1, 0), 4: (2, 3, 1, 0)}
SHOWN = 4


class Layout(NamedTuple):
    """How another library writes a network."""

    network: str  # what errors call it, for example "the U-Net"
    name: Callable[[Path], str]  # a parameter's path in the tree to its name
    old_names: Mapping[str, str]  # parts of names: today's, and what older files have in its place
    pointwise: Callable[[Path], bool] = lambda path: False  # whether a kernel [I, O] is a weight [O, I, 1, 1] there


def to_params(tensors: Mapping[str, np.ndarray], expected: PyTree, source: str, layout: Layout) -> PyTree:
    """The tree of parameters from a state dict, under today's names or those of old files.

    Args:
        tensors: {name: array}.
        expected: the tree of shapes and dtypes.
        source: where the tensors are from, for the error.
        layout: of the tensors.

    Returns:
        jax arrays of the expected dtypes, on the default device.

    Raises:
        ValueError: tensors are missing, left over, of the wrong shape or not of floating point; names them.
    """
    flat = traverse_util.flatten_dict(expected)
    wanted = {layout.name(path): path for path in flat}
    keys = {name: _key(name, tensors, layout) for name in wanted}
    present = {name: tensors[key] for name, key in keys.items() if key is not None}
    left_over = {name: tensors[name] for name in set(tensors) - set(keys.values())}
    check_fit({**present, **left_over}, _shapes(flat, layout), source, layout.network)
    params = {path: jnp.asarray(_to_param(path, present[name], flat[path].ndim), flat[path].dtype)
              for name, path in wanted.items()}
    return traverse_util.unflatten_dict(params)


def to_tensors(params: PyTree, expected: PyTree, source: str, layout: Layout) -> dict[str, np.ndarray]:
    """The state dict of a tree of parameters: the inverse of `to_params`.

    Raises:
        ValueError: parameters are missing, left over or of the wrong shape; names them as the state dict does.
    """
    tensors = {
        layout.name(path): np.asarray(leaf).transpose(_axes(path, leaf.ndim)).reshape(_shape(path, leaf, layout))
        for path, leaf in traverse_util.flatten_dict(params).items()
    }
    check_fit(tensors, _shapes(traverse_util.flatten_dict(expected), layout), source, layout.network)
    return tensors


def check_fit(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]], source: str, network: str
) -> None:
    """Compares names, shapes and kinds of numbers.

    Args:
        tensors: {name: array}.
        shapes: {name: shape} of what is needed, all of it and nothing else.
        source: where the tensors are from, for the error.
        network: what they are for, for the error.

    Raises:
        ValueError: tensors are missing, left over, of the wrong shape (with both) or not of floating point; names them.
    """
    missing = [f"{name} {list(shapes[name])}" for name in sorted(set(shapes) - set(tensors))]
    left_over = [f"{name} {list(tensors[name].shape)}" for name in sorted(set(tensors) - set(shapes))]
    wrong = [
        f"{name} (found {list(tensors[name].shape)}, wanted {list(shapes[name])})"
        for name in sorted(set(tensors) & set(shapes)) if list(tensors[name].shape) != list(shapes[name])
    ]
    other = [f"{name} ({tensor.dtype})" for name, tensor in sorted(tensors.items())
             if name in shapes and not jnp.issubdtype(tensor.dtype, jnp.floating)]
    problems = [
        f"{what}: {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        for what, names in (("missing", missing), ("unexpected", left_over), ("wrong shape", wrong),
                            ("not floating point", other)) if names
    ]
    if problems:
        raise ValueError(f"{source} does not fit {network}: {'; '.join(problems)}")


def _axes(path: Path, rank: int) -> tuple[int, ...]:
    return TO_TENSOR[rank] if path[-1] == "kernel" else tuple(range(rank))


def _to_param(path: Path, tensor: np.ndarray, rank: int) -> np.ndarray:
    tensor = tensor.reshape(tensor.shape[:rank])
    return tensor.transpose(TO_PARAM[rank]) if path[-1] == "kernel" else tensor


def _shape(path: Path, leaf: Any, layout: Layout) -> list[int]:
    """The shape of a parameter's tensor."""
    pointwise = path[-1] == "kernel" and leaf.ndim == 2 and layout.pointwise(path)
    return [leaf.shape[axis] for axis in _axes(path, leaf.ndim)] + [1, 1] * pointwise


def _shapes(flat: Mapping[Path, Any], layout: Layout) -> dict[str, list[int]]:
    return {layout.name(path): _shape(path, leaf, layout) for path, leaf in flat.items()}


def _key(name: str, tensors: Mapping[str, Any], layout: Layout) -> str | None:
    """The name under which `tensors` has what is called `name` today."""
    if name in tensors:
        return name
    for new, old in layout.old_names.items():
        if name.replace(new, old) in tensors:
            return name.replace(new, old)
    return None
