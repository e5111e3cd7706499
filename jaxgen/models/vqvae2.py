"""VQ-VAE-2: two levels of codes (Razavi, van den Oord & Vinyals, "Generating Diverse High-Fidelity Images", 2019).

    h       = bottom_encoder(x)                         local features
    top     = quantize_top(top_encoder(h))              global codes at half the resolution
    bottom  = quantize_bottom(merge([h, top_decoder(top)]))
    x_r     = decoder([bottom, upsample(top)])
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.checks import check_count, check_floating
from jaxgen.core.types import Variables
from jaxgen.models.vqvae import check_reconstruction
from jaxgen.nn.blocks import Upsample
from jaxgen.nn.conv_layer import Conv
from jaxgen.quantize import Quantizer

LEVELS = ("top", "bottom")


class VQVAE2(NamedTuple):
    """A two-level VQ-VAE as pure functions; every per-level value is a dict with the keys "top" and "bottom"."""

    init: Callable  # (key, image_shape [H, W, C]) -> Variables
    forward: Callable  # (variables, x, *, train=False, key=None) -> (x_r, dict of QuantizeOutput, state)
    decode: Callable  # (params, dict of z_q) -> x_r [B, H, W, C]
    reconstruct: Callable  # (variables, x) -> x_r
    indices: Callable  # (variables, x) -> dict of int32 index maps
    decode_indices: Callable  # (variables, dict of index maps) -> x_r
    num_codes: dict[str, int]  # per index


def vqvae2(
    bottom_encoder: nn.Module,
    top_encoder: nn.Module,
    top_decoder: nn.Module,
    decoder: nn.Module,
    top_quantizer: Quantizer,
    bottom_quantizer: Quantizer,
    *,
    latent_channels: int = 64,
    dtype: Any = None,
) -> VQVAE2:
    """Joins four networks and two quantizers.

    Args:
        bottom_encoder: [B, H, W, C] -> [B, h, w, features].
        top_encoder: [B, h, w, features] -> [B, h / 2, w / 2, latent_channels].
        top_decoder: [B, h / 2, w / 2, latent_channels] -> [B, h, w, features].
        decoder: [B, h, w, 2 * latent_channels] -> [B, H, W, C].
        top_quantizer: quantizer of the coarse latents.
        bottom_quantizer: quantizer of the fine latents.
        latent_channels: dimension of both levels' vectors.
        dtype: computing dtype of the layers that join the levels; None for the parameters'.

    Returns:
        A `VQVAE2`. Its functions raise ValueError for images that are bytes and for latents that are whole numbers.
    """
    latent_channels = check_count("latent_channels", latent_channels)
    quantizers = {"top": top_quantizer, "bottom": bottom_quantizer}
    modules = {
        "bottom_encoder": bottom_encoder, "top_encoder": top_encoder, "top_decoder": top_decoder, "decoder": decoder,
        "merge": Conv(latent_channels, (1, 1), dtype=dtype), "upsample": Upsample(latent_channels, dtype=dtype),
    }

    def run(params, name, x):
        return modules[name].apply({"params": params[name]}, x).astype(jnp.float32)

    def init(key, image_shape):
        keys = iter(jax.random.split(key, len(modules) + len(quantizers)))
        params = {}

        def init_module(name, x):
            params[name] = modules[name].init(next(keys), x)["params"]
            return jnp.zeros(jax.eval_shape(lambda p: modules[name].apply({"params": p}, x), params[name]).shape)

        features = init_module("bottom_encoder", jnp.zeros((1, *image_shape)))
        top = init_module("top_encoder", features)
        if top.shape[-1] != latent_channels:
            raise ValueError(f"latent_channels={latent_channels}, but top_encoder returns {top.shape[-1]} channels; "
                             "make them equal")
        context = init_module("top_decoder", top)
        bottom = init_module("merge", jnp.concatenate([features, context], axis=-1))
        x_r = init_module("decoder", jnp.concatenate([bottom, init_module("upsample", top)], axis=-1))
        check_reconstruction(x_r.shape[1:], image_shape)
        variables = {level: quantizers[level].init(next(keys), latent_channels) for level in LEVELS}
        params["quantizer"] = {level: variables[level].params for level in LEVELS}
        return Variables(params, {level: variables[level].state for level in LEVELS})

    def quantize(variables, level, z_e, train, key):
        own = Variables(variables.params["quantizer"][level], variables.state[level])
        return quantizers[level].apply(own, z_e, train=train, key=key)

    def decode(params, z_q):
        for level in LEVELS:
            check_floating(f"z_q[{level!r}]", z_q[level])
        top = run(params, "upsample", z_q["top"])
        return run(params, "decoder", jnp.concatenate([z_q["bottom"], top], axis=-1))

    def codes(variables, x, *, train=False, key=None):
        check_floating("x", x)
        params = variables.params
        top_key, bottom_key = (None, None) if key is None else jax.random.split(key)
        features = run(params, "bottom_encoder", x)
        outputs, state = {}, {}
        outputs["top"], state["top"] = quantize(
            variables, "top", run(params, "top_encoder", features), train, top_key
        )
        context = run(params, "top_decoder", outputs["top"].quantized)
        z_e = run(params, "merge", jnp.concatenate([features, context], axis=-1))
        outputs["bottom"], state["bottom"] = quantize(variables, "bottom", z_e, train, bottom_key)
        return outputs, state

    def forward(variables, x, *, train=False, key=None):
        outputs, state = codes(variables, x, train=train, key=key)
        return decode(variables.params, {level: outputs[level].quantized for level in LEVELS}), outputs, state

    def reconstruct(variables, x):
        return forward(variables, x)[0]

    def indices(variables, x):
        outputs, _ = codes(variables, x)
        return {level: outputs[level].indices for level in LEVELS}

    def decode_indices(variables, indices):
        z_q = {
            level: quantizers[level].lookup(
                Variables(variables.params["quantizer"][level], variables.state[level]), indices[level]
            )
            for level in LEVELS
        }
        return decode(variables.params, z_q)

    num_codes = {level: quantizers[level].num_codes for level in LEVELS}
    return VQVAE2(init, forward, decode, reconstruct, indices, decode_indices, num_codes)
