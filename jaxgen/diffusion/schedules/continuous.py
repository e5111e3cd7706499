"""Continuous schedules: trigonometric, sigmoid, EDM, rectified flow."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.checks import check_finite, check_positive, concrete
from jaxgen.core.dataclass import register_dataclass
from jaxgen.diffusion.schedules.base import Schedule, VariancePreserving


@register_dataclass
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


@register_dataclass
@dataclass(frozen=True)
class Sigmoid(VariancePreserving):
    """alpha² falls from 1 to 0 along a piece of a sigmoid; t in [0, 1].

    alpha²(t) = (s(stop / tau) - s((start + t (stop - start)) / tau)) / (s(stop / tau) - s(start / tau)),  s = sigmoid.

    Reference: Jabri, Fleet, Chen, "Scalable adaptive computation for iterative generation", 2022, arXiv:2212.11972
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


@register_dataclass
@dataclass(frozen=True)
class EDM(Schedule):
    """alpha = 1, sigma = t: time is the noise level, from 0 to `end` (80).

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    arXiv:2206.00364
    """

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


@register_dataclass
@dataclass(frozen=True)
class Flow(Schedule):
    """Rectified flow: alpha = 1 - u, sigma = u, with u = shift t / (1 + (shift - 1) t); t in [0, 1].

    `shift` > 1 spends more of the time at high noise, as larger images need; .25 -> .5 and .5 -> .75 at shift 3.
    The network is conditioned on u, the share of noise, so that one network serves every shift.

    Reference: Liu, Gong, Liu, "Flow straight and fast: learning to generate and transfer data with rectified flow",
    2022, arXiv:2209.03003

    Reference: Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis", 2024,
    arXiv:2403.03206, for the shift
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
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2); t in [0, 1].

    Example:
        >>> from jaxgen import diffusion
        >>> schedule = diffusion.trigonometric()
        >>> round(float(schedule.ratio(0.5)), 3), round(float(schedule.time(1.0)), 3)
        (1.0, 0.5)
    """
    return Trigonometric()


def sigmoid(*, start: float = -3.0, stop: float = 3.0, tau: float = 1.0) -> Sigmoid:
    """The sigmoid schedule; see `Sigmoid`.

    Raises:
        ValueError: tau not above 0, stop not above start, or both where the sigmoid is flat in float32.

    Example:
        >>> from jaxgen import diffusion
        >>> round(float(diffusion.sigmoid().alpha(0.5)) ** 2, 3)
        0.5
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
    """alpha = 1, sigma = t, up to `sigma_max`; see `EDM`.

    Example:
        >>> from jaxgen import diffusion
        >>> float(diffusion.edm().sigma(3.0)), diffusion.edm(sigma_max=100.0).end
        (3.0, 100.0)
    """
    check_positive("sigma_max", sigma_max)
    return EDM(sigma_max)


def flow(*, shift: float = 1.0) -> Flow:
    """Rectified flow with a resolution shift; see `Flow`.

    Example:
        >>> from jaxgen import diffusion
        >>> float(diffusion.flow(shift=3.0).sigma(0.25))
        0.5
    """
    check_positive("shift", shift)
    return Flow(shift)
