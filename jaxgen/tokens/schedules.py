"""Schedules of masks: over the time of masked diffusion, and over the steps of MaskGIT.

Time t runs from 0, where all tokens are clean, to 1, where all are masks. MaskGIT counts the share of the
way, r = 1 - t.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import check_count, check_positive, choose

MASKING_SCHEDULES = {
    "cosine": lambda r: jnp.cos(jnp.pi / 2 * r),
    "linear": lambda r: 1 - r,
    "square": lambda r: 1 - r**2,
    "cubic": lambda r: 1 - r**3,
    "sqrt": lambda r: 1 - jnp.sqrt(r),
}
"""The names of `masking_schedule`."""


class MaskSchedule(NamedTuple):
    """alpha(t), the share of clean tokens, and rate(t) = -alpha'(t) / (1 - alpha(t)), the weight of the ELBO."""

    alpha: Callable[[Array], Array]
    rate: Callable[[Array], Array]


def polynomial_masking(power: Any = 1.0) -> MaskSchedule:
    """alpha = 1 - t^w, rate = w / t; w = 1 is the linear schedule.

    Args:
        power: w, above 0; may be traced.

    Raises:
        ValueError: power that is not above 0, or infinite.

    Example:
        >>> schedule = polynomial_masking(2.0)
        >>> print(schedule.alpha(0.5), schedule.rate(0.5))
        0.75 4.0

    Reference: Shi, Han, Wang, Doucet, Titsias, "Simplified and generalized masked diffusion for discrete data", 2024,
        arXiv:2406.04329
    """
    check_positive("power", power)
    return MaskSchedule(lambda t: 1 - jnp.asarray(t) ** power, lambda t: power / jnp.asarray(t))


def cosine_masking() -> MaskSchedule:
    """alpha = 1 - sin(pi t / 2), rate = pi / 2 cot(pi t / 2): few masks change at a time near t = 1.

    Example:
        >>> print(cosine_masking().alpha(1 / 3).round(4))
        0.5

    Reference: Shi, Han, Wang, Doucet, Titsias, "Simplified and generalized masked diffusion for discrete data", 2024,
        arXiv:2406.04329
    """
    return MaskSchedule(
        lambda t: 1 - jnp.sin(jnp.pi / 2 * jnp.asarray(t)),
        lambda t: jnp.pi / 2 / jnp.tan(jnp.pi / 2 * jnp.asarray(t)),
    )


def masking_schedule(name: str = "cosine") -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    """MaskGIT's schedule of this name: r in [0, 1] -> the share of tokens that are masks, falling from 1 to 0.

    Args:
        name: "cosine", cos(pi r / 2); "linear", 1 - r; "square", 1 - r²; "cubic", 1 - r³; "sqrt", 1 - sqrt(r).

    Raises:
        ValueError: an unknown name, with the nearest one.

    Example:
        >>> print(masking_schedule("square")(0.5))
        0.75

    Reference: Chang, Zhang, Jiang, Liu, Freeman, "MaskGIT: masked generative image transformer", 2022, arXiv:2202.04200
    """
    return choose("schedule", name, MASKING_SCHEDULES)


def mask_times(n: int) -> Float[Array, "n+1"]:
    """n equal steps from t = 1 (all masks) to t = 0: t_i = 1 - i / n.

    Args:
        n: the number of steps, at least 1.

    Returns:
        [n + 1] decreasing, for `sample_tokens`.

    Raises:
        ValueError: n that is no whole number of at least 1.

    Example:
        >>> print(mask_times(4))
        [1.   0.75 0.5  0.25 0.  ]
    """
    n = check_count("n", n)
    return 1 - jnp.arange(n + 1) / n
