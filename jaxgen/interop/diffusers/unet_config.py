"""The `config.json` of diffusers' U-Nets as arguments of `jaxgen.nn.unet.UNet`."""

from collections.abc import Mapping
from typing import Any

from jaxgen.core.errors import unknown_name
from jaxgen.interop.diffusers.files import complete_entries, unsupported
from jaxgen.interop.diffusers.unet_weights import Inputs

UNCONDITIONAL, CONDITIONAL = "UNet2DModel", "UNet2DConditionModel"

SHARED_DEFAULTS = {
    "sample_size": None, "center_input_sample": False, "time_embedding_type": "positional", "time_embedding_dim": None,
    "freq_shift": 0, "flip_sin_to_cos": True, "layers_per_block": 2, "mid_block_scale_factor": 1,
    "downsample_padding": 1, "dropout": 0.0, "act_fn": "silu", "attention_head_dim": 8, "norm_num_groups": 32,
    "norm_eps": 1e-5, "resnet_time_scale_shift": "default", "class_embed_type": None, "num_class_embeds": None,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    UNCONDITIONAL: {
        **SHARED_DEFAULTS, "in_channels": 3, "out_channels": 3,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (224, 448, 672, 896), "downsample_type": "conv", "upsample_type": "conv",
        "attn_norm_num_groups": None, "add_attention": True, "num_train_timesteps": None,
    },
    CONDITIONAL: {
        **SHARED_DEFAULTS, "in_channels": 4, "out_channels": 4,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "block_out_channels": (320, 640, 1280, 1280), "only_cross_attention": False, "cross_attention_dim": 1280,
        "transformer_layers_per_block": 1, "reverse_transformer_layers_per_block": None, "encoder_hid_dim": None,
        "encoder_hid_dim_type": None, "num_attention_heads": None, "dual_cross_attention": False,
        "use_linear_projection": False, "addition_embed_type": None, "addition_time_embed_dim": None,
        "upcast_attention": False, "resnet_skip_time_act": False, "resnet_out_scale_factor": 1.0,
        "time_embedding_act_fn": None, "timestep_post_act": None, "time_cond_proj_dim": None, "conv_in_kernel": 3,
        "conv_out_kernel": 3, "projection_class_embeddings_input_dim": None, "attention_type": "default",
        "class_embeddings_concat": False, "mid_block_only_cross_attention": None, "cross_attention_norm": None,
        "addition_embed_type_num_heads": 64,
    },
}
"""What an entry that is not in a `config.json` means."""

SHARED_VALUES = {
    "act_fn": ("silu", "swish"), "center_input_sample": (False,), "class_embed_type": (None, "timestep", "identity"),
    "downsample_padding": (0, 1), "resnet_time_scale_shift": ("default", "scale_shift"),
}
VALUES: dict[str, dict[str, tuple]] = {
    UNCONDITIONAL: {
        **SHARED_VALUES, "time_embedding_type": ("positional", "fourier"), "mid_block_type": ("UNetMidBlock2D", None),
        "downsample_type": ("conv", "resnet"), "upsample_type": ("conv", "resnet"),
    },
    CONDITIONAL: {
        **SHARED_VALUES, "time_embedding_type": ("positional",), "mid_block_type": ("UNetMidBlock2DCrossAttn", None),
        "addition_embed_type": (None,), "attention_type": ("default",), "class_embeddings_concat": (False,),
        "conv_in_kernel": (3,), "conv_out_kernel": (3,), "cross_attention_norm": (None,),
        "dual_cross_attention": (False,), "encoder_hid_dim": (None,), "encoder_hid_dim_type": (None,),
        "mid_block_only_cross_attention": (None, False), "num_attention_heads": (None,),
        "only_cross_attention": (False,), "resnet_out_scale_factor": (1,), "resnet_skip_time_act": (False,),
        "reverse_transformer_layers_per_block": (None,), "time_cond_proj_dim": (None,),
        "time_embedding_act_fn": (None,), "timestep_post_act": (None,),
    },
}
"""The values that the U-Net can honour, of the entries where it cannot honour all."""

