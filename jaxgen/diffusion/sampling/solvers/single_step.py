"""Solvers without history: Euler, Heun, RK4, DDIM, DDPM, DPM-Solver-2 and DPM-Solver++(2S), consistency sampling."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core.checks import check_fraction, check_not_negative, is_zero
from jaxgen.diffusion.sampling.solvers.base import (
    Carry,
    Solver,
    ancestral_split,
    check_eta,
    far,
    first_order,
    positive_next,
    safe_sqrt,
    stateless,
    trapezoid,
)
from jaxgen.diffusion.sampling.solvers.flow_time import moved_by


def euler() -> Solver:
    """x' = (s' / s) x + (1 - s' / s) D: Euler's method in sigma, which is DDIM without noise.

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.euler().order
        1
    """

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        return Carry(first_order(carry.x, denoiser(carry.x, sigma), sigma, sigma_next))

    return Solver(stateless, step, order=1, nfe=1, draws=0)


def heun(
    churn: Any = 0.0, *, churn_min: Any = 0.0, churn_max: Any = float("inf"), noise_scale: Any = 1.0
) -> Solver:
    """The trapezoid rule in sigma, after noise that lifts sigma to (1 + churn) sigma.

        x_e = first-order step,        x' = x_e + (s / s' - 1) / 2 (D(x_e, s') - D(x, s))

    The step into 0 is the first-order one and evaluates once, so that n steps take 2 n - 1 evaluations. A step from a
    level that stands for infinity is Heun's in s / (1 + s); for all of them in this variable see `in_flow_time`.

    Args:
        churn: EDM's gamma = S_churn / n, at most sqrt(2) - 1; 0 is deterministic.
        churn_min, churn_max: EDM's S_tmin and S_tmax; noise is added only at levels between them.
        noise_scale: EDM's S_noise.

    Raises:
        ValueError: a negative churn or noise_scale.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    arXiv:2206.00364, algorithm 2; `jaxgen.diffusion.sampling` has it written whole

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.heun().draws, diffusion.heun(churn=40 / 256, churn_min=0.05, churn_max=50.0).draws
        (0, 1)
    """
    check_not_negative("churn", churn)
    check_not_negative("noise_scale", noise_scale)

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x = carry.x
        if not is_zero(churn):
            inside = (sigma >= churn_min) & (sigma <= churn_max)
            gamma = jnp.where(inside, jnp.minimum(churn, 2**0.5 - 1), 0.0)
            x = x + sigma * safe_sqrt((1 + gamma) ** 2 - 1) * noise_scale * noise_fn()
            sigma = sigma * (1 + gamma)
        return Carry(trapezoid(denoiser, x, denoiser(x, sigma), sigma, sigma_next))

    return Solver(stateless, step, order=2, nfe=2, draws=0 if is_zero(churn) else 1)


def rk4() -> Solver:
    """The classical Runge-Kutta method in sigma; the step into 0 is the first-order one.

    A step from a level that stands for infinity is the same method in s / (1 + s).
    """

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x = carry.x
        denoised = denoiser(x, sigma)

        def full(_):
            below = positive_next(sigma, sigma_next)
            h, middle = below - sigma, (sigma + below) / 2
            k1 = (x - denoised) / sigma
            x2 = x + h / 2 * k1
            k2 = (x2 - denoiser(x2, middle)) / middle
            x3 = x + h / 2 * k2
            k3 = (x3 - denoiser(x3, middle)) / middle
            x4 = x + h * k3
            k4 = (x4 - denoiser(x4, below)) / below
            return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

        return Carry(jax.lax.cond(sigma_next > 0, full, lambda _: first_order(x, denoised, sigma, sigma_next), None))

    return moved_by(far, Solver(stateless, step, order=4, nfe=4, draws=0))


def kdpm2(eta: Any = 0.0) -> Solver:
    """DPM-Solver-2: the slope at the geometric middle of the step, two evaluations; with eta > 0 its ancestral form.

        m = sqrt(s s'),   u = (m / s) x + (1 - m / s) D(x, s),   x' = x + (s' - s) (u - D(u, m)) / m

    where s' is `down` of the ancestral split and noise `up` is added after. The step into 0 is first order, and one
    from a level that stands for infinity is this rule in s / (1 + s).

    Args:
        eta: fraction of the ancestral noise, in [0, 1]; may be traced.

    Reference: Lu et al., "DPM-Solver: a fast ODE solver for diffusion probabilistic model sampling in around 10 steps",
    2022, arXiv:2206.00927, algorithm 1, for noise levels in place of times
    """
    check_eta(eta)

    def rule(denoiser, carry, sigma, down, noise_fn):
        x = carry.x
        denoised = denoiser(x, sigma)
        x_down = first_order(x, denoised, sigma, down)

        def midpoint(_):
            middle = jnp.sqrt(sigma * positive_next(sigma, down))
            at_middle = denoiser(first_order(x, denoised, sigma, middle), middle)
            # The same as above, without the difference of two large numbers.
            return x_down + (sigma - down) / middle * (at_middle - denoised)

        return Carry(jax.lax.cond(down > 0, midpoint, lambda _: x_down, None))

    moved = moved_by(far, Solver(stateless, rule, order=2, nfe=2, draws=0))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        down, up = ancestral_split(sigma, sigma_next, eta)
        x = moved.step(denoiser, carry, sigma, down, noise_fn).x
        return Carry(x if is_zero(eta) else x + up * noise_fn())

    return moved._replace(step=step, draws=0 if is_zero(eta) else 1)


def kdpm2_ancestral(eta: Any = 1.0) -> Solver:
    """`kdpm2(eta)` under its other name."""
    return kdpm2(eta)


def ddim(eta: Any = 0.0) -> Solver:
    """x' = D + down (x - D) / s + up z,  down² + up² = s'²,  up = eta s' sqrt(1 - s'² / s²).

    In the variance-exploding variable DDIM, Euler-ancestral and (eta = 1) the DDPM posterior are this one formula;
    eta = 0 is Euler. The noise that is taken out of the direction is exactly the noise that is drawn.

    Args:
        eta: fraction of the ancestral noise, in [0, 1]; may be traced.

    Reference: Song, Meng, Ermon, "Denoising diffusion implicit models", 2021, arXiv:2010.02502, equations 12 and 16

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.ddim().draws, diffusion.ddim(eta=0.5).draws
        (0, 1)
    """
    check_eta(eta)

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        denoised = denoiser(carry.x, sigma)
        down, up = ancestral_split(sigma, sigma_next, eta)
        x = first_order(carry.x, denoised, sigma, down)
        return Carry(x if is_zero(eta) else x + up * noise_fn())

    return Solver(stateless, step, order=1, nfe=1, draws=0 if is_zero(eta) else 1)


def euler_ancestral(eta: Any = 1.0) -> Solver:
    """Euler to the level `down`, then noise back up to s'; identical with `ddim(eta)`, under its other name."""
    return ddim(eta)


def ddpm(variance: Any = 0.0) -> Solver:
    """The ancestral sampler of a variance-preserving model: posterior mean plus noise.

        x' = (s'² / s²) x + (1 - s'² / s²) D + std z,      std² = posterior^(1 - v) forward^v
        posterior = s'² (s² - s'²) / s²,      forward = (s² - s'²) (1 + s'²) / (1 + s²)

    Args:
        variance: v in [0, 1]: 0 the posterior's ("fixed small"), 1 that of the forward step, beta ("fixed large").
            The step into 0 draws no noise.

    Reference: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, arXiv:2006.11239, equations 6 and 7,
    in the variable x / alpha
    """
    check_fraction("variance", variance)

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        denoised = denoiser(carry.x, sigma)
        below = positive_next(sigma, sigma_next)
        keep = (sigma_next / sigma) ** 2
        gap = sigma**2 - below**2
        # xt = x / sqrt(1 + s'²) has variance beta = gap / (1 + s²); x has (1 + s'²) times as much.
        posterior = jnp.log(below**2 / sigma**2 * gap)
        forward = jnp.log(gap * (1 + below**2) / (1 + sigma**2))
        std = jnp.where(sigma_next > 0, jnp.exp(((1 - variance) * posterior + variance * forward) / 2), 0.0)
        return Carry(keep * carry.x + (1 - keep) * denoised + std * noise_fn())

    return Solver(stateless, step, order=1, nfe=1, draws=1)


def dpmpp_2s(eta: Any = 0.0) -> Solver:
    """DPM-Solver++(2S): the midpoint rule in log sigma, two evaluations; with eta > 0 its ancestral form.

        m = sqrt(s s'),   u = (m / s) x + (1 - m / s) D(x, s),   x' = (s' / s) x + (1 - s' / s) D(u, m)

    where s' is `down` of the ancestral split and noise `up` is added after. The step into 0 is first order.

    Reference: Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022,
    arXiv:2211.01095, algorithm 1
    """
    check_eta(eta)

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x = carry.x
        down, up = ancestral_split(sigma, sigma_next, eta)
        denoised = denoiser(x, sigma)

        def midpoint(_):
            middle = jnp.sqrt(sigma * positive_next(sigma, down))
            u = first_order(x, denoised, sigma, middle)
            return first_order(x, denoiser(u, middle), sigma, down)

        x = jax.lax.cond(down > 0, midpoint, lambda _: first_order(x, denoised, sigma, down), None)
        return Carry(x if is_zero(eta) else x + up * noise_fn())

    return Solver(stateless, step, order=2, nfe=2, draws=0 if is_zero(eta) else 1)


def consistency(sigma_min: Any = 0.002) -> Solver:
    """Multistep consistency sampling: jump to x0, then noise it again.

        x' = f(x, s) + sqrt(max(s'² - sigma_min², 0)) z;      into 0: x' = f(x, s)

    Args:
        sigma_min: the level at which the consistency function is the identity.

    The denoiser passed to `sample` is the consistency function f(x, sigma) -> x0.

    Reference: Song, Dhariwal, Chen, Sutskever, "Consistency models", 2023, arXiv:2303.01469, algorithm 1
    """
    check_not_negative("sigma_min", sigma_min)

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        std = safe_sqrt(sigma_next**2 - jnp.minimum(sigma_min, sigma_next) ** 2)
        return Carry(denoiser(carry.x, sigma) + std * noise_fn())

    return Solver(stateless, step, order=1, nfe=1, draws=1)
