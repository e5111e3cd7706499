"""Variational autoencoder whose latents a diffusion model works on (Kingma & Welling, 2013; Rombach et al., 2022).

    N(mean, exp(logvar)) = encode(x);  z = (mean + exp(logvar / 2) eps - shift) scale;  x_r = decode(z)

`scale` and `shift` bring the latents to mean 0 and deviation 1. They are the model's affair: what `sample` and `mode`
give and `decode` takes is scaled, so that no caller can forget it. The Gaussian itself, and so its KL divergence, is
that of the unscaled latents.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.checks import check_finite, check_floating
from jaxgen.core.keys import numbered
from jaxgen.core.types import Variables
from jaxgen.losses import Gaussian
from jaxgen.models.vqvae import check_reconstruction

LOGVAR_RANGE = (-30.0, 20.0)  # of the published models: exp() and its gradient stay finite


class KLAutoencoder(NamedTuple):
    """A KL autoencoder as pure functions; `params` holds "encoder" and "decoder", the state is {}."""

    init: Callable  # (key, image_shape [H, W, C]) -> Variables
    encode: Callable  # (params, x [B, H, W, C]) -> Gaussian, [B, h, w, D] each, of the unscaled latents
    sample: Callable  # (key, Gaussian, *, sample_ids=None) -> z [B, h, w, D]; example i draws from fold_in(key, id)
    mode: Callable  # (Gaussian) -> z, without a draw
    decode: Callable  # (params, z [B, h, w, D]) -> x_r [B, H, W, C]
    forward: Callable  # (variables, x, *, key=None, sample_ids=None) -> (x_r, Gaussian); without a key from the mode
    reconstruct: Callable  # (variables, x) -> x_r from the mode
    scale: float
    shift: float
    encoder: nn.Module  # what the functions above are made of
    decoder: nn.Module


def kl_autoencoder(
    encoder: nn.Module, decoder: nn.Module, *, scale: float = 1.0, shift: float = 0.0
) -> KLAutoencoder:
    """Joins an encoder and a decoder.

    Args:
        encoder: Linen module, [B, H, W, C] -> [B, h, w, 2 * D]: means, then logarithms of variances, which are
            clipped to [-30, 20].
        decoder: Linen module, [B, h, w, D] -> [B, H, W, C].
        scale: factor of the latents, one over their deviation (0.18215 in Stable Diffusion).
        shift: mean of the latents, taken off before they are scaled.

    Returns:
        A `KLAutoencoder`, whose loss is `jaxgen.losses.gaussian_kl`. Latents are float32, whatever the networks
        compute in. Its functions raise ValueError for images that are bytes and for latents that are whole numbers.

    Raises:
        ValueError: `scale` is not above 0, or it or `shift` is not finite; at init, an encoder with an odd number of
            channels, or pictures that the decoder does not give back in their shape.
    """
    check_finite("scale", scale)
    check_finite("shift", shift)
    if not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale}: it is one over the latents' deviation")

    def init(key, image_shape):
        encoder_key, decoder_key = jax.random.split(key)
        image = jnp.zeros((1, *image_shape))
        params = {"encoder": encoder.init(encoder_key, image)["params"]}
        moments = jax.eval_shape(lambda p: encoder.apply({"params": p}, image), params["encoder"])
        if moments.shape[-1] % 2:
            raise ValueError(f"the encoder must give a mean and a logvar for each latent channel, an even number of "
                             f"channels; got {moments.shape[-1]}")
        z = jnp.zeros((*moments.shape[:-1], moments.shape[-1] // 2))
        params["decoder"] = decoder.init(decoder_key, z)["params"]
        x_r = jax.eval_shape(lambda p: decoder.apply({"params": p}, z), params["decoder"])
        check_reconstruction(x_r.shape[1:], image_shape)
        return Variables(params, {})

    def encode(params, x):
        check_floating("x", x)
        moments = encoder.apply({"params": params["encoder"]}, x).astype(jnp.float32)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return Gaussian(mean, jnp.clip(logvar, *LOGVAR_RANGE))

    def sample(key, gaussian, *, sample_ids=None):
        ids = numbered(sample_ids, gaussian.mean.shape[0])
        shape = gaussian.mean.shape[1:]
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), shape))(ids)
        return (gaussian.mean + jnp.exp(gaussian.logvar / 2) * noise - shift) * scale

    def mode(gaussian):
        return (gaussian.mean - shift) * scale

    def decode(params, z):
        check_floating("z", z)
        return decoder.apply({"params": params["decoder"]}, z / scale + shift).astype(jnp.float32)

    def forward(variables, x, *, key=None, sample_ids=None):
        gaussian = encode(variables.params, x)
        z = mode(gaussian) if key is None else sample(key, gaussian, sample_ids=sample_ids)
        return decode(variables.params, z), gaussian

    def reconstruct(variables, x):
        return forward(variables, x)[0]

    return KLAutoencoder(init, encode, sample, mode, decode, forward, reconstruct, scale, shift, encoder, decoder)
