"""The type of a solver, and the few formulas that all of them share.

With a denoiser D(x, sigma) the probability-flow equation in the variance-exploding variable is

    dx / dsigma = (x - D(x, sigma)) / sigma,        or, with lambda = -log sigma,        dx / dlambda = D - x.

Holding D constant over a step from s to s' integrates the second form exactly:

    x' = (s' / s) x + (1 - s' / s) D,

which is Euler's step in sigma too, and DDIM's. At s' = 0 it is D itself, without a division.

A level may stand for infinity (a flow's t = 1, zero terminal SNR). A step from there is `far`: rules in sigma weigh
what D does at its end by s / s', without bound, so that they take such a step in a bounded variable or in first order.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxgen.core.checks import check_count, check_fraction
from jaxgen.diffusion.contract import BoundDenoiser

NoiseFn = Callable[..., Array]
"""(stream=0) -> standard normal [B, ...] of this step; another stream is another independent draw."""


class Carry(NamedTuple):
    """What a solver hands from step to step."""

    x: Array  # [B, ...] the sample, in the variance-exploding variable
    memory: Any = ()  # the solver's own history; a pytree of fixed shape


class Solver(NamedTuple):
    """A pair of pure functions, and three facts about them.

    Attributes:
        init: `(x [B, ...]) -> Carry`, the state before the first step.
        step: `(denoiser, carry, sigma, sigma_next, noise_fn) -> Carry`, one step of the grid: the denoiser is
            `(x [B, ...], sigma []) -> x0_hat [B, ...]`, the carry that of the step before, sigma [] the level of
            `carry.x` and sigma_next [] the level of the result, and `noise_fn(stream)` gives standard normal noise
            [B, ...], an independent one for each of the streams 0 .. draws - 1.
        order: global order of convergence without added noise, on a smooth grid whose first step lies where D hardly
            depends on sigma, as it does at the prior's level: there the first steps of a multistep method may be of
            lower order.
        nfe: network evaluations per step (a step into 0 may take fewer).
        draws: noises per step at most; 0 for a deterministic solver.

    Example:
        Euler's method, written out:

        >>> import jax
        >>> from jaxgen import diffusion
        >>> def step(denoiser, carry, sigma, sigma_next, noise_fn):
        ...     slope = (carry.x - denoiser(carry.x, sigma)) / sigma
        ...     return diffusion.Carry(carry.x + (sigma_next - sigma) * slope)
        >>> solver = diffusion.Solver(diffusion.Carry, step, order=1, nfe=1, draws=0)
        >>> denoiser = lambda x, sigma, cond: x / (1 + sigma**2)  # of data from N(0, 1)
        >>> key, sigmas = jax.random.key(0), diffusion.karras_sigmas(4)
        >>> x = diffusion.prior_sample(key, (2, 8), sigmas[0])
        >>> diffusion.sample(denoiser, solver, sigmas, x, key).shape
        (2, 8)
    """

    init: Callable[[Array], Carry]
    step: Callable[[BoundDenoiser, Carry, Array, Array, NoiseFn], Carry]
    order: int
    nfe: int
    draws: int = 1


def stateless(x: Array) -> Carry:
    """The carry of a solver without history."""
    return Carry(x)


def first_order(x: Array, denoised: Array, sigma: Array, sigma_next: Array) -> Array:
    """(s' / s) x + (1 - s' / s) D."""
    ratio = sigma_next / sigma
    return ratio * x + (1 - ratio) * denoised


def safe_sqrt(value: Array) -> Array:
    """sqrt with value and gradient 0 at and below 0."""
    positive = value > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, value, 1)), 0)


def positive_next(sigma: Array, sigma_next: Array) -> Array:
    """sigma_next, or sigma / 2 where it is 0: a stand-in for logarithms whose result is not used."""
    return jnp.where(sigma_next > 0, sigma_next, sigma / 2)


def far(sigma: Array, sigma_next: Array) -> Array:
    """Whether a step, up or down, joins a level above 100 with one less than a tenth of it.

    EDM's grids start at 80 and have none. Where such a step is short of these bounds, rules in sigma err by a
    percent at most, as D hardly depends on sigma there.
    """
    high, low = jnp.maximum(sigma, sigma_next), jnp.minimum(sigma, sigma_next)
    return (high > 100) & (high > 10 * low)


def trapezoid(denoiser: BoundDenoiser, x: Array, denoised: Array, sigma: Array, sigma_next: Array) -> Array:
    """Heun's step with D = D(x, s) given; the step into 0 is the first-order one, without an evaluation.

        x_e = first-order step,        x' = x_e + w (D(x_e, s') - D)
        w = (s / s' - 1) / 2  in sigma,      (s / s' - 1) / 2 (1 + s') / (1 + s)  in s / (1 + s), for `far` steps
    """
    euler_x = first_order(x, denoised, sigma, sigma_next)

    def correct(_):
        below = positive_next(sigma, sigma_next)
        weight = (sigma / below - 1) / 2 * jnp.where(far(sigma, below), (1 + below) / (1 + sigma), 1)
        return euler_x + weight * (denoiser(euler_x, below) - denoised)

    return jax.lax.cond(sigma_next > 0, correct, lambda _: euler_x, None)


def ancestral_split(sigma: Array, sigma_next: Array, eta: Any) -> tuple[Array, Array]:
    """(down, up) with down² + up² = s'²: the noise that stays, and the noise that is drawn again.

    up = eta s' sqrt(1 - (s' / s)²). From 10 to 6 with eta = 1: down 3.6, up 4.8.
    """
    ratio = sigma_next / sigma
    fresh = eta * safe_sqrt(1 - ratio**2)
    return sigma_next * safe_sqrt(1 - fresh**2), sigma_next * fresh


def check_eta(eta: Any) -> None:
    check_fraction("eta", eta, "; 0 is deterministic, 1 the full ancestral noise")


def check_order(order: int, largest: int, *, name: str = "order") -> int:
    """A multistep solver's order as an `int`, from 1 to `largest`."""
    order = check_count(name, order)
    if order > largest:
        raise ValueError(f"{name} must be at most {largest}, got {order}")
    return order
