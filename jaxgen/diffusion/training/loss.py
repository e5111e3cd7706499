"""The denoising loss."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_batch, check_key, expand_to
from jaxgen.core.keys import numbered
from jaxgen.diffusion.contract import bind
from jaxgen.diffusion.precondition import Denoiser
from jaxgen.diffusion.sampling.loop import sample_noise
from jaxgen.diffusion.training.weighting import Weighting, edm_weighting


def denoising_loss(
    key: PRNGKeyArray,
    denoiser: Denoiser,
    x0: Float[Array, "B ..."],
    sigma: Float[Array, "B"],
    *,
    cond: Any = None,
    weighting: Weighting | None = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """w(sigma) mean over the sample of |D(x0 + sigma eps, sigma) - x0|²,  eps ~ N(0, I).

    Args:
        key: for eps.
        denoiser: what is trained, in the variance-exploding variable (see `precondition`).
        x0: [B, ...] clean samples.
        sigma: [B] noise-to-signal ratios above 0: `schedule.ratio(t)` for drawn times, or drawn levels.
        cond: passed to the denoiser.
        weighting: w, EDM's by default.
        sample_ids: [B] whole numbers: example i's noise then depends on the key and its own number alone, so that
            devices that each hold a part of the batch draw what one device with all of it draws.

    Returns:
        [B] float32 losses; the caller reduces.

    Raises:
        ValueError: sigma is not [B]; x0 is no batch of floating-point numbers; what is no key or no denoiser.

    Karras et al. (2022), equation 2; Kingma, Gao (2023) for the role of the weight.
    """
    check_key(key)
    check_batch("x0", x0)
    denoise = bind(denoiser, cond)
    if jnp.shape(sigma) != x0.shape[:1]:
        raise ValueError(f"sigma must hold one noise level per sample, shape {x0.shape[:1]}; got {jnp.shape(sigma)}")
    weighting = edm_weighting() if weighting is None else weighting
    x0 = jnp.asarray(x0, jnp.promote_types(jnp.result_type(x0), jnp.float32))
    sigma = jnp.asarray(sigma, x0.dtype)
    if sample_ids is None:
        noise = jax.random.normal(key, x0.shape, x0.dtype)
    else:
        noise = sample_noise(key, x0.shape[1:], numbered(sample_ids, x0.shape[0]), 0, dtype=x0.dtype)
    error = denoise(x0 + expand_to(sigma, x0, name="sigma") * noise, sigma) - x0
    return weighting(sigma) * jnp.mean(error**2, axis=tuple(range(1, x0.ndim)))
