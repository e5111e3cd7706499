"""The configuration under which diffusers builds a given `jaxgen.nn.unet.UNet`."""

from typing import Any

from jaxgen.interop.diffusers.unet_config import CONDITIONAL, DOWN_TYPES, KINDS, UNCONDITIONAL, UP_TYPES, crossed_levels
from jaxgen.interop.diffusers.unet_weights import Inputs
from jaxgen.nn.unet import LEVELS, UNet

MIDDLE_TYPES = {UNCONDITIONAL: "UNetMidBlock2D", CONDITIONAL: "UNetMidBlock2DCrossAttn"}


def unet_config(model: UNet, inputs: Inputs, sample_size: Any = None) -> dict[str, Any]:
    """What `config.json` must say.

    Args:
        model: the U-Net.
        inputs: the sizes with which its parameters were initialised.
        sample_size: height and width that its pipelines are to draw, a number or a pair.

    Raises:
        ValueError: diffusers has no such U-Net; names the attribute.
    """
    up = tuple(reversed(model.down)) if model.up is None else model.up
    crossed = crossed_levels(model.down, up, model.middle)
    name = CONDITIONAL if crossed else UNCONDITIONAL
    _check(model, up, name)
    out_channels = inputs.channels if model.out_channels is None else model.out_channels
    class_type = {"table": None, "time": "timestep" if inputs.classes else None, "features": "identity"}
    config = {
        "_class_name": name, "sample_size": sample_size,
        "in_channels": inputs.channels, "out_channels": out_channels, "block_out_channels": list(model.channels),
        "down_block_types": [_block_type(level, DOWN_TYPES) for level in model.down],
        "up_block_types": [_block_type(level, UP_TYPES) for level in up],
        "mid_block_type": None if model.middle == "none" else MIDDLE_TYPES[name],
        "layers_per_block": model.layers, "dropout": model.dropout, "act_fn": "silu",
        "downsample_padding": 1 if model.symmetric_downsample else 0, "mid_block_scale_factor": model.middle_scale,
        "norm_num_groups": model.norm_groups, "norm_eps": model.norm_epsilon,
        "resnet_time_scale_shift": "scale_shift" if model.scale_shift else "default",
        "time_embedding_type": {"sinusoidal": "positional", "fourier": "fourier"}[model.time_embedding],
        "flip_sin_to_cos": model.flip_sin_to_cos, "freq_shift": model.frequency_shift,
        "class_embed_type": class_type[model.class_embedding],
        "num_class_embeds": model.num_classes + 1 if model.class_embedding == "table" and model.num_classes else None,
    }
    if name == CONDITIONAL:
        return {
            **config, "cross_attention_dim": inputs.context, "use_linear_projection": model.linear_projection,
            "transformer_layers_per_block": model.transformer_layers,
            "attention_head_dim": _heads(model, up, crossed),
        }
    return {
        **config, "attention_head_dim": model.head_dim, "add_attention": model.middle == "attention",
        "attn_norm_num_groups": model.norm_groups if model.scale_shift and model.middle_norm else None,
        "downsample_type": _resample(model.down, "down"), "upsample_type": _resample(up, "up"),
    }


def _refuse(attribute: str, value: Any, why: str) -> ValueError:
    return ValueError(f"a UNet with {attribute}={value!r} cannot be saved for diffusers: {why}")


def _check(model, up, name) -> None:
    if model.patch_size != 1:
        raise _refuse("patch_size", model.patch_size, "its U-Nets fold no pixels into channels")
    if model.time_scale != 1:
        raise _refuse("time_scale", model.time_scale, "its U-Nets take the time as it is; scale it outside")
    if any(features % model.norm_groups for features in model.channels):
        raise _refuse("norm_groups", model.norm_groups, f"it must divide all channels {model.channels}")
    if model.middle == "attention" and not (model.middle_norm or model.scale_shift):
        raise _refuse("middle_norm", False, "its middle lacks the norm only with scale_shift=True")
    if name == UNCONDITIONAL:
        return
    if model.middle not in ("cross_attention", "none"):
        raise _refuse("middle", model.middle, "with cross_attention it has only 'cross_attention' or 'none'")
    if model.time_embedding != "sinusoidal":
        raise _refuse("time_embedding", model.time_embedding, "with cross_attention it has only 'sinusoidal'")
    for attribute, levels in (("down", model.down), ("up", up)):
        if "attention_resnet" in levels[:-1]:
            raise _refuse(attribute, levels, "with cross_attention it has no 'attention_resnet'")


def _block_type(level, types) -> str:
    kind = level.removesuffix("_resnet")
    return next(name for name in types if KINDS[name] == kind)


def _resample(levels, attribute) -> str:
    """How the levels of attention change the resolution; the last level does not."""
    kinds = {LEVELS[level].resample for level in levels[:-1] if LEVELS[level].attention == "pixels"}
    if len(kinds) > 1:
        raise _refuse(attribute, levels, "it has 'attention' or 'attention_resnet' levels, not both")
    return next(iter(kinds), "conv")


def _heads(model, up, crossed) -> list[int | None]:
    """The list "attention_head_dim", of which one entry can be needed twice: see `diffusers_config`."""
    heads = (model.heads,) * len(model.channels) if isinstance(model.heads, int) else model.heads
    entries: dict[int, int | None] = {i: heads[i] for i in crossed}
    for i in range(len(model.channels)):
        pixels = "pixels" in (LEVELS[model.down[i]].attention, LEVELS[up[i]].attention)
        if pixels and entries.setdefault(i, model.head_dim) != model.head_dim:
            why = f"next to the {entries[i]} heads of cross_attention it needs the same number on level {i}"
            raise _refuse("head_dim", model.head_dim, why)
    return [entries.get(i, 1) for i in range(len(model.channels))]
