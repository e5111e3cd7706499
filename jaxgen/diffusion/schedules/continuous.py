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

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgen.core.checks import check_finite, check_positive, concrete

MAX_RATIO = 1e6
"""Stands for an infinite noise-to-signal ratio: at 1e6 the signal is below float32's resolution of the noise."""
MIN_RATIO = 1e-6
"""Stands for a ratio of zero wherever its logarithm is needed."""

pytree = jax.tree_util.register_dataclass


def _bounded(ratio: Array) -> Array:
    return jnp.clip(ratio, MIN_RATIO, MAX_RATIO)


class Schedule:
    """What all schedules share; a subclass gives alpha, sigma, time, coefficients and end."""

    def ratio(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """sigma(t) / alpha(t), the solvers' noise level, bounded by `MAX_RATIO`."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return sigma / jnp.maximum(alpha, sigma / MAX_RATIO)

    def logsnr(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """2 log(alpha(t) / sigma(t)), finite at both ends."""
        return -2 * jnp.log(_bounded(self.ratio(t)))

    def inverse(self, logsnr: Float[Array, "..."]) -> Float[Array, "..."]:
        """The time at which `logsnr(t)` has this value."""
        return self.time(jnp.exp(-jnp.asarray(logsnr) / 2))

    def network_time(self, t: Float[Array, "..."]) -> Float[Array, "..."]:
        """What a network that was trained on this schedule is conditioned on; t itself unless a schedule says else."""
        return t

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether no signal at all is left at `end` (so that predicting eps there says nothing about x0)."""
        return False


def check_schedule(schedule) -> None:
    """Refuses what is no schedule, such as the name of one, or one that was not called."""
    if not isinstance(schedule, Schedule):
        hint = f": call it first, {schedule.__name__}()" if hasattr(schedule, "__name__") else ""
        raise ValueError(f"schedule must be a Schedule, such as flow() or cosine(), got {schedule!r}{hint}")


class VariancePreserving(Schedule):
    """alpha² + sigma² = 1, so that the ratio alone gives both."""

    def coefficients(self, ratio: Float[Array, "..."]) -> tuple[Array, Array]:
        """(alpha, sigma) at a noise-to-signal ratio: (1, ratio) / sqrt(1 + ratio²)."""
        ratio = jnp.asarray(ratio)
        alpha = jax.lax.rsqrt(1 + ratio**2)
        return alpha, ratio * alpha


@pytree
@dataclass(frozen=True)
class Trigonometric(VariancePreserving):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2); t in [0, 1]. The continuous cosine schedule without offset."""

    end: float = 1.0

    def alpha(self, t):
        # sin of the complement is exactly 0 at t = 1; cos(pi / 2) is -4e-8 in float32.
        return jnp.sin(jnp.pi / 2 * (1 - jnp.asarray(t)))

    def sigma(self, t):
        return jnp.sin(jnp.pi / 2 * jnp.asarray(t))

    def time(self, ratio):
        return 2 / jnp.pi * jnp.arctan(ratio)

    @property
    def zero_terminal_snr(self) -> bool:
        return True


@pytree
@dataclass(frozen=True)
class Sigmoid(VariancePreserving):
    """alpha² falls from 1 to 0 along a piece of a sigmoid; t in [0, 1].

    alpha²(t) = (s(stop / tau) - s((start + t (stop - start)) / tau)) / (s(stop / tau) - s(start / tau)),  s = sigmoid.

    Jabri, Fleet, Chen, "Scalable adaptive computation for iterative generation" (2022).
    """

    start: float = -3.0
    stop: float = 3.0
    tau: float = 1.0
    end: float = 1.0

    def _signal(self, t):
        low, high = jax.nn.sigmoid(self.start / self.tau), jax.nn.sigmoid(self.stop / self.tau)
        now = jax.nn.sigmoid((self.start + jnp.asarray(t) * (self.stop - self.start)) / self.tau)
        return jnp.clip((high - now) / (high - low), 0.0, 1.0)

    def alpha(self, t):
        return jnp.sqrt(self._signal(t))

    def sigma(self, t):
        return jnp.sqrt(1 - self._signal(t))

    def time(self, ratio):
        low, high = jax.nn.sigmoid(self.start / self.tau), jax.nn.sigmoid(self.stop / self.tau)
        now = high - (high - low) / (1 + jnp.asarray(ratio) ** 2)
        return (self.tau * (jnp.log(now) - jnp.log1p(-now)) - self.start) / (self.stop - self.start)

    @property
    def zero_terminal_snr(self) -> bool:
        return True


@pytree
@dataclass(frozen=True)
class EDM(Schedule):
    """alpha = 1, sigma = t: time is the noise level, from 0 to `end` (80). Karras et al. (2022)."""

    end: float = 80.0

    def alpha(self, t):
        return jnp.ones_like(jnp.asarray(t, dtype=jnp.result_type(float)))

    def sigma(self, t):
        return jnp.asarray(t)

    def time(self, ratio):
        return jnp.asarray(ratio)

    def coefficients(self, ratio):
        """(1, ratio)."""
        return jnp.ones_like(jnp.asarray(ratio)), jnp.asarray(ratio)


@pytree
@dataclass(frozen=True)
class Flow(Schedule):
    """Rectified flow: alpha = 1 - u, sigma = u, with u = shift t / (1 + (shift - 1) t); t in [0, 1].

    `shift` > 1 spends more of the time at high noise, as larger images need; .25 -> .5 and .5 -> .75 at shift 3.
    The network is conditioned on u, the share of noise, so that one network serves every shift.

    Liu et al. (2022); the shift: Esser et al., "Scaling rectified flow transformers" (2024).
    """

    shift: float = 1.0
    end: float = 1.0

    def sigma(self, t):
        t = jnp.asarray(t)
        return self.shift * t / (1 + (self.shift - 1) * t)

    def alpha(self, t):
        t = jnp.asarray(t)
        return (1 - t) / (1 + (self.shift - 1) * t)

    def time(self, ratio):
        return ratio / (ratio + self.shift)

    def coefficients(self, ratio):
        """(1, ratio) / (1 + ratio)."""
        ratio = jnp.asarray(ratio)
        return 1 / (1 + ratio), ratio / (1 + ratio)

    def network_time(self, t):
        return self.sigma(t)

    @property
    def zero_terminal_snr(self) -> bool:
        return True


def trigonometric() -> Trigonometric:
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2)."""
    return Trigonometric()


def sigmoid(*, start: float = -3.0, stop: float = 3.0, tau: float = 1.0) -> Sigmoid:
    """The sigmoid schedule; see `Sigmoid`.

    Raises:
        ValueError: tau not above 0, stop not above start, or both where the sigmoid is flat in float32.
    """
    check_positive("tau", tau)
    check_finite("start", start)
    check_finite("stop", stop)
    check_positive("stop - start", stop - start)
    ends = concrete(start), concrete(stop), concrete(tau)
    if all(end is not None for end in ends):
        low, high = (1 / (1 + np.exp(-np.float32(end / ends[2]))) for end in ends[:2])
        check_positive("what the sigmoid rises by from start / tau to stop / tau", high - low)
    return Sigmoid(start, stop, tau)


def edm(*, sigma_max: float = 80.0) -> EDM:
    """alpha = 1, sigma = t, up to `sigma_max`."""
    check_positive("sigma_max", sigma_max)
    return EDM(sigma_max)


def flow(*, shift: float = 1.0) -> Flow:
    """Rectified flow with a resolution shift; see `Flow`."""
    check_positive("shift", shift)
    return Flow(shift)
