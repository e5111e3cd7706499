"""Adams-Bashforth solvers on the slope d = (x - D) / sigma: LMS, DEIS, iPNDM and PNDM.

All of them take a `far` step, from a level that stands for infinity or up to one, in first order: past slopes tell
nothing about it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgen.diffusion.sampling.solvers.base import Carry, Solver, check_order, far, positive_next, trapezoid
from jaxgen.diffusion.sampling.solvers.interpolate import combine, plain_moments, select_by_count, weights

ADAMS = [[1.0], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]
_NODES, _SHARES = np.polynomial.legendre.leggauss(16)


def _empty(x: Array, length: int) -> tuple[Array, ...]:
    return tuple(jnp.zeros_like(x) for _ in range(length))  # a buffer each, so that a carry can be donated


def _advance(denoised: Array, sigma: Array, sigma_next: Array, row: list[Array], slopes: tuple[Array, ...]) -> Array:
    """x + (s' - s) sum_j w_j d_j, with D + s d_0 for x: x itself may be too large to keep the digits of the result."""
    h = sigma_next - sigma
    return denoised + combine([sigma_next + h * (row[0] - 1), *(h * w for w in row[1:])], slopes)


def _multistep(order: int, time: Callable[[Array], Array], moments: Callable, into_zero: bool) -> Solver:
    """The polynomial in `time` through the slopes of the last levels, integrated over sigma.

    Args:
        order: how many slopes.
        time: of a level.
        moments: (sigma, sigma_next) -> the averages over the step of u^k, u = 0 .. 1 the step in time.
        into_zero: whether the step into 0 is taken like others, not in first order.
    """

    def init(x):
        levels = tuple(jnp.zeros((), x.dtype) for _ in range(order - 1))
        return Carry(x, (_empty(x, order - 1), levels, jnp.zeros((), jnp.int32)))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (slopes, levels, count) = carry
        denoised = denoiser(x, sigma)
        slopes = ((x - denoised) / sigma, *slopes)
        first = far(sigma, sigma_next) | ((sigma_next == 0) & (not into_zero))
        end = sigma_next if into_zero else positive_next(sigma, sigma_next)
        start = time(sigma)
        # Levels that are not there yet get one of their own, so that rows which are not chosen are finite too.
        known = [jnp.where(count > j, level, (j + 2) * sigma) for j, level in enumerate(levels)]
        nodes = [0.0, *[(time(level) - start) / (time(end) - start) for level in known]]
        averages = moments(sigma, end)
        rows = [[1.0], *(weights(nodes[: p + 1], averages) for p in range(1, order))]
        row = select_by_count(jnp.where(first, 0, count), rows)
        x = _advance(denoised, sigma, sigma_next, row, slopes)
        levels = (sigma.astype(x.dtype), *levels)
        return Carry(x, (slopes[: order - 1], levels[: order - 1], count + 1))

    return Solver(init, step, order=order, nfe=1, draws=0)


def lms(order: int = 4) -> Solver:
    """The linear multistep method in sigma: the polynomial through the last slopes, integrated exactly.

        x' = x + (s' - s) sum_j w_j d_j,        w_j = integral of l_j over the step

    The first steps have as many slopes as there are; the slope is smooth at 0, so that the last step needs no care.

    Reference: Liu, Ren, Lin, Zhao, "Pseudo numerical methods for diffusion models on manifolds", 2022, arXiv:2202.09778
    """
    order = check_order(order, 4)
    return _multistep(order, lambda sigma: sigma, lambda s, s_next: plain_moments(order), into_zero=True)


def deis(order: int = 3, *, time: Callable[[Array], Array] = jnp.log) -> Solver:
    """DEIS: the polynomial in time through the last slopes, integrated over sigma exactly ("tAB-DEIS").

        x' = x + sum_j c_j d_j,        c_j = integral from s to s' of l_j(time(sigma)) dsigma

    The first steps have as many slopes as there are, and the step into 0 is of first order.

    Args:
        order: 1, 2 or 3.
        time: of a noise level, strictly monotone; the polynomials are in it. The default is log sigma ("log rho");
            `schedule.time` is the paper's, of the schedule that the network was trained on. In sigma itself this is
            `lms`.

    Raises:
        ValueError: an order outside 1, 2, 3, or a time that is no function.

    Reference: Zhang, Chen, "Fast sampling of diffusion models with exponential integrator", 2023, arXiv:2204.13902,
    equations 14 and 15
    """
    order = check_order(order, 3)
    if not callable(time):
        raise ValueError(f"time must be a function of the noise level, such as jnp.log or schedule.time, got {time!r}")

    def moments(sigma, sigma_next):
        # Gauss-Legendre over log sigma, in which the integrand is smooth.
        length = jnp.log(sigma_next / sigma)
        at, share = jnp.asarray((_NODES + 1) / 2, sigma.dtype), jnp.asarray(_SHARES / 2, sigma.dtype)
        levels = sigma * jnp.exp(length * at)
        density = share * levels * length / (sigma_next - sigma)
        u = (time(levels) - time(sigma)) / (time(sigma_next) - time(sigma))
        return [jnp.sum(density * u**k) for k in range(order)]

    return _multistep(order, time, moments, into_zero=False)


def ipndm(order: int = 4) -> Solver:
    """x' = x + (s' - s) (Adams-Bashforth average of the last slopes with the weights of equal steps).

    The average is of order `order` on a grid that is uniform in sigma and of second order on any other, because its
    weights do not know the steps; `lms` does.

    Reference: Liu, Ren, Lin, Zhao, "Pseudo numerical methods for diffusion models on manifolds", 2022, arXiv:2202.09778

    Reference: Zhang, Chen, "Fast sampling of diffusion models with exponential integrator", 2023, arXiv:2204.13902,
    "improved PNDM" with first steps of lower order
    """
    order = check_order(order, 4)

    def init(x):
        return Carry(x, (_empty(x, order - 1), jnp.zeros((), jnp.int32)))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (slopes, count) = carry
        denoised = denoiser(x, sigma)
        slopes = ((x - denoised) / sigma, *slopes)
        row = select_by_count(jnp.where(far(sigma, sigma_next), 0, count), ADAMS[:order])
        x = _advance(denoised, sigma, sigma_next, row, slopes)
        return Carry(x, (slopes[: order - 1], count + 1))

    return Solver(init, step, order=min(order, 2), nfe=1, draws=0)


def pndm() -> Solver:
    """iPNDM of order 4 whose first step is Heun's: n + 1 evaluations, the "PLMS" of latent diffusion.

    Reference: Liu, Ren, Lin, Zhao, "Pseudo numerical methods for diffusion models on manifolds", 2022,
    arXiv:2202.09778, section 3.3

    Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022, arXiv:2112.10752
    """

    def init(x):
        return Carry(x, (_empty(x, 3), jnp.zeros((), jnp.int32)))

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (slopes, count) = carry
        denoised = denoiser(x, sigma)
        slopes = ((x - denoised) / sigma, *slopes)

        def further(_):
            row = select_by_count(jnp.where(far(sigma, sigma_next), 0, count), ADAMS)
            return _advance(denoised, sigma, sigma_next, row, slopes)

        first = (count == 0) & (sigma_next > 0)
        x = jax.lax.cond(first, lambda _: trapezoid(denoiser, x, denoised, sigma, sigma_next), further, None)
        return Carry(x, (slopes[:3], count + 1))

    return Solver(init, step, order=2, nfe=1, draws=0)
