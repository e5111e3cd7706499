"""A diffusion model as a tuple of pure functions: a network, its preconditioning and its conditions.

A condition is a dict: {} for none, {"classes": [B]} or {"text": [B, L]}; text is bytes (`jaxgen.models.text`) that an
encoder trained with the network turns into a context for its cross-attention.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.diffusion import Schedule, precondition
from jaxgen.models.text import TextEncoder
from jaxgen.quantize import Variables


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
    if num_classes and text_encoder is not None:
        raise ValueError(f"a model is conditioned on classes or on text: num_classes={num_classes} and a text_encoder")
    if kind == "edm" and getattr(network, "time_embedding", None) == "fourier":
        raise ValueError("time_embedding='fourier' takes the log of the time, but kind='edm' gives ln(sigma) / 4, "
                         "below 0 where noise is small: use time_embedding='sinusoidal', or another kind")

    def init(key, image_shape):
        network_key, text_key = jax.random.split(key)
        x, params = jnp.zeros((1, *image_shape)), {}
        cond = null(1)
        if text_encoder is not None:
            params["text"] = text_encoder.init(text_key, cond["text"])["params"]
            cond = encode(params, cond)
        params["network"] = network.init(network_key, x, jnp.ones(1), **cond)["params"]
        return Variables(params, {})

    def null(count):
        if num_classes:
            return {"classes": jnp.full((count,), num_classes, jnp.int32)}
        if text_encoder is not None:
            return {"text": jnp.zeros((count, text_length), jnp.int32)}
        return {}

    def encode(params, cond):
        cond = dict(cond or {})
        check_condition(cond, num_classes, text_encoder is not None)
        if "text" in cond:
            cond["context"], cond["context_mask"] = text_encoder.apply({"params": params["text"]}, cond.pop("text"))
        return cond

    def denoise(params, x, sigma, cond=None, *, key=None):
        options = {}
        if key is not None and getattr(network, "dropout", 0):
            options = {"train": True, "rngs": {"dropout": key}}

        def apply(xt, time, cond):
            return network.apply({"params": params["network"]}, xt, time, **cond, **options)

        cond = encode(params, cond)
        return precondition(apply, kind=kind, schedule=schedule, sigma_data=sigma_data)(x, sigma, cond)

    return DiffusionModel(init, denoise, encode, null, schedule, num_classes, text_length)


def check_condition(cond: Mapping[str, Any], num_classes: int, has_text: bool) -> None:
    """Raises ValueError for a condition that a model has not, or a class beyond its last."""
    allowed = ["classes"] * bool(num_classes) + ["text", "context", "context_mask"] * has_text
    for name in cond:
        if name not in allowed:
            takes = " or ".join(map(repr, allowed[:1])) or "no condition"
            raise ValueError(f"cond has {name!r}, but this model takes {takes}")
    classes = cond.get("classes")
    if classes is None or isinstance(classes, jax.core.Tracer):
        return
    values = np.asarray(classes)
    outside = values[(values < 0) | (values > num_classes)]
    if outside.size:
        raise ValueError(f"class {outside[0]} is out of range: this model has classes 0 to {num_classes - 1}, and "
                         f"{num_classes} for none")
