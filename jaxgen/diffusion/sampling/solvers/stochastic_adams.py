"""SA-Solver: a stochastic Adams predictor, corrected by the evaluation of the next step."""

from typing import Any

import jax.numpy as jnp

from jaxgen.core.checks import check_not_negative, concrete, is_zero
from jaxgen.diffusion.sampling.solvers.base import Carry, Solver, check_order, positive_next
from jaxgen.diffusion.sampling.solvers.dpm import damped_first_order, empty_history, push, reach, sde_noise
from jaxgen.diffusion.sampling.solvers.interpolate import combine, exponential_moments, select_by_count, weights


def sa_solver(
    tau: Any = 1.0,
    *,
    predictor_order: int = 2,
    corrector_order: int = 2,
    lo: Any = 0.0,
    hi: Any = float("inf"),
    noise_scale: Any = 1.0,
) -> Solver:
    """SA-Solver: one evaluation per step, for the reverse SDE with tau times its noise; k = (1 + tau²) h:

        predict   x' = (s' / s) e^(-tau² h) x + sum_j w_j D_j + s' sqrt(1 - e^(-2 tau² h)) z
        correct   x' + sum_j v_j D_j - sum_j w_j D_j                      over D at the predicted x' and before

    w and v are the integrals over the step of k e^(-k (1 - u)) times the Lagrange polynomials of the evaluations.
    The step into 0 is of first order, and so is the predictor of a step of more than 2.5 times the length of the last.

    Args:
        tau: 0 is deterministic, 1 the reverse SDE; may be traced.
        predictor_order: 1 to 3, how many evaluations w is over.
        corrector_order: 1 to 4, how many v is over, the newest one among them; without noise the method is of order
            min(predictor_order + 1, corrector_order).
        lo, hi: noise levels between which tau acts, 0 outside; the paper's images have 0.05 and 1.
        noise_scale: factor on the drawn noise.

    Raises:
        ValueError: a negative tau or noise_scale, lo above hi, or an order out of range.

    The published code replaces the weights of order 2 by others of the same order; here they are the equation's.

    Reference: Xue et al., "SA-Solver: stochastic Adams solver for fast sampling of diffusion models", 2023,
    arXiv:2309.05019, algorithm 1
    """
    check_not_negative("tau", tau)
    check_not_negative("noise_scale", noise_scale)
    low, high = concrete(lo), concrete(hi)
    if low is not None and high is not None and not low <= high:
        raise ValueError(f"lo must not be above hi, or tau never acts; got lo {lo}, hi {hi}")
    past = check_order(predictor_order, 3, name="predictor_order")
    nodes = check_order(corrector_order, 4, name="corrector_order")

    def rows(at, lengths, h, rate):
        """The weights over more and more evaluations: the first ones are `at`, others one length after the other."""
        for length in lengths:
            at = [*at, at[-1] - length / h]
        moments = exponential_moments(rate * h, len(at))
        return [weights(at[: p + 1], moments) for p in range(len(at))]

    def init(x):
        history = empty_history(x, max(past, nodes))
        return Carry(x, (history, jnp.zeros_like(x), jnp.ones_like(history.h[0])))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (history, body, rate) = carry
        denoised = denoiser(x, sigma)
        corrector = rows([1.0, 0.0][:nodes], history.h[1 : nodes - 1], history.h[0], rate)
        row = select_by_count(history.count, corrector)
        corrected = combine(row, [denoised, *history.denoised[: nodes - 1]])
        x = jnp.where(history.count > 0, x + (corrected - body), x)

        squared = jnp.where((sigma >= lo) & (sigma <= hi), tau, 0.0) ** 2
        h = jnp.log(sigma / positive_next(sigma, sigma_next))
        decay, _ = damped_first_order(sigma, sigma_next, squared)
        predictor = rows([0.0], history.h[: past - 1], h, 1 + squared)
        row = select_by_count(reach(history, h), predictor)
        body = combine(row, [denoised, *history.denoised[: past - 1]])
        result = jnp.where(sigma_next > 0, decay * x + body, denoised)
        if not is_zero(tau):
            result = result + sde_noise(sigma_next, h, squared, noise_scale, noise_fn)
        rate = (1 + squared).astype(rate.dtype)
        return Carry(result, (push(history, denoised, h), body, rate))

    return Solver(init, step, order=min(past + 1, nodes), nfe=1, draws=0 if is_zero(tau) else 1)
