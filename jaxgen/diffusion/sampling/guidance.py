"""Guidance: functions from a denoiser to a denoiser, so that they compose and every solver can use them.

All of them act on x0_hat. A combination of x0_hats is the same combination of the eps, v or score that belong to
them, because each is affine in x0_hat at given x and sigma. The result has the dtype of the denoiser's. `cfg`,
`autoguide` and `interval` guide functions from tokens to logits too (`jaxgen.tokens`), where x holds whole numbers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import (
    check_batch,
    check_finite,
    check_fraction,
    check_positive,
    check_same,
    expand_to,
    is_zero,
)
from jaxgen.core.conditions import null_like
from jaxgen.diffusion._precondition import Denoiser
from jaxgen.diffusion.contract import checked
from jaxgen.diffusion.sampling.limits import Transform, check_bounds


def _pairs(cond: Array, null: Array) -> Array:
    """[B, ...] and [B, ...] as [2 B, ...], alternating: neighbours stay on one device when the batch is sharded."""
    return jnp.stack([cond, null], axis=1).reshape(2 * cond.shape[0], *cond.shape[1:])


def cfg(scale: Any, null_cond: Any, *, rescale: Any = 0.0, joint: bool = True) -> Transform:
    """Classifier-free guidance: D = D_null + scale (D_cond - D_null).

    Args:
        scale: [] or [B]; 1 is the conditional model, above 1 guides. Traced: no recompilation.
        null_cond: a pytree like cond, for "no condition"; leaves broadcast to cond's leaves.
        rescale: phi in [0, 1]; brings each sample's std of x0_hat back towards the conditional one's,
            D <- phi D std(D_cond) / std(D) + (1 - phi) D.
        joint: one call on [2 B] (faster where it fits) or two on [B].

    Raises:
        ValueError: a scale that is not finite, or rescale outside [0, 1]; the denoiser: no cond, or null_cond that does
            not fit it.

    Reference: Ho, Salimans, "Classifier-free diffusion guidance", 2021, arXiv:2207.12598

    Reference: Lin et al., "Common diffusion noise schedules and sample steps are flawed", 2024, arXiv:2305.08891,
    section 3.4, for rescale

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: 0 * x + cond["class"][:, None]  # x0_hat is the class, 0 is none
        >>> guided = diffusion.cfg(3.0, {"class": 0})(denoiser)
        >>> guided(jnp.zeros((2, 1)), 1.0, {"class": jnp.array([1, 2])}).tolist()
        [[3.0], [6.0]]
    """
    check_finite("scale", scale)
    check_fraction("rescale", rescale)

    def transform(denoiser: Denoiser) -> Denoiser:
        denoiser = checked(denoiser)

        def guided(x: Array, sigma: Array, cond: Any = None) -> Array:
            check_batch("x", x, floating=False)
            null = null_like(cond, null_cond, x.shape[0] if joint else None)
            if joint:
                both = jax.tree.map(_pairs, cond, null)
                levels = jnp.asarray(sigma)
                levels = jnp.repeat(levels, 2) if levels.ndim else levels
                out = denoiser(jnp.repeat(x, 2, axis=0), levels, both)
                with_cond, without = out[0::2], out[1::2]
            else:
                with_cond, without = denoiser(x, sigma, cond), denoiser(x, sigma, null)
            result = without + expand_to(scale, with_cond, name="scale") * (with_cond - without)
            if is_zero(rescale):
                return result.astype(with_cond.dtype)
            axes = tuple(range(1, result.ndim))
            std, wanted = (jnp.std(d, axis=axes, keepdims=True) for d in (result, with_cond))
            factor = wanted / jnp.maximum(std, jnp.finfo(std.dtype).tiny)
            return ((rescale * factor + (1 - rescale)) * result).astype(with_cond.dtype)

        return guided

    return transform


def interval(transform: Transform, lo: Any, hi: Any) -> Transform:
    """Guides only at noise levels lo < sigma <= hi; elsewhere only the plain denoiser is called.

    With a scalar sigma, as samplers give it, this is a `lax.cond`: the guidance's network calls are not made outside
    the interval. With sigma [B] both are computed and chosen per sample. Bounds may be traced.

    Reference: Kynkäänniemi et al., "Applying guidance in a limited interval improves sample and distribution quality in
    diffusion models", 2024, arXiv:2404.07724

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: 0 * x + cond["class"][:, None]
        >>> guided = diffusion.interval(diffusion.cfg(3.0, {"class": 0}), 0.2, 5.0)(denoiser)
        >>> [float(guided(jnp.zeros((1, 1)), sigma, {"class": jnp.array([1])})[0, 0]) for sigma in (0.1, 1.0)]
        [1.0, 3.0]
    """
    check_bounds(lo, hi)

    def wrapped(denoiser: Denoiser) -> Denoiser:
        guided, denoiser = transform(denoiser), checked(denoiser)

        def switched(x: Array, sigma: Array, cond: Any = None) -> Array:
            check_batch("x", x, floating=False)
            inside = (jnp.asarray(sigma) > lo) & (jnp.asarray(sigma) <= hi)
            if inside.ndim == 0:
                return jax.lax.cond(inside, guided, denoiser, x, sigma, cond)
            return jnp.where(expand_to(inside, x, name="sigma"), guided(x, sigma, cond), denoiser(x, sigma, cond))

        return switched

    return wrapped


def autoguide(weak_denoiser: Denoiser, scale: Any) -> Transform:
    """D = D_weak + scale (D - D_weak): guided by a smaller or less trained version of itself.

    Raises:
        ValueError: a scale that is not finite.

    Reference: Karras et al., "Guiding a diffusion model with a bad version of itself", 2024, arXiv:2406.02507

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> weak = lambda x, sigma, cond: 0 * x + 1
        >>> guided = diffusion.autoguide(weak, 2.0)(lambda x, sigma, cond: 0 * x + 3)
        >>> guided(jnp.zeros((1, 1)), 1.0, None).tolist()
        [[5.0]]
    """
    check_finite("scale", scale)
    weak_denoiser = checked(weak_denoiser)

    def transform(denoiser: Denoiser) -> Denoiser:
        denoiser = checked(denoiser)

        def guided(x: Array, sigma: Array, cond: Any = None) -> Array:
            check_batch("x", x, floating=False)
            weak, strong = weak_denoiser(x, sigma, cond), denoiser(x, sigma, cond)
            return (weak + expand_to(scale, strong, name="scale") * (strong - weak)).astype(strong.dtype)

        return guided

    return transform


def dps(
    measure: Callable[[Array], Array],
    y: Float[Array, "B ..."],
    variance: Any | Callable[[Array], Array],
    *,
    scale: Any = 1.0,
) -> Transform:
    """Posterior guidance: samples of p(x0 | y) for y = measure(x0) + Gaussian noise, measure differentiable.

        D <- D + scale sigma² d/dx log p(y | x),      log p(y | x) = -|y - measure(D(x, sigma))|² / (2 variance(sigma))

    Args:
        measure: [B, ...] -> [B, ...], acting on each sample by itself.
        y: [B, ...] the measurements.
        variance: of y - measure(x0_hat): a number (DPS takes that of the measurement noise), or a function
            of sigma that adds the uncertainty of x0_hat. For data of variance d and noise r², measured directly,
            `r**2 + d * sigma**2 / (d + sigma**2)` makes the guidance exact.
        scale: factor on the gradient.

    Raises:
        ValueError: y that is no batch of floating-point numbers, a variance not above 0, or a scale that is not finite;
            the denoiser: a measurement of another shape than y's.

    Reference: Chung et al., "Diffusion posterior sampling for general noisy inverse problems", 2023, arXiv:2209.14687

    Reference: Song et al., "Pseudoinverse-guided diffusion models for inverse problems", 2023, for the growing variance

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: x
        >>> guided = diffusion.dps(lambda x0: x0[:, :1], jnp.array([[1.0]]), 0.5)(denoiser)
        >>> guided(jnp.zeros((1, 2)), 0.5, None).tolist()  # only the first number is measured
        [[0.5, 0.0]]
    """
    check_batch("y", y)
    check_finite("scale", scale)
    if not callable(variance):
        check_positive("variance", variance)

    def transform(denoiser: Denoiser) -> Denoiser:
        denoiser = checked(denoiser)

        def guided(x: Array, sigma: Array, cond: Any = None) -> Array:
            def loss(x):
                x0 = denoiser(x, sigma, cond)
                measured = measure(x0)
                check_same("what measure returns", measured, "y", y)
                return jnp.sum((y - measured) ** 2 / (2 * expand_to(spread, y, name="variance"))), x0

            check_batch("x", x)
            spread = jnp.asarray(variance(sigma) if callable(variance) else variance)
            gradient, x0 = jax.grad(loss, has_aux=True)(x)
            step = expand_to(scale, x, name="scale") * expand_to(jnp.asarray(sigma) ** 2, x, name="sigma")
            return (x0 - step * gradient).astype(x0.dtype)

        return guided

    return transform
