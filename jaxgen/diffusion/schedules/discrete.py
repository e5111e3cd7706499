"""Discrete schedules: a table of alpha-bar for T training steps, usable at any noise level between its entries.

The step of a table runs from 0 (almost data) to T - 1 (noise); a network trained on it is conditioned on that index.
Between entries the logarithm of the noise-to-signal ratio is linear in the index, so that solvers, which choose noise
levels and not indices, can ask for any of them.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxgen.core.checks import check_count, check_fraction, check_not_negative, check_positive, concrete
from jaxgen.core.dataclass import register_dataclass
from jaxgen.diffusion.schedules.base import MAX_RATIO, Schedule, VariancePreserving, check_schedule


@register_dataclass
@dataclass(frozen=True)
class Discrete(VariancePreserving):
    """A schedule of T steps: a table of alpha-bar [T], with the logarithms of its noise-to-signal ratios [T]."""

    alphas_cumprod: Array
    log_ratio: Array

    def __eq__(self, other):
        """By the tables' values, so that models of equal schedules are equal and can be arguments of `jax.jit`."""
        return type(other) is Discrete and (self is other or self._values() == other._values())

    def __hash__(self):
        return hash(self._values())

    def _values(self):
        return tuple((np.shape(table), np.asarray(table).tobytes()) for table in (self.alphas_cumprod, self.log_ratio))

    @property
    def steps(self) -> int:
        """T, the number of training steps."""
        return self.alphas_cumprod.shape[0]

    @property
    def end(self) -> int:
        return self.steps - 1

    @property
    def zero_terminal_snr(self) -> bool:
        last = concrete(self.alphas_cumprod)
        return last is not None and bool(last[-1] == 0)

    def _log_ratio(self, t):
        return jnp.interp(jnp.asarray(t, self.log_ratio.dtype), jnp.arange(self.steps), self.log_ratio)

    def _signal(self, t):
        t = jnp.asarray(t, self.log_ratio.dtype)
        # An entry of the table comes back as it is: a zero stays zero and no digit is lost through a logarithm.
        index = jnp.clip(jnp.round(t).astype(jnp.int32), 0, self.steps - 1)
        between = 1 / (1 + jnp.exp(2 * self._log_ratio(t)))
        return jnp.where(t == index, self.alphas_cumprod[index], between)

    def alpha(self, t):
        return jnp.sqrt(self._signal(t))

    def sigma(self, t):
        return jnp.sqrt(1 - self._signal(t))

    def ratio(self, t):
        return jnp.exp(self._log_ratio(t))

    def time(self, ratio):
        """The index with this ratio, a fraction between entries; 0 and T - 1 outside the table."""
        log_ratio = jnp.log(jnp.maximum(jnp.asarray(ratio), 1 / MAX_RATIO))
        t = jnp.interp(log_ratio, self.log_ratio, jnp.arange(self.steps, dtype=self.log_ratio.dtype))
        # A network trained on whole numbers should see whole numbers where the ratio is an entry of the table:
        # float32 logarithms place them to about 1e-4 of an index.
        whole = jnp.round(t)
        return jnp.where(jnp.abs(t - whole) < 1e-3, whole, t)


def from_alphas_cumprod(alphas_cumprod) -> Discrete:
    """The schedule of a table of alpha-bar.

    Args:
        alphas_cumprod: [T] decreasing, in [0, 1); a last entry of exactly 0 means zero terminal SNR.

    Raises:
        ValueError: for a table that does not decrease strictly, or leaves [0, 1).

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.from_alphas_cumprod([0.9, 0.5, 0.0]).steps
        3
    """
    table = np.asarray(alphas_cumprod, dtype=np.float64)
    if table.ndim != 1 or table.size < 1:
        raise ValueError(f"alphas_cumprod must be a vector [T], got shape {table.shape}")
    right = (table >= 0) & (table < 1) & (np.diff(table, prepend=1.0) < 0)
    right[:-1] &= table[:-1] != 0
    _check_entries("alphas_cumprod", table, right, "must decrease strictly within [0, 1), 0 only at the end")
    with np.errstate(divide="ignore"):
        log_ratio = np.minimum(0.5 * (np.log1p(-table) - np.log(table)), np.log(MAX_RATIO))
    return Discrete(jnp.asarray(table), jnp.asarray(log_ratio))


