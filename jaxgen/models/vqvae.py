"""VQ-VAE (van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017).

z_e = encode(x);  z_q = quantize(z_e);  x_r = decode(z_q). A model is a tuple of pure functions over explicit
variables; the networks hold parameters and nothing else.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.checks import check_floating
from jaxgen.core.types import Variables
from jaxgen.quantize import Quantizer


class VQVAE(NamedTuple):
    """A VQ-VAE as pure functions; `variables` is `Variables(params, state)`.

    `params` holds "encoder", "decoder" and "quantizer"; `state` is the quantizer's (EMA sums and usage).
    """

    init: Callable  # (key, image_shape [H, W, C]) -> Variables
    encode: Callable  # (params, x [B, H, W, C]) -> z_e [B, h, w, D]
    quantize: Callable  # (variables, z_e, *, train=False, key=None) -> (QuantizeOutput, state)
    decode: Callable  # (params, z_q [B, h, w, D]) -> x_r [B, H, W, C]
    forward: Callable  # (variables, x, *, train=False, key=None) -> (x_r, QuantizeOutput, state)
    reconstruct: Callable  # (variables, x) -> x_r
    indices: Callable  # (variables, x) -> [B, h, w] int32, or [B, h, w, depth]
    decode_indices: Callable  # (variables, indices) -> x_r
    num_codes: int  # per index
    encoder: nn.Module  # what the functions above are made of: encoder, decoder, quantizer
    decoder: nn.Module
    quantizer: Quantizer


def vqvae(encoder: nn.Module, decoder: nn.Module, quantizer: Quantizer) -> VQVAE:
    """Joins an encoder, a quantizer and a decoder.

    Args:
        encoder: Linen module, [B, H, W, C] -> [B, h, w, D].
        decoder: Linen module, [B, h, w, D] -> [B, H, W, C].
        quantizer: any of `jaxgen.quantize`, of dimension D (set at init from the encoder's output).

    Returns:
        A `VQVAE`. Latents go to the quantizer in float32, whatever the networks compute in. Its functions raise
        ValueError for images that are bytes and for latents that are whole numbers, such as indices.
    """

    def init(key, image_shape):
        encoder_key, decoder_key, quantizer_key = jax.random.split(key, 3)
        image = jnp.zeros((1, *image_shape))
        encoder_params = encoder.init(encoder_key, image)["params"]
        z_e = jax.eval_shape(lambda p: encoder.apply({"params": p}, image), encoder_params)
        decoder_params = decoder.init(decoder_key, jnp.zeros(z_e.shape))["params"]
        x_r = jax.eval_shape(lambda p: decoder.apply({"params": p}, jnp.zeros(z_e.shape)), decoder_params)
        check_reconstruction(x_r.shape[1:], image_shape)
        quantizer_params, state = quantizer.init(quantizer_key, z_e.shape[-1])
        params = {"encoder": encoder_params, "decoder": decoder_params, "quantizer": quantizer_params}
        return Variables(params, state)

    def encode(params, x):
        check_floating("x", x)
        return encoder.apply({"params": params["encoder"]}, x).astype(jnp.float32)

    def quantize(variables, z_e, *, train=False, key=None):
        return quantizer.apply(_quantizer_variables(variables), z_e, train=train, key=key)

    def decode(params, z_q):
        check_floating("z_q", z_q)
        return decoder.apply({"params": params["decoder"]}, z_q).astype(jnp.float32)

    def forward(variables, x, *, train=False, key=None):
        output, state = quantize(variables, encode(variables.params, x), train=train, key=key)
        return decode(variables.params, output.quantized), output, state

    def reconstruct(variables, x):
        return forward(variables, x)[0]

    def indices(variables, x):
        return quantize(variables, encode(variables.params, x))[0].indices

    def decode_indices(variables, codes):
        return decode(variables.params, quantizer.lookup(_quantizer_variables(variables), codes))

    return VQVAE(init, encode, quantize, decode, forward, reconstruct, indices, decode_indices,
                 quantizer.num_codes, encoder, decoder, quantizer)


def check_reconstruction(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the decoder gives back the shape that the encoder was given."""
    if tuple(shape) != tuple(image_shape):
        raise ValueError(
            f"image_shape {tuple(image_shape)} comes back from the decoder as {tuple(shape)}: use the same "
            "channels and a height and width that the encoder's total reduction, patch_size * 2^(levels - 1), divides"
        )


def _quantizer_variables(variables: Variables) -> Variables:
    return Variables(variables.params["quantizer"], variables.state)

