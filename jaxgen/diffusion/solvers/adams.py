"""Adams-Bashforth solvers on the slope d = (x - D) / sigma: LMS, iPNDM and PNDM."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxgen.diffusion.solvers.base import Carry, Solver, first_order, positive_next
from jaxgen.diffusion.solvers.interpolate import combine, plain_moments, select_by_count, weights

ADAMS = [[1.0], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]


def _check_order(order: int) -> None:
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order must be 1, 2, 3 or 4, got {order}")


def _empty(x: Array, length: int) -> tuple[Array, ...]:
    return (jnp.zeros_like(x),) * length


def lms(order: int = 4) -> Solver:
    """The linear multistep method in sigma: the polynomial through the last slopes, integrated exactly.

        x' = x + (s' - s) sum_j w_j d_j,        w_j = integral of l_j over the step

    The first steps have as many slopes as there are; the slope is smooth at 0, so that the last step needs no care.

    Liu et al., "Pseudo numerical methods for diffusion models on manifolds" (2022); Adams and Bashforth (1883).
    """
    _check_order(order)

    def init(x):
        levels = tuple(-jnp.ones((), x.dtype) * (j + 1) for j in range(order - 1))
        return Carry(x, (_empty(x, order - 1), levels, jnp.zeros((), jnp.int32)))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (slopes, levels, count) = carry
        slope = (x - denoiser(x, sigma)) / sigma
        h = sigma_next - sigma
        nodes = [0.0, *[(level - sigma) / h for level in levels]]
        rows = [weights(nodes[: p + 1], plain_moments(order)) for p in range(order)]
        slopes, levels = (slope, *slopes), (sigma.astype(x.dtype), *levels)
        x = x + h * combine(select_by_count(count, rows), list(slopes))
        return Carry(x, (slopes[: order - 1], levels[: order - 1], count + 1))

    return Solver(init, step, order=order, nfe=1)


def ipndm(order: int = 4) -> Solver:
    """x' = x + (s' - s) (Adams-Bashforth average of the last slopes with the weights of equal steps).

    The average is of order `order` on a grid that is uniform in sigma and of second order on any other, because its
    weights do not know the steps; `lms` does.

    Liu et al. (2022); Zhang, Chen (2023), "improved PNDM" with lower-order first steps.
    """
    _check_order(order)

    def init(x):
        return Carry(x, (_empty(x, order - 1), jnp.zeros((), jnp.int32)))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (slopes, count) = carry
        slopes = ((x - denoiser(x, sigma)) / sigma, *slopes)
        row = select_by_count(count, ADAMS[:order])
        x = x + (sigma_next - sigma) * combine(row, list(slopes))
        return Carry(x, (slopes[: order - 1], count + 1))

    return Solver(init, step, order=min(order, 2), nfe=1)


def pndm() -> Solver:
    """iPNDM of order 4 whose first step is Heun's: n + 1 evaluations, the "PLMS" of latent diffusion.

    Liu et al. (2022), section 3.3; Rombach et al. (2022).
    """

    def init(x):
        return Carry(x, (_empty(x, 3), jnp.zeros((), jnp.int32)))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (slopes, count) = carry
        denoised = denoiser(x, sigma)
        slopes = ((x - denoised) / sigma, *slopes)
        row = select_by_count(count, ADAMS)

        def start(_):
            below = positive_next(sigma, sigma_next)
            euler_x = first_order(x, denoised, sigma, sigma_next)
            return (slopes[0] + (euler_x - denoiser(euler_x, below)) / below) / 2

        first = (count == 0) & (sigma_next > 0)
        average = jax.lax.cond(first, start, lambda _: combine(row, list(slopes)), None)
        return Carry(x + (sigma_next - sigma) * average, (slopes[:3], count + 1))

    return Solver(init, step, order=2, nfe=1)
