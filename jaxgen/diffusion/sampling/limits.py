"""Transforms of a denoiser that bound x0_hat."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxgen.core.checks import check_batch, check_fraction, concrete, expand_to
from jaxgen.diffusion._precondition import Denoiser
from jaxgen.diffusion.contract import checked

Transform = Callable[[Denoiser], Denoiser]
"""From a denoiser to a denoiser."""


def check_bounds(lo: Any, hi: Any) -> None:
    """Refuses bounds of which the lower one is above the other."""
    low, high = concrete(lo), concrete(hi)
    if low is not None and high is not None and not (low <= high).all():
        raise ValueError(f"expected lo <= hi, got lo {lo}, hi {hi}")


def threshold(percentile: Any = 0.995, maximum: Any = None) -> Transform:
    """Dynamic thresholding: D <- clip(D, -s, s) / s, where s is that quantile of |D| over the sample, in [1, maximum].

    Args:
        percentile: a fraction in [0, 1], .995 and not 99.5. May be traced.
        maximum: of s, at least 1, where the threshold is 1 and the result clip(D, -1, 1); None for none. diffusers'
            `sample_max_value`, which is 1 there if not given. May be traced.

    Raises:
        ValueError: a percentile outside [0, 1], or a maximum below 1.

    Reference: Saharia et al., "Photorealistic text-to-image diffusion models with deep language understanding", 2022,
    arXiv:2205.11487, section 2.3

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> limited = diffusion.threshold(1.0)(lambda x, sigma, cond: x)
        >>> limited(jnp.array([[-4.0, 1.0]]), 1.0, None).tolist()
        [[-1.0, 0.25]]
    """
    check_fraction("percentile", percentile, "; 99.5% is percentile=0.995")
    most = concrete(maximum) if maximum is not None else None
    if most is not None and not (most >= 1).all():
        raise ValueError(f"maximum must be at least 1, got {maximum}: values are brought back into [-1, 1]")

    def transform(denoiser: Denoiser) -> Denoiser:
        denoiser = checked(denoiser)

        def limited(x: Array, sigma: Array, cond: Any = None) -> Array:
            check_batch("x", x)
            x0 = denoiser(x, sigma, cond)
            sizes = jnp.abs(x0).astype(jnp.promote_types(x0.dtype, jnp.float32)).reshape(x0.shape[0], -1)
            level = jnp.clip(jnp.quantile(sizes, percentile, axis=1), 1.0, maximum)
            level = expand_to(level, x0, name="percentile")
            return (jnp.clip(x0, -level, level) / level).astype(x0.dtype)

        return limited

    return transform


def clip(lo: Any = -1.0, hi: Any = 1.0) -> Transform:
    """D <- clip(D, lo, hi); the bounds may be traced.

    Raises:
        ValueError: lo above hi.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.clip()(lambda x, sigma, cond: x)(jnp.array([[-4.0, 0.5]]), 1.0, None).tolist()
        [[-1.0, 0.5]]
    """
    check_bounds(lo, hi)

    def transform(denoiser: Denoiser) -> Denoiser:
        denoiser = checked(denoiser)

        def clipped(x: Array, sigma: Array, cond: Any = None) -> Array:
            check_batch("x", x)
            x0 = denoiser(x, sigma, cond)
            return jnp.clip(x0, lo, hi).astype(x0.dtype)

        return clipped

    return transform
