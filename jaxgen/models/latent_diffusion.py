"""Diffusion in the latent space of a trained autoencoder (Rombach et al., "High-resolution image synthesis with latent
diffusion models", 2022), as a tuple of pure functions.

    z = latents(x) = encoder(x) / deviation;    x = pictures(z) = decoder(deviation z)

Of a VQ-VAE the latents are the encoder's outputs, and decoding quantizes them first; of a KL autoencoder they are draws
of the posterior. `deviation` is the latents' measured standard deviation, one number, so that noise levels mean what
they mean for data of deviation 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxgen.core.checks import check_counts, check_floating
from jaxgen.core.types import Variables
from jaxgen.diffusion import Schedule
from jaxgen.models.diffusion import DiffusionModel
from jaxgen.models.kl_autoencoder import KLAutoencoder
from jaxgen.models.vqvae import VQVAE


class LatentDiffusion(NamedTuple):
    """A `DiffusionModel` of latents, and the way from pictures to latents and back.

    Variables(params, state): `params` are the diffusion model's; `state` is {"autoencoder": the autoencoder's own
    Variables, "deviation": []}, so that a checkpoint is all that sampling needs.
    """

    init: Callable  # (key, image_shape [H, W, C]) -> Variables(params, state), of deviation 1
    denoise: Callable  # (params, z [B, h, w, D], sigma [] or [B], cond=None, *, key=None) -> z0_hat; a key: dropout
    encode: Callable  # (params, cond) -> cond whose text is encoded, for many calls of `denoise`
    null: Callable  # (count) -> cond that stands for "no condition"
    schedule: Schedule | None  # None for kind "edm"
    num_classes: int
    text_length: int  # bytes; 0 without text
    latents: Callable  # (state, x [B, H, W, C], *, key=None, sample_ids=None) -> z; without a key the posterior's mode
    pictures: Callable  # (state, z) -> x in about [-1, 1]
    shape: tuple[int, int, int]  # (h, w, D)
    autoencoder: VQVAE | KLAutoencoder


def latent_diffusion(
    model: DiffusionModel, autoencoder: VQVAE | KLAutoencoder, *, shape: tuple[int, int, int]
) -> LatentDiffusion:
    """Joins a diffusion model of latents and the autoencoder whose latents they are.

    Args:
        model: of arrays [B, h, w, D].
        autoencoder: trained; its weights are no parameters here.
        shape: (h, w, D) of the latents of one picture.

    Returns:
        A `LatentDiffusion`. `latents` raises ValueError for images that are bytes or whose latents have another shape,
        `pictures` for latents that are whole numbers.
    """
    shape = check_counts("shape", shape, length=3)

    def init(key, image_shape):
        state = {"autoencoder": autoencoder.init(key, image_shape), "deviation": jnp.ones(())}
        return Variables(model.init(key, shape).params, state)

    def latents(state, x, *, key=None, sample_ids=None):
        found = autoencoder.encode(Variables(*state["autoencoder"]).params, x)
        if isinstance(autoencoder, KLAutoencoder):
            found = autoencoder.mode(found) if key is None else autoencoder.sample(key, found, sample_ids=sample_ids)
        if found.shape[1:] != shape:
            raise ValueError(f"pictures {x.shape[1:]} have latents {found.shape[1:]}, but this model is over {shape}")
        return found / state["deviation"]

    def pictures(state, z):
        check_floating("z", z)
        variables, z = Variables(*state["autoencoder"]), z * state["deviation"]
        if isinstance(autoencoder, VQVAE):
            z = autoencoder.quantize(variables, z)[0].quantized
        return autoencoder.decode(variables.params, z)

    return LatentDiffusion(init, model.denoise, model.encode, model.null, model.schedule, model.num_classes,
                           model.text_length, latents, pictures, shape, autoencoder)
