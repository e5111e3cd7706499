"""Noise schedules: how much signal and how much noise there is at a time.

    xt = alpha(t) x0 + sigma(t) eps,      eps ~ N(0, I),      logsnr(t) = 2 log(alpha(t) / sigma(t))

Time runs from data at t = 0 to noise at t = `schedule.end`, everywhere. `end` is 1 for the continuous schedules,
T - 1 (the last index of the table) for the discrete ones of `jaxgen.diffusion.schedules.discrete`, and the
largest noise level for `edm`, whose time is its noise level.

Solvers do not see `alpha` and `t`: they work in the variance-exploding variable `x = xt / alpha = x0 + ratio eps`,
where `ratio = sigma / alpha` is the one number that they call sigma. Each schedule turns a ratio back into its
`(alpha, sigma)` (`coefficients`) and its time (`time`).

A schedule is a frozen dataclass and a pytree: its numbers are leaves, so that changing them does not recompile.
"""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MAX_RATIO = 1e6
"""Stands for an infinite noise-to-signal ratio: at 1e6 the signal is below float32's resolution of the noise."""
MIN_RATIO = 1e-6
"""Stands for a ratio of zero wherever its logarithm is needed."""


def _bounded(ratio: Array) -> Array:
    return jnp.clip(ratio, MIN_RATIO, MAX_RATIO)


class Schedule(abc.ABC):
    """What a schedule must give (`end`, `alpha`, `sigma`, `time`, `coefficients`), and what follows from that.

    Times and ratios are arrays of any shape, in and out. An own schedule is a frozen dataclass, registered as a pytree:

    Example:
        >>> from dataclasses import dataclass
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> @diffusion.register_dataclass
        ... @dataclass(frozen=True)
        ... class Exponential(diffusion.Schedule):
        ...     end: float = 4.0
        ...     def alpha(self, t): return jnp.ones_like(t)
        ...     def sigma(self, t): return jnp.expm1(t)
        ...     def time(self, ratio): return jnp.log1p(ratio)
        ...     def coefficients(self, ratio): return jnp.ones_like(ratio), ratio
        >>> [round(sigma, 1) for sigma in diffusion.uniform_sigmas(Exponential(), 4).tolist()]
        [53.6, 19.1, 6.4, 1.7, 0.0]

    Attributes:
        end: the time of the noise end; data are at t = 0.
    """

    end: float

    @abc.abstractmethod
    def alpha(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """The factor of x0 at time t, in [0, 1] and not increasing."""

    @abc.abstractmethod
    def sigma(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """The factor of eps at time t, not decreasing; about 0 at t = 0."""

    @abc.abstractmethod
    def time(self, ratio: Float[Array, "..."]) -> Float[Array, "..."]:
        """The time t at which sigma(t) / alpha(t) has this value: the inverse of `ratio`."""

    @abc.abstractmethod
    def coefficients(self, ratio: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """(alpha, sigma) at the time that has this ratio, without the way through the time."""

    def ratio(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """sigma(t) / alpha(t), the solvers' noise level, bounded by `MAX_RATIO`."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return sigma / jnp.maximum(alpha, sigma / MAX_RATIO)

    def logsnr(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """2 log(alpha(t) / sigma(t)), the logarithm of the signal-to-noise ratio; finite at both ends."""
        return -2 * jnp.log(_bounded(self.ratio(t)))

    def inverse(self, logsnr: Float[Array, "..."]) -> Float[Array, "..."]:
        """The time at which `logsnr` has this value."""
        return self.time(jnp.exp(-jnp.asarray(logsnr) / 2))

    def network_time(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """What a network trained on this schedule is conditioned on; t itself by default."""
        return t

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether alpha(end) = 0, so that predicting eps there says nothing about x0."""
        return False


def check_schedule(schedule) -> None:
    """Refuses what is no schedule, such as the name of one, or one that was not called."""
    if not isinstance(schedule, Schedule):
        hint = f": call it first, {schedule.__name__}()" if hasattr(schedule, "__name__") else ""
        raise ValueError(f"schedule must be a Schedule, such as flow() or cosine(), got {schedule!r}{hint}")


class VariancePreserving(Schedule):
    """alpha² + sigma² = 1, so that the ratio determines both."""

    def coefficients(self, ratio: Float[Array, "..."]) -> tuple[Array, Array]:
        """(alpha, sigma) at a noise-to-signal ratio: (1, ratio) / sqrt(1 + ratio²)."""
        ratio = jnp.asarray(ratio)
        alpha = jax.lax.rsqrt(1 + ratio**2)
        return alpha, ratio * alpha
