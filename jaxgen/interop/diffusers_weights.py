"""The parameters of `jaxgen.models.unet.UNet` under the names and in the layouts of diffusers' state dict.

"down_blocks_0_resnets_1/conv1/kernel" [H, W, I, O] is "down_blocks.0.resnets.1.conv1.weight" [O, I, H, W]; a linear
layer's kernel [I, O] is a weight [O, I]; all else differs in name alone.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgen.models.unet import UNet

PyTree = Any
NUMBERED = "down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers|transformer_blocks|to_out"
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
# Attention of before diffusers 0.17, as published files still have it.
OLD_NAMES = {
    ".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn.", ".group_norm.": ".norm.",
}
# The axes of a kernel in the other layout, by its rank.
TO_TENSOR = {2: (1, 0), 4: (3, 2, 0, 1)}
TO_PARAM = {2: (1, 0), 4: (2, 3, 1, 0)}
SHOWN = 4


class Inputs(NamedTuple):
    """The sizes of a U-Net's parameters that its inputs decide."""

    channels: int
    context: int | None = None  # features of the context
    classes: bool = False  # whether the class embedding is a network, which only exists where classes are given


def tensor_name(path: tuple[str, ...]) -> str:
    """The state dict's name of a parameter, given its path in the tree."""
    name = ".".join((*path[:-1], LEAVES.get(path[-1], path[-1])))
    name = name.replace("ff_net_0_proj", "ff.net.0.proj").replace("ff_net_2", "ff.net.2")
    name = re.sub(rf"({NUMBERED})_(\d+)", r"\1.\2", name)
    return re.sub(r"(blocks\.\d+|mid_block)_", r"\1.", name)


def expected_params(model: UNet, inputs: Inputs) -> PyTree:
    """Shapes and dtypes of the model's parameters; no array is made."""
    size = 2 ** len(model.channels)
    x, time, context = (
        None if None in shape else jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((1, size, size, inputs.channels), (1,), (1, 1, inputs.context))
    )

    def init(key, x, time, context):
        return model.init(key, x, time, classes=time if inputs.classes else None, context=context)

    return jax.eval_shape(init, jax.random.key(0), x, time, context)["params"]


def inputs_of(params: PyTree, source: str) -> Inputs:
    """The sizes with which these parameters were initialised.

    Raises:
        ValueError: they are not a U-Net's.
    """
    if "conv_in" not in params:
        raise ValueError(f'{source} must be the tree variables["params"] of a UNet; it has {sorted(params)[:SHOWN]}')
    flat = traverse_util.flatten_dict(params)
    context = next((leaf.shape[0] for path, leaf in flat.items() if path[-3:] == ("attn2", "to_k", "kernel")), None)
    network = "linear_1" in params.get("class_embedding", {})
    return Inputs(params["conv_in"]["kernel"].shape[-2], context, network)


def to_params(tensors: Mapping[str, np.ndarray], expected: PyTree, source: str) -> PyTree:
    """The tree of parameters from a state dict, under today's names or those of old files.

    Args:
        tensors: {name: array}.
        expected: what `expected_params` gives.
        source: where the tensors are from, for the error.

    Returns:
        jax arrays of the expected dtypes, on the default device.

    Raises:
        ValueError: tensors are missing, left over or of the wrong shape; names them.
    """
    flat = traverse_util.flatten_dict(expected)
    wanted = {tensor_name(path): path for path in flat}
    found = {name: tensors[key] for name in wanted if (key := _key(name, tensors)) is not None}
    left_over = set(tensors) - {_key(name, tensors) for name in wanted}
    _check_fit({**found, **{name: tensors[name] for name in left_over}}, _shapes(expected), source)
    params = {path: jnp.asarray(_transposed(path, found[name], TO_PARAM), flat[path].dtype)
              for name, path in wanted.items()}
    return traverse_util.unflatten_dict(params)


def to_tensors(params: PyTree, expected: PyTree, source: str) -> dict[str, np.ndarray]:
    """The state dict of a tree of parameters: the inverse of `to_params`.

    Raises:
        ValueError: parameters are missing, left over or of the wrong shape; names them as the state dict does.
    """
    tensors = {
        tensor_name(path): _transposed(path, np.asarray(leaf), TO_TENSOR)
        for path, leaf in traverse_util.flatten_dict(params).items()
    }
    _check_fit(tensors, _shapes(expected), source)
    return tensors


def _transposed(path, array, axes):
    return array.transpose(axes[array.ndim]) if path[-1] == "kernel" else array


def _shapes(expected: PyTree) -> dict[str, list[int]]:
    """The shapes that the state dict's tensors must have."""
    shapes = {}
    for path, leaf in traverse_util.flatten_dict(expected).items():
        axes = TO_TENSOR[leaf.ndim] if path[-1] == "kernel" else range(leaf.ndim)
        shapes[tensor_name(path)] = [leaf.shape[axis] for axis in axes]
    return shapes


def _key(name: str, tensors: Mapping[str, Any]) -> str | None:
    """The name under which `tensors` has what is called `name` today."""
    if name in tensors:
        return name
    for new, old in OLD_NAMES.items():
        if name.replace(new, old) in tensors:
            return name.replace(new, old)
    return None


def _check_fit(tensors: Mapping[str, np.ndarray], shapes: dict[str, list[int]], source: str) -> None:
    missing = [f"{name} {shapes[name]}" for name in sorted(set(shapes) - set(tensors))]
    left_over = [f"{name} {list(tensors[name].shape)}" for name in sorted(set(tensors) - set(shapes))]
    wrong = [
        f"{name} (found {list(tensors[name].shape)}, wanted {shapes[name]})"
        for name in sorted(set(tensors) & set(shapes)) if list(tensors[name].shape) != shapes[name]
    ]
    problems = [
        f"{what}: {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        for what, names in (("missing", missing), ("unexpected", left_over), ("wrong shape", wrong)) if names
    ]
    if problems:
        raise ValueError(f"{source} does not fit the U-Net: {'; '.join(problems)}")
