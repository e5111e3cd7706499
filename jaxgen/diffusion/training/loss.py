"""The denoising loss."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_batch, check_key, expand_to
from jaxgen.core.keys import numbered
from jaxgen.diffusion._precondition import Denoiser
from jaxgen.diffusion.contract import bind
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
        sample_ids: [B] whole numbers: example i's noise then depends on the key and its own number only, so that
            devices that each hold a part of the batch draw what one device with all of it draws.

    Returns:
        [B] float32 losses; the caller reduces.

    Raises:
        ValueError: sigma is not [B]; x0 is no batch of floating-point numbers; what is no key or no denoiser.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    arXiv:2206.00364, equation 2

    Reference: Kingma, Gao, "Understanding diffusion objectives as the ELBO with simple data augmentation", 2023,
    arXiv:2303.00848, for the role of the weight

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: x  # a network that removes no noise
        >>> sigma = diffusion.log_normal_sigmas(jax.random.key(0), 4)
        >>> diffusion.denoising_loss(jax.random.key(1), denoiser, jnp.zeros((4, 8, 8, 3)), sigma).shape
        (4,)
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
