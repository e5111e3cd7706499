"""Grids of noise levels for sampling: [n + 1] entries, strictly decreasing, ending in 0.

The number of steps n is the number of intervals. Levels are noise-to-signal ratios, what the solvers call sigma.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgen.core.checks import check_count, check_finite, check_positive, choose, concrete
from jaxgen.diffusion.contract import check_sigmas
from jaxgen.diffusion.schedules.base import MAX_RATIO, Schedule, check_schedule
from jaxgen.diffusion.schedules.discrete import Discrete

SPACINGS = {
    "leading": lambda steps, n: np.arange(n)[::-1] * (steps // n),
    "trailing": lambda steps, n: np.round(steps - np.arange(n) * (steps / n)).astype(np.int64) - 1,
    "linspace": lambda steps, n: np.round(np.arange(n)[::-1] * ((steps - 1) / (n - 1))).astype(np.int64),
}
"""Functions `(steps, n) -> [n]` of `spaced_steps`, without the offset."""


def _check_range(sigma_min, sigma_max) -> None:
    check_positive("sigma_min", sigma_min)
    check_positive("sigma_max", sigma_max)
    low, high = concrete(sigma_min), concrete(sigma_max)
    if low is not None and high is not None and not (low < high).all():
        raise ValueError(f"expected 0 < sigma_min < sigma_max, got sigma_min {sigma_min}, sigma_max {sigma_max}")


def _end_in_zero(levels: Array) -> Array:
    return jnp.concatenate([levels, jnp.zeros(1, levels.dtype)])


def karras_sigmas(n: int, sigma_min=0.002, sigma_max=80.0, rho=7.0) -> Float[Array, "n+1"]:
    """sigma_i = (smax^(1/rho) + i / (n - 1) (smin^(1/rho) - smax^(1/rho)))^rho, i < n, then 0; n = 1: [smax, 0].

    Args:
        n: number of steps.
        sigma_min, sigma_max: the last level above 0, and the first; may be traced.
        rho: how much shorter the steps are at low noise; 7 is EDM's choice, 1 is uniform in sigma.

    Returns:
        [n + 1] decreasing levels ending in 0.

    Raises:
        ValueError: n below 1, sigma_min not within (0, sigma_max), or rho not above 0.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    arXiv:2206.00364, equation 5

    Example:
        >>> from jaxgen import diffusion
        >>> [round(sigma, 3) for sigma in diffusion.karras_sigmas(4).tolist()]
        [80.0, 9.723, 0.47, 0.002, 0.0]
    """
    n = check_count("n", n)
    _check_range(sigma_min, sigma_max)
    check_positive("rho", rho)
    high, low = jnp.asarray(sigma_max) ** (1 / rho), jnp.asarray(sigma_min) ** (1 / rho)
    levels = (high + jnp.arange(n) / max(n - 1, 1) * (low - high)) ** rho
    # The power loses the last digit of the two ends, which callers compare with their own numbers.
    levels = levels.at[-1].set(sigma_min).at[0].set(sigma_max)
    return _end_in_zero(levels)


def exponential_sigmas(n: int, sigma_min=0.002, sigma_max=80.0) -> Float[Array, "n+1"]:
    """log sigma in equal steps from sigma_max to sigma_min, then 0; see `karras_sigmas` for arguments.

    Example:
        >>> from jaxgen import diffusion
        >>> [round(sigma, 3) for sigma in diffusion.exponential_sigmas(3, 0.01, 1.0).tolist()]
        [1.0, 0.1, 0.01, 0.0]
    """
    n = check_count("n", n)
    _check_range(sigma_min, sigma_max)
    high, low = jnp.log(jnp.asarray(sigma_max)), jnp.log(jnp.asarray(sigma_min))
    levels = jnp.exp(high + jnp.arange(n) / max(n - 1, 1) * (low - high))
    return _end_in_zero(levels.at[-1].set(sigma_min).at[0].set(sigma_max))


def uniform_sigmas(schedule: Schedule, n: int, *, start=None, stop=0.0) -> Float[Array, "n+1"]:
    """The ratios of a schedule at n + 1 equally spaced times from `start` to `stop`, the last one made exactly 0.

    Args:
        schedule: any schedule; a flow's shift acts here.
        n: number of steps.
        start: the first time, the schedule's noise end by default.
        stop: the last time; its level becomes 0 if it is the schedule's data end, t = 0.

    Returns:
        [n + 1] decreasing levels.

    Raises:
        ValueError: n below 1, no schedule, or times that do not fall from `start` to `stop` within 0 .. end.

    Example:
        >>> from jaxgen import diffusion
        >>> [round(sigma, 3) for sigma in diffusion.uniform_sigmas(diffusion.flow(), 4, start=0.8).tolist()]
        [4.0, 1.5, 0.667, 0.25, 0.0]
    """
    n = check_count("n", n)
    check_schedule(schedule)
    start = schedule.end if start is None else start
    check_finite("start", start)
    check_finite("stop", stop)
    first, last, end = concrete(start), concrete(stop), concrete(schedule.end)
    if first is not None and last is not None and end is not None and not 0 <= last < first <= end:
        raise ValueError(f"expected 0 <= stop < start <= {schedule.end}, the schedule's end, as sampling goes from "
                         f"noise to data; got start {start}, stop {stop}")
    times = start + jnp.arange(n + 1) / n * (jnp.asarray(stop) - start)
    times = times.at[-1].set(stop)  # which rounding misses
    levels = jnp.minimum(schedule.ratio(times), MAX_RATIO)
    return jnp.where(times <= 0, 0.0, levels)


def spaced_steps(steps: int, n: int, *, spacing: str = "trailing", offset: int = 0) -> np.ndarray:
    """n of the T indices of a discrete schedule, decreasing, without duplicates.

        leading    i (T // n) + offset              1000 -> 10: 900 800 .. 0
        trailing   round(T - i T / n) - 1           1000 -> 10: 999 899 .. 99
        linspace   round(i (T - 1) / (n - 1))       1000 -> 10: 999 888 .. 0

    One step (n = 1) starts at the noise end T - 1 in every spacing: started from index 0, it would not sample.

    Raises:
        ValueError: n above T, an unknown spacing, or an offset that leaves the table.

    Reference: Lin et al., "Common diffusion noise schedules and sample steps are flawed", 2024, arXiv:2305.08891, table
    2

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.spaced_steps(1000, 4).tolist()
        [999, 749, 499, 249]
    """
    n, steps, offset = check_count("n", n), check_count("steps", steps), check_count("offset", offset, 0)
    if n > steps:
        raise ValueError(f"n = {n} steps cannot be chosen out of {steps} without duplicates; give n <= {steps}")
    space = choose("spacing", spacing, SPACINGS)
    if n == 1:
        return np.array([steps - 1])
    chosen = space(steps, n)
    if spacing == "leading":
        chosen = chosen + offset
    if chosen[0] >= steps:
        raise ValueError(f"offset {offset} moves the steps {chosen[-1]}..{chosen[0]} out of 0..{steps - 1}")
    return chosen


def spaced_sigmas(schedule: Discrete, n: int, *, spacing: str = "trailing", offset: int = 0) -> Float[Array, "n+1"]:
    """The ratios of a discrete schedule at `spaced_steps`, then 0.

    A solver's next level is the next entry of this list, so that no stride is ever recomputed.

    Raises:
        ValueError: as `spaced_steps`; a continuous schedule; or "leading" with zero terminal SNR, which would
            skip the only step that is pure noise.

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.spaced_sigmas(diffusion.linear(), 10).shape
        (11,)
    """
    check_schedule(schedule)
    if not isinstance(schedule, Discrete):
        raise ValueError(f"spaced_sigmas needs a discrete schedule, got {type(schedule).__name__}; use uniform_sigmas")
    if spacing == "leading" and n > 1 and schedule.zero_terminal_snr:
        raise ValueError("a schedule of zero terminal SNR must be sampled from its last step: use spacing='trailing'")
    chosen = spaced_steps(schedule.steps, n, spacing=spacing, offset=offset)
    return _end_in_zero(schedule.ratio(jnp.asarray(chosen)))


def positive_levels(sigmas: Float[Array, "n+1"]) -> Float[Array, "m+1"]:
    """The grid without a last level of 0.

    Whether a traced grid ends in 0 is not known when shapes are decided: its last entry then repeats the one before
    it where it is 0, so that integrals over the last interval vanish.
    """
    values = concrete(sigmas)
    if values is not None:
        return sigmas[:-1] if values[-1] == 0 else sigmas
    return sigmas.at[-1].set(jnp.where(sigmas[-1] > 0, sigmas[-1], sigmas[-2]))


def truncate(sigmas: Float[Array, "n+1"], strength: float) -> Float[Array, "m+1"]:
    """The last round(strength n) steps of a grid, at least one: where an edit of given strength starts.

    Args:
        sigmas: [n + 1] decreasing.
        strength: in (0, 1], a Python number, because it decides a shape; 1 keeps the whole grid.

    Raises:
        ValueError: a strength outside (0, 1], or no grid.

    Example:
        >>> from jaxgen import diffusion
        >>> [round(sigma, 3) for sigma in diffusion.truncate(diffusion.karras_sigmas(4), 0.5).tolist()]
        [0.47, 0.002, 0.0]
    """
    check_sigmas(sigmas)
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be in (0, 1], got {strength}")
    n = sigmas.shape[0] - 1
    return sigmas[n - max(1, round(strength * n)) :]


