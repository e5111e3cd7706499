"""DPM-Solver++ multistep solvers, which keep past denoised samples in their carry.

Constant or polynomial D in lambda = -log sigma, with h = lambda' - lambda = log(s / s').
All start with a first-order step, and take one into 0, where lambda is infinite.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxgen.core.checks import check_not_negative, choose, is_zero
from jaxgen.diffusion.sampling.solvers.base import Carry, Solver, check_order, positive_next, safe_sqrt
from jaxgen.diffusion.sampling.solvers.interpolate import combine, exponential_moments, select_by_count, weights

SLOPE_WEIGHTS = {"midpoint": lambda k, pull: pull / 2, "heun": lambda k, pull: exponential_moments(k, 2)[1]}
"""c of `dpmpp_2m_sde` by kind, from k and 1 - e^(-k)."""
HALF_STEPS = {"bh1": lambda h: h / 2, "bh2": lambda h: -jnp.expm1(-h) / 2}
"""B(h) / 2 of `unipc` by kind."""


class History(NamedTuple):
    """Past denoised samples and step lengths, newest first, and how many of them are real."""

    denoised: tuple[Array, ...]  # each [B, ...]
    h: tuple[Array, ...]  # each []
    count: Array  # int32 []


def empty_history(x: Array, length: int) -> History:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    # A buffer each, so that a carry can be donated.
    denoised = tuple(jnp.zeros_like(x) for _ in range(length))
    return History(denoised, tuple(jnp.ones((), wide) for _ in range(length)), jnp.zeros((), jnp.int32))


def reach(history: History, h: Array) -> Array:
    """How many past steps an extrapolation over a step h may use: none where it is more than 2.5 times the last one.

    A parabola through near points says nothing far away. The last step of a "leading" or "linspace" grid is such a
    one, from an index of 20, say, to 0.
    """
    return jnp.where(jnp.abs(h) > 2.5 * jnp.abs(history.h[0]), 0, history.count)


def push(history: History, denoised: Array, h: Array) -> History:
    return History(
        (denoised, *history.denoised[:-1]), (h.astype(history.h[0].dtype), *history.h[:-1]), history.count + 1
    )


def dpmpp_2m() -> Solver:
    """DPM-Solver++(2M): one evaluation per step, second order.

        x' = (s' / s) x + (1 - s' / s) ((1 + 1 / (2 r)) D - 1 / (2 r) D_prev),        r = h_prev / h

    Reference: Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022,
    arXiv:2211.01095, algorithm 2

    Example:
        >>> from jaxgen import diffusion
        >>> solver = diffusion.dpmpp_2m()
        >>> solver.order, solver.nfe, solver.draws
        (2, 1, 0)
    """
    return dpmpp_2m_sde(eta=0.0)


def dpmpp_2m_sde(eta: Any = 1.0, *, kind: str = "midpoint", noise_scale: Any = 1.0) -> Solver:
    """DPM-Solver++(2M) for the SDE with eta times the noise of the reverse diffusion; k = (1 + eta) h:

        x' = (s' / s) e^(-eta h) x + (1 - e^(-k)) D + c (D - D_prev) / r + s' sqrt(1 - e^(-2 eta h)) z
        c = (1 - e^(-k)) / 2  for "midpoint",      c = 1 - (1 - e^(-k)) / k  for "heun"

    Args:
        eta: 0 is the deterministic 2M, 1 the reverse SDE; may be traced.
        kind: "midpoint" or "heun", how the slope of D enters.
        noise_scale: factor on the drawn noise.

    Reference: Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022,
    arXiv:2211.01095, section 5

    Reference: Zhang, Chen, "Fast sampling of diffusion models with exponential integrator", 2023, arXiv:2204.13902, for
    the family of SDEs

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.dpmpp_2m_sde(0.5).draws
        1
    """
    check_not_negative("eta", eta)
    check_not_negative("noise_scale", noise_scale)
    slope_weight = choose("kind", kind, SLOPE_WEIGHTS)

    def init(x):
        return Carry(x, empty_history(x, 1))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, history = carry
        denoised = denoiser(x, sigma)
        below = positive_next(sigma, sigma_next)
        h = jnp.log(sigma / below)
        decay, pull = damped_first_order(sigma, sigma_next, eta)
        k = (1 + eta) * h
        slope = slope_weight(k, pull)
        slope = jnp.where((history.count > 0) & (sigma_next > 0), slope * h / history.h[0], 0.0)
        result = decay * x + pull * denoised + slope * (denoised - history.denoised[0])
        result = result + sde_noise(sigma_next, h, eta, noise_scale, noise_fn)
        return Carry(result, push(history, denoised, h))

    return Solver(init, step, order=2, nfe=1, draws=0 if is_zero(eta) else 1)


def dpmpp_3m_sde(eta: Any = 1.0, *, noise_scale: Any = 1.0) -> Solver:
    """The third-order multistep solver: D is the parabola through its last three values, integrated exactly.

        x' = (s' / s) e^(-eta h) x + sum_j w_j D_j + s' sqrt(1 - e^(-2 eta h)) z
        w_j = integral over the step of (1 + eta) e^(-(1 + eta)(lambda' - lambda)) l_j(lambda) dlambda

    In the usual phi-function form the curvature term is 2 (phi_2 / k - 1/2) times the second divided difference.
    Published code drops the 2, which leaves a method of second order. A step of more than 2.5 times the length of the
    last one is of first order.

    Args:
        eta: 0 is deterministic (3M), 1 the reverse SDE; may be traced.
        noise_scale: factor on the drawn noise.

    Reference: Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022,
    arXiv:2211.01095

    Reference: Hochbruck, Ostermann, "Exponential integrators", 2010, for the weights, which are those of an exponential
    Adams-Bashforth method
    """
    check_not_negative("eta", eta)
    check_not_negative("noise_scale", noise_scale)

    def init(x):
        return Carry(x, empty_history(x, 2))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, history = carry
        denoised = denoiser(x, sigma)
        below = positive_next(sigma, sigma_next)
        h = jnp.log(sigma / below)
        decay, pull = damped_first_order(sigma, sigma_next, eta)
        moments = exponential_moments((1 + eta) * h, 3)
        nodes = [0.0, -history.h[0] / h, -(history.h[0] + history.h[1]) / h]
        rows = [[pull], weights(nodes[:2], moments), weights(nodes, moments)]
        row = select_by_count(jnp.where(sigma_next > 0, reach(history, h), 0), rows)
        result = decay * x + combine(row, [denoised, *history.denoised])
        result = result + sde_noise(sigma_next, h, eta, noise_scale, noise_fn)
        return Carry(result, push(history, denoised, h))

    return Solver(init, step, order=3, nfe=1, draws=0 if is_zero(eta) else 1)


def damped_first_order(sigma: Array, sigma_next: Array, eta: Any) -> tuple[Array, Array]:
    """(decay, pull) = ((s' / s)^(1 + eta), 1 - decay), exact at s' = 0 too."""
    ratio = sigma_next / sigma
    if is_zero(eta):
        return ratio, 1 - ratio
    decay = jnp.where(ratio > 0, jnp.where(ratio > 0, ratio, 1.0) ** (1 + eta), 0.0)
    return decay, 1 - decay


def sde_noise(sigma_next: Array, h: Array, eta: Any, noise_scale: Any, noise_fn: Any) -> Array | float:
    if is_zero(eta):
        return 0.0
    return sigma_next * safe_sqrt(-jnp.expm1(-2 * eta * h)) * noise_scale * noise_fn()


def unipc(order: int = 2, *, kind: str = "bh2") -> Solver:
    """UniPC: a multistep predictor, corrected by the evaluation of the next step, so that the corrector is free.

        predict   x' = (s' / s) x + sum_j w_j D_j                              over D_i, D_(i-1), ..
        correct   x  = (s / s_prev) x_prev + sum_j v_j D_j                     over D_i (at the predicted x) and before

    with exponential Adams weights w, v. Where only one difference enters (the predictor of order 2, the corrector of
    order 1) the paper's weight B(h) / 2 is used: B = 1 - e^(-h) for "bh2", h for "bh1".

    Args:
        order: 1, 2 or 3, of the predictor; with the corrector the method is one order better. With 3, the predictor
            of a step of more than 2.5 times the length of the last one is of first order.
        kind: "bh2" or "bh1".

    Reference: Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models",
    2023, arXiv:2302.04867, algorithms 5 and 6

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.unipc().order, diffusion.unipc(3).order
        (3, 4)
    """
    order = check_order(order, 3)
    half = choose("kind", kind, HALF_STEPS)

    def predictor_rows(h, history):
        moments = exponential_moments(h, 3)
        nodes, position = [0.0], 0.0
        for past in history.h[: order - 1]:
            position = position - past / h
            nodes.append(position)
        rows = [[moments[0]]]
        if order > 1:
            slope = half(h) / -nodes[1]
            rows.append([moments[0] + slope, -slope])
        if order > 2:
            rows.append(weights(nodes, moments))
        return rows

    def corrector_rows(history):
        h = history.h[0]
        moments = exponential_moments(h, 4)
        nodes, position = [1.0, 0.0], 0.0
        for past in history.h[1:order]:
            position = position - past / h
            nodes.append(position)
        rows = [[half(h), moments[0] - half(h)]]
        return rows + [weights(nodes[: p + 1], moments) for p in range(2, order + 1)]

    def init(x):
        history = empty_history(x, order)
        return Carry(x, (history, jnp.zeros_like(x), jnp.zeros_like(x)))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (history, x_prev, predicted) = carry
        denoised = denoiser(x, sigma)
        # What was changed after the prediction (known pixels put back, say) stays: only the difference is added.
        row = select_by_count(history.count - 1, corrector_rows(history))
        corrected = jnp.exp(-history.h[0]) * x_prev + combine(row, [denoised, *history.denoised])
        x = jnp.where(history.count > 0, x + (corrected - predicted), x)
        h = jnp.log(sigma / positive_next(sigma, sigma_next))
        count = history.count if order < 3 else reach(history, h)
        row = select_by_count(count, predictor_rows(h, history))
        into_zero = sigma_next == 0
        body = combine(row, [denoised, *history.denoised[: order - 1]])
        result = jnp.where(into_zero, denoised, jnp.exp(-h) * x + body)
        return Carry(result, (push(history, denoised, h), x, result))

    return Solver(init, step, order=order + 1, nfe=1, draws=0)