def from_betas(betas) -> Discrete:
    """The schedule of any array of betas: alpha-bar = cumprod(1 - beta), computed in float64.

    Args:
        betas: [T] in (0, 1]; 1 only as the last entry.

    Example:
        >>> from jaxgen import diffusion
        >>> [round(a, 3) for a in diffusion.from_betas([0.1, 0.5]).alphas_cumprod.tolist()]
        [0.9, 0.45]
    """
    betas = np.asarray(betas, dtype=np.float64)
    if betas.ndim != 1:
        raise ValueError(f"betas must be a vector [T] in (0, 1], got shape {betas.shape}")
    _check_entries("betas", betas, (betas > 0) & (betas <= 1), "must be a vector [T] in (0, 1]")
    return from_alphas_cumprod(np.cumprod(1 - betas))


def _check_entries(name: str, table: np.ndarray, right: np.ndarray, rule: str) -> None:
    if not right.all():
        at = int(np.argmin(right))
        raise ValueError(f"{name} {rule}; got {name}[{at}] = {table[at]}" + f" after {table[at - 1]}" * (at > 0))


def _check_betas(beta_start: float, beta_end: float) -> None:
    for name, beta in (("beta_start", beta_start), ("beta_end", beta_end)):
        check_positive(name, beta)
        check_fraction(name, beta)


def linear(*, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Discrete:
    """beta linear in the index.

    Reference: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, arXiv:2006.11239

    Example:
        >>> from jaxgen import diffusion
        >>> schedule = diffusion.linear()
        >>> schedule.end, round(float(schedule.alpha(0)) ** 2, 4), round(float(schedule.time(schedule.ratio(500))), 3)
        (999, 0.9999, 500.0)
    """
    steps = check_count("steps", steps)
    _check_betas(beta_start, beta_end)
    return from_betas(np.linspace(beta_start, beta_end, steps))


def scaled_linear(*, steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Discrete:
    """sqrt(beta) linear in the index.

    Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022, arXiv:2112.10752

    Example:
        >>> from jaxgen import diffusion
        >>> round(float(diffusion.scaled_linear().alpha(0)) ** 2, 5)
        0.99915
    """
    steps = check_count("steps", steps)
    _check_betas(beta_start, beta_end)
    return from_betas(np.linspace(beta_start**0.5, beta_end**0.5, steps) ** 2)


def cosine(*, steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Discrete:
    """beta[i] = min(1 - f((i + 1) / T) / f(i / T), max_beta),  f(u) = cos²((u + s) / (1 + s) pi / 2).

    Reference: Nichol, Dhariwal, "Improved denoising diffusion probabilistic models", 2021, arXiv:2102.09672

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.cosine(steps=100).alphas_cumprod.shape
        (100,)
    """
    steps = check_count("steps", steps)
    check_not_negative("offset", offset)
    check_positive("max_beta", max_beta)
    check_fraction("max_beta", max_beta)
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return from_betas(np.minimum(1 - f[1:] / f[:-1], max_beta))


def discretize(schedule: Schedule, *, steps: int = 1000) -> Discrete:
    """The table of a continuous schedule at t = end (i + 1) / T, i = 0 .. T - 1; alpha-bar = 1 / (1 + ratio²).

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.discretize(diffusion.flow(), steps=100).zero_terminal_snr
        True
    """
    steps = check_count("steps", steps)
    check_schedule(schedule)
    t = jnp.asarray(np.arange(1, steps + 1) / steps) * schedule.end
    alpha, sigma = np.asarray(schedule.alpha(t), np.float64), np.asarray(schedule.sigma(t), np.float64)
    return from_alphas_cumprod(alpha**2 / (alpha**2 + sigma**2))


def rescale_zero_terminal_snr(schedule: Discrete) -> Discrete:
    """Shifts and scales sqrt(alpha-bar) so that its first entry stays and its last one is exactly 0.

    Needs a network that predicts v or x0, and a grid that starts at the last index (`spacing="trailing"`).

    Reference: Lin et al., "Common diffusion noise schedules and sample steps are flawed", 2024, arXiv:2305.08891

    Example:
        >>> from jaxgen import diffusion
        >>> float(diffusion.rescale_zero_terminal_snr(diffusion.linear()).alpha(999))
        0.0
    """
    if not isinstance(schedule, Discrete):
        raise ValueError("rescale_zero_terminal_snr needs a table of alpha-bar, such as linear(), got "
                         f"{type(schedule).__name__}")
    root = np.sqrt(np.asarray(schedule.alphas_cumprod, np.float64))
    if root.size < 2:
        raise ValueError("rescale_zero_terminal_snr needs a schedule of at least 2 steps, got 1")
    return from_alphas_cumprod(((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2)
