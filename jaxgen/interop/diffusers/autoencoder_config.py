"""The `config.json` of diffusers' VQModel and AutoencoderKL as arguments of `Encoder` and `Decoder`, and back."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jaxgen.core.errors import unknown_name
from jaxgen.interop.diffusers.files import complete_entries, unsupported
from jaxgen.models.base import Tokenizer
from jaxgen.models.kl_autoencoder import KLAutoencoder
from jaxgen.models.vqvae import VQVAE
from jaxgen.nn.autoencoder import Decoder, Encoder

VQ, KL = "VQModel", "AutoencoderKL"

SHARED_DEFAULTS = {
    "in_channels": 3, "out_channels": 3, "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",), "block_out_channels": (64,), "layers_per_block": 1, "act_fn": "silu",
    "sample_size": 32, "norm_num_groups": 32, "scaling_factor": 0.18215, "mid_block_add_attention": True,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    VQ: {
        **SHARED_DEFAULTS, "latent_channels": 3, "num_vq_embeddings": 256, "vq_embed_dim": None, "norm_type": "group",
        "lookup_from_codebook": False, "force_upcast": False,
    },
    KL: {
        **SHARED_DEFAULTS, "latent_channels": 4, "shift_factor": None, "latents_mean": None, "latents_std": None,
        "force_upcast": True, "use_quant_conv": True, "use_post_quant_conv": True,
    },
}
"""What an entry that is not in a `config.json` means."""

VALUES: dict[str, dict[str, tuple]] = {
    VQ: {"act_fn": ("silu", "swish"), "norm_type": ("group",)},
    KL: {"act_fn": ("silu", "swish"), "latents_mean": (None,), "latents_std": (None,)},
}
"""The values that can be honoured, of the entries where not all can."""

DOWN_TYPES = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")  # without and with attention
UP_TYPES = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the entries that its file leaves to diffusers' defaults.

    Raises:
        ValueError: it is of another class, or has an entry that is unknown or cannot be honoured.
    """
    config = complete_entries(config, DEFAULTS, VALUES, "autoencoder")
    name, channels = config["_class_name"], tuple(config["block_out_channels"])
    lengths = {entry: len(config[entry]) for entry in ("block_out_channels", "down_block_types", "up_block_types")}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"the lists of {name} must have the same length, one entry per level; got {lengths}")
    if config["in_channels"] != config["out_channels"]:
        raise unsupported(name, "out_channels", config["out_channels"], "autoencoder",
                          f"in_channels = {config['in_channels']}")
    groups = config["norm_num_groups"]
    if groups is None or any(features % groups for features in channels):
        raise unsupported(name, "norm_num_groups", groups, "autoencoder", f"a divisor of all channels {channels}")
    if not isinstance(config["layers_per_block"], int):
        raise unsupported(name, "layers_per_block", config["layers_per_block"], "autoencoder", "one number")
    return config


def encoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Encoder`, from what `complete` gives.

    Raises:
        ValueError: an unknown type of block.
    """
    latents = config["latent_channels"]
    if config["_class_name"] == VQ:
        embedding = latents if config["vq_embed_dim"] is None else config["vq_embed_dim"]
        sizes = {"latent_channels": embedding, "z_channels": latents}
    else:
        sizes = {"latent_channels": 2 * latents, "z_channels": 2 * latents if config["use_quant_conv"] else None}
    levels = _attention_levels(config, "down_block_types", DOWN_TYPES)
    return {**sizes, **_shared(config), "num_res_blocks": config["layers_per_block"], "attention_levels": levels}


def decoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Decoder`, from what `complete` gives.

    Raises:
        ValueError: an unknown type of block.
    """
    with_convolution = config["_class_name"] == VQ or config["use_post_quant_conv"]
    last = len(config["up_block_types"]) - 1
    levels = tuple(sorted(last - level for level in _attention_levels(config, "up_block_types", UP_TYPES)))
    return {
        "image_channels": config["out_channels"], "z_channels": config["latent_channels"] if with_convolution else None,
        **_shared(config), "num_res_blocks": config["layers_per_block"] + 1, "attention_levels": levels,
    }


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    channels, multipliers = split_widths(config["block_out_channels"])
    return {"channels": channels, "multipliers": multipliers, "norm_groups": config["norm_num_groups"],
            "middle_attention": config["mid_block_add_attention"]}


def split_widths(widths) -> tuple[int, tuple[int, ...]]:
    """The features of each level as (channels, multipliers)."""
    widths = tuple(widths)
    channels = math.gcd(*widths)
    return channels, tuple(width // channels for width in widths)


def _attention_levels(config: Mapping[str, Any], entry: str, types: tuple[str, str]) -> tuple[int, ...]:
    for block in config[entry]:
        if block not in types:
            raise unknown_name(f"entry of {entry} in {config['_class_name']}", block, types)
    return tuple(level for level, block in enumerate(config[entry]) if block == types[1])


def saved_config(model: VQVAE | KLAutoencoder, channels: int, sample_size: int) -> dict[str, Any]:
    """What `config.json` must say.

    Args:
        model: the autoencoder.
        channels: of its images.
        sample_size: height and width of its images.

    Raises:
        ValueError: diffusers has no such autoencoder; names the attribute.
    """
    encoder, decoder = model.encoder, model.decoder
    _check(encoder, decoder)
    kl = not isinstance(model, Tokenizer)
    latents = _latents(encoder, decoder, kl)
    levels = range(len(encoder.multipliers))
    config = {
        "_class_name": KL if kl else VQ, "in_channels": channels, "out_channels": decoder.image_channels,
        "block_out_channels": [encoder.channels * multiplier for multiplier in encoder.multipliers],
        "down_block_types": [DOWN_TYPES[level in encoder.attention_levels] for level in levels],
        "up_block_types": [UP_TYPES[level in decoder.attention_levels] for level in reversed(levels)],
        "layers_per_block": encoder.num_res_blocks, "act_fn": "silu", "latent_channels": latents,
        "norm_num_groups": encoder.norm_groups, "sample_size": sample_size,
        "mid_block_add_attention": encoder.middle_attention,
    }
    if kl:
        return {**config, "scaling_factor": model.scale, "shift_factor": model.shift or None,
                "use_quant_conv": encoder.z_channels is not None,
                "use_post_quant_conv": decoder.z_channels is not None}
    return {**config, "num_vq_embeddings": model.num_codes, "vq_embed_dim": encoder.latent_channels,
            "scaling_factor": 1.0}


def with_convolutions(model: VQVAE, params: Mapping[str, Any]) -> tuple[VQVAE, dict[str, Any]]:
    """The same model and parameters with a 1x1 convolution on both sides of the latents: an identity where none was."""
    encoder, decoder, dim = model.encoder, model.decoder, model.encoder.latent_channels
    identity = {"kernel": jnp.eye(dim)[None, None], "bias": jnp.zeros(dim)}
    params = dict(params)
    if encoder.z_channels is None:
        encoder, params["encoder"] = encoder.clone(z_channels=dim), {**params["encoder"], "quant_conv": identity}
    if decoder.z_channels is None:
        decoder, params["decoder"] = decoder.clone(z_channels=dim), {**params["decoder"], "post_quant_conv": identity}
    return replace(model, encoder=encoder, decoder=decoder), params


def _refuse(attribute: str, value: Any, why: str) -> ValueError:
    return ValueError(f"an autoencoder with {attribute}={value!r} cannot be saved for diffusers: {why}")


def _check(encoder: Encoder, decoder: Decoder) -> None:
    for side, module, kind in (("encoder", encoder, Encoder), ("decoder", decoder, Decoder)):
        if not isinstance(module, kind):
            raise _refuse(side, type(module).__name__, f"it must be a jaxgen.nn.{kind.__name__}")
        for attribute, wanted in (("patch_size", 1), ("norm", "group"), ("heads", 1)):
            if getattr(module, attribute) != wanted:
                raise _refuse(f"{side}.{attribute}", getattr(module, attribute), f"it has only {wanted!r}")
    for attribute in ("channels", "multipliers", "norm_groups", "middle_attention"):
        ours = getattr(decoder, attribute)
        if ours != getattr(encoder, attribute):
            raise _refuse(f"decoder.{attribute}", ours, f"the encoder's is {getattr(encoder, attribute)!r}")
    if decoder.num_res_blocks != encoder.num_res_blocks + 1:
        why = f"it has one more than the encoder, whose is {encoder.num_res_blocks}"
        raise _refuse("decoder.num_res_blocks", decoder.num_res_blocks, why)
    widths = tuple(encoder.channels * multiplier for multiplier in encoder.multipliers)
    if any(width % encoder.norm_groups for width in widths):
        raise _refuse("norm_groups", encoder.norm_groups, f"it must divide all channels {widths}")


def _latents(encoder: Encoder, decoder: Decoder, kl: bool) -> int:
    """The entry "latent_channels": the channels next to the 3x3 convolutions on both sides of the latents."""
    outer, inner = encoder.z_channels or encoder.latent_channels, encoder.latent_channels
    if kl and outer != inner:
        raise _refuse("encoder.z_channels", outer, f"it is None or latent_channels = {inner}")
    latents, taken = (inner // 2, inner // 2) if kl else (outer, inner)
    if (decoder.z_channels or taken) != latents:
        raise _refuse("decoder.z_channels", decoder.z_channels, f"it must be the encoder's, {latents}")
    return latents
