"""The parameters of `jaxgen.nn.unet.UNet` under the names of diffusers' state dict.

"down_blocks_0_resnets_1/conv1/kernel" is "down_blocks.0.resnets.1.conv1.weight".
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util

from jaxgen.interop.state_dict import LEAVES, SHOWN, Layout
from jaxgen.nn.unet import UNet

PyTree = Any
NUMBERED = "down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers|transformer_blocks|to_out"
# Attention of before diffusers 0.17, as published files still have it.
OLD_NAMES = {
    ".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn.", ".group_norm.": ".norm.",
}


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


LAYOUT = Layout("the U-Net", tensor_name, OLD_NAMES)


def expected_params(model: UNet, inputs: Inputs) -> PyTree:
    """Shapes and dtypes of the model's parameters; no array is made."""
    up = None if model.up is None else tuple(model.up)
    kept = _traced(plain_network(model).clone(down=tuple(model.down), up=up), inputs)
    return jax.tree.map(lambda shape: shape, kept)  # a tree of the caller's own


def plain_network(network: Any) -> Any:
    """The same parameters, with dtypes that hash alike: `jnp.float32` and its dtype are equal but hash differently."""
    return network.clone(dtype=None, param_dtype=jnp.dtype(network.param_dtype))


@lru_cache(maxsize=16)
def _traced(model: UNet, inputs: Inputs) -> PyTree:
    """Kept for as many networks: tracing a large one takes seconds, each time that it is loaded or saved."""
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
