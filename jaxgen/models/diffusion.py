"""A diffusion model as a tuple of pure functions: a network, its preconditioning and its conditions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core.types import Variables
from jaxgen.diffusion import Schedule, precondition
from jaxgen.models.conditioning import conditioning
from jaxgen.nn.text import TextEncoder


class DiffusionModel(NamedTuple):
    """A diffusion model as pure functions; `params` holds "network" and, for a model of text, "text"."""

    init: Callable  # (key, image_shape [H, W, C]) -> Variables(params, {})
    denoise: Callable  # (params, x [B, H, W, C], sigma [] or [B], cond=None, *, key=None) -> x0_hat; a key: dropout
    encode: Callable  # (params, cond) -> cond whose text is encoded, for many calls of `denoise`
    null: Callable  # (count) -> cond that stands for "no condition"
    schedule: Schedule | None  # None for kind "edm"
    num_classes: int
    text_length: int  # bytes; 0 without text


def diffusion_model(
    network: nn.Module,
    *,
    kind: str = "edm",
    schedule: Schedule | None = None,
    sigma_data: float = 0.5,
    num_classes: int = 0,
    text_encoder: TextEncoder | None = None,
    text_length: int = 0,
) -> DiffusionModel:
    """Joins a network, its preconditioning and, for text, an encoder.

    Args:
        network: Linen module, `(x [B, H, W, C], time [B], *, classes, context, context_mask)` (`UNet`, `DiT`).
        kind, schedule, sigma_data: see `jaxgen.diffusion.precondition`.
        num_classes: of the network; class `num_classes` means "no class".
        text_encoder: `(tokens [B, L]) -> (features [B, M, E], mask [B, M])`.
        text_length: L.

    Returns:
        A `DiffusionModel`. Its functions raise ValueError for a condition that the model has not and for a class
        out of range, as far as the class is known while tracing.
    """
    conditions = conditioning(num_classes, text_encoder, text_length)
    if kind == "edm" and getattr(network, "time_embedding", None) == "fourier":
        raise ValueError("time_embedding='fourier' takes the log of the time, but kind='edm' gives ln(sigma) / 4, "
                         "below 0 where noise is small: use time_embedding='sinusoidal', or another kind")

    def init(key, image_shape):
        network_key, text_key = jax.random.split(key)
        params = conditions.init(text_key)
        cond = conditions.encode(params, conditions.null(1))
        params["network"] = network.init(network_key, jnp.zeros((1, *image_shape)), jnp.ones(1), **cond)["params"]
        return Variables(params, {})

    def denoise(params, x, sigma, cond=None, *, key=None):
        options = {}
        if key is not None and getattr(network, "dropout", 0):
            options = {"train": True, "rngs": {"dropout": key}}

        def apply(xt, time, cond):
            return network.apply({"params": params["network"]}, xt, time, **cond, **options)

        cond = conditions.encode(params, cond)
        return precondition(apply, kind=kind, schedule=schedule, sigma_data=sigma_data)(x, sigma, cond)

    return DiffusionModel(init, denoise, conditions.encode, conditions.null, schedule, num_classes, text_length)
