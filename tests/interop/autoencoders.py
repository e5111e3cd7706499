"""Autoencoders that the tests of this folder save and load."""

from functools import cache

import jax
import numpy as np

from jaxgen.core.types import Variables
from jaxgen.models import VQVAE, KLAutoencoder
from jaxgen.nn import Decoder, Encoder
from jaxgen.quantize import vq
from tests.helpers import parameters

WIDTHS = {"channels": 4, "multipliers": (1, 2), "norm_groups": 2}
KEY = jax.random.key(0)


def networks(*, latents, z=None, attention=(), channels=3, encoder=None, decoder=None, **shared):
    """An encoder to so many channels and its mirror image; `z` = channels before and after the 1x1 convolutions."""
    kwargs = {**WIDTHS, "attention_levels": attention, **shared}
    before, after = z or (None, None)
    return (
        Encoder(**{"latent_channels": latents, "z_channels": before, "num_res_blocks": 1, **kwargs, **(encoder or {})}),
        Decoder(**{"image_channels": channels, "z_channels": after, "num_res_blocks": 2, **kwargs, **(decoder or {})}),
    )


def vqvae(quantizer=None, *, latents=3, z=(2, 2), **options):
    encoder, decoder = networks(latents=latents, z=z, **options)
    return VQVAE(encoder=encoder, decoder=decoder, quantizer=quantizer or vq(7))


def kl_autoencoder(*, latents=4, z=(4, 2), scale=0.5, shift=0.0, **options):
    encoder, decoder = networks(latents=latents, z=z, **options)
    return KLAutoencoder(encoder=encoder, decoder=decoder, scale=scale, shift=shift)


def vq_model(*args, **options):
    """The model, and random parameters and state for it."""
    return filled(vqvae(*args, **options), options.get("channels", 3))


def kl_model(**options):
    """The model, and random parameters for it."""
    return filled(kl_autoencoder(**options), options.get("channels", 3))


def filled(model, channels, seed=0):
    return model, parameters.filled(shapes(model, channels), seed)


@cache
def shapes(model, channels):
    """Those of the model's variables; tracing it takes most of a test's time."""
    size = model.encoder.patch_size * 2 ** (len(model.encoder.multipliers) - 1)
    return jax.eval_shape(lambda key: model.init(key, (size, size, channels)), KEY)


def image(size=4, channels=3):
    return np.random.default_rng(1).normal(size=(2, size, size, channels)).astype(np.float32)


def replaced(variables, **params):
    return Variables({**variables.params, **params}, variables.state)