KINDS = {
    "DownBlock2D": "plain", "ResnetDownsampleBlock2D": "resnet", "AttnDownBlock2D": "attention",
    "CrossAttnDownBlock2D": "cross_attention",
    "UpBlock2D": "plain", "ResnetUpsampleBlock2D": "resnet", "AttnUpBlock2D": "attention",
    "CrossAttnUpBlock2D": "cross_attention",
}
DOWN_TYPES, UP_TYPES = tuple(KINDS)[:4], tuple(KINDS)[4:]


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A U-Net's configuration with the entries that its file leaves to diffusers' defaults.

    Raises:
        ValueError: it is of another class, or has an entry that is unknown or that the U-Net cannot honour.
    """
    return complete_entries(config, DEFAULTS, VALUES, "UNet")


def unet_arguments(config: Mapping[str, Any]) -> tuple[dict[str, Any], Inputs]:
    """Arguments of `UNet`, and the sizes of its inputs.

    Args:
        config: what `complete` gives.

    Raises:
        ValueError: the entries do not fit each other, or the U-Net cannot honour them.
    """
    name = config["_class_name"]
    channels = tuple(config["block_out_channels"])
    down = _levels(config, "down_block_types", DOWN_TYPES, config.get("downsample_type", "conv"))
    up = _levels(config, "up_block_types", UP_TYPES, config.get("upsample_type", "conv"))
    if not len(channels) == len(down) == len(up):
        raise ValueError(
            f"block_out_channels {channels}, down_block_types {down} and up_block_types {up} must have the same length"
        )
    groups, shift = config["norm_num_groups"], config["resnet_time_scale_shift"]
    if groups is None or any(features % groups for features in channels):
        raise _unsupported(name, "norm_num_groups", groups, f"a divisor of all channels {channels}")
    if config["time_embedding_dim"] not in (None, 4 * channels[0]):
        wanted = f"None or 4 * block_out_channels[0] = {4 * channels[0]}"
        raise _unsupported(name, "time_embedding_dim", config["time_embedding_dim"], wanted)
    middle = "none"
    if config["mid_block_type"] is not None:
        middle = "cross_attention" if name == CONDITIONAL else "attention" if config["add_attention"] else "plain"
    own_groups = config.get("attn_norm_num_groups")
    if middle == "attention" and own_groups not in (None, groups):
        raise _unsupported(name, "attn_norm_num_groups", own_groups, f"None or norm_num_groups = {groups}")
    crossed = crossed_levels(down, up, middle)
    head_dim, heads = _heads(config, down, up, crossed)
    kind, classes = config["class_embed_type"], config["num_class_embeds"]
    table = kind is None and classes is not None
    if table and classes < 2:
        raise _unsupported(name, "num_class_embeds", classes, "2 or more")
    arguments = {
        "out_channels": config["out_channels"], "channels": channels, "down": down, "up": up, "middle": middle,
        "layers": _same(config, "layers_per_block", range(len(channels))),
        "head_dim": head_dim, "heads": heads,
        "transformer_layers": _same(config, "transformer_layers_per_block", crossed) if crossed else 1,
        "linear_projection": config.get("use_linear_projection", False),
        "num_classes": classes - 1 if table else 0,
        "class_embedding": {None: "table", "timestep": "time", "identity": "features"}[kind],
        "time_embedding": {"positional": "sinusoidal", "fourier": "fourier"}[config["time_embedding_type"]],
        "flip_sin_to_cos": config["flip_sin_to_cos"], "frequency_shift": config["freq_shift"],
        "scale_shift": shift == "scale_shift",
        "symmetric_downsample": config["downsample_padding"] == 1,
        "middle_scale": config["mid_block_scale_factor"],
        "middle_norm": own_groups is not None or shift == "default",
        "norm_groups": groups, "norm_epsilon": config["norm_eps"], "dropout": config["dropout"],
    }
    context = _same(config, "cross_attention_dim", crossed) if crossed else None
    return arguments, Inputs(config["in_channels"], context, kind == "timestep")


def crossed_levels(down, up, middle) -> list[int]:
    """The levels that attend to a context, on either way or in the middle, counted from high resolution."""
    kinds = zip(down, reversed(up), [*("none",) * (len(down) - 1), middle])
    return [i for i, level in enumerate(kinds) if "cross_attention" in level]


def _unsupported(name: str, entry: str, value: Any, wanted: str) -> ValueError:
    return unsupported(name, entry, value, "UNet", wanted)


def _levels(config, entry, types, resample) -> tuple[str, ...]:
    name = config["_class_name"]
    allowed = [kind for kind in types if name == CONDITIONAL or KINDS[kind] != "cross_attention"]
    levels = []
    for block in config[entry]:
        kind = block.removeprefix("UNetRes")  # of the first versions
        if kind not in allowed:
            raise unknown_name(f"entry of {entry} in {name}", block, allowed)
        levels.append(KINDS[kind] + "_resnet" * (KINDS[kind] == "attention" and resample == "resnet"))
    return tuple(levels)


def _per_level(config, entry) -> tuple:
    value, levels = config[entry], len(config["block_out_channels"])
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * levels
    if len(values) != levels:
        raise ValueError(f"{entry}={value!r} must be one value or one per level, of which there are {levels}")
    return values


def _same(config, entry, used) -> Any:
    """The one value that the levels in `used` have."""
    values = [_per_level(config, entry)[i] for i in used]
    if not isinstance(values[0], int) or any(value != values[0] for value in values):
        raise _unsupported(config["_class_name"], entry, config[entry], "the same whole number on every level")
    return values[0]


def _heads(config, down, up, crossed) -> tuple[int | None, tuple[int, ...]]:
    """(head_dim, heads) from "attention_head_dim".

    It is the channels per head in the blocks of attention among pixels (null for a single head), but the number of
    heads in those of attention to a context. Lists run from high to low resolution, for all but one case: diffusers
    does not reverse them for attention among pixels on the way up.
    """
    entry, name = "attention_head_dim", config["_class_name"]
    if name == UNCONDITIONAL:
        if not isinstance(config[entry], int | None):
            raise _unsupported(name, entry, config[entry], "a number or None")
        return config[entry], (1,) * len(down)
    values = _per_level(config, entry)
    if not all(isinstance(values[i], int) for i in crossed):
        raise _unsupported(name, entry, config[entry], "the number of heads of each level with cross-attention")
    sizes = {values[i] for levels in (down, up) for i, kind in enumerate(levels) if kind == "attention"}
    if len(sizes) > 1:
        raise _unsupported(name, entry, config[entry], "one value for all levels of AttnDownBlock2D and AttnUpBlock2D")
    return next(iter(sizes), None), tuple(value if i in crossed else 1 for i, value in enumerate(values))
