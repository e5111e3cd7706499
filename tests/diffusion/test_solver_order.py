"""Order of convergence of every solver, measured in float64 against an independent integrator."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from tests.diffusion.oracle import DETERMINISTIC, follow, log_grid, mixture, mixture_flow, padded, wave

START, STOP = 100.0, 0.1
X = np.linspace(-1.2 * START, 1.2 * START, 9)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def exact():
    return mixture_flow(X, START, STOP)


def measured_order(solver, exact, counts, x=X, start=START, stop=STOP, grid=log_grid):
    with jax.enable_x64(True):
        run = jax.jit(functools.partial(follow, solver, mixture))
        ends = [run(padded(grid(n, start, stop), max(counts) + 1), n, x[:, None]) for n in counts]
    errors = [np.sqrt(np.mean((np.asarray(end)[:, 0] - exact) ** 2)) for end in ends]
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_measured_order_is_the_nominal_one(name, exact):
    solver = DETERMINISTIC[name]
    counts = {"lms_4": (192, 640), "lms_3": (128, 384), "unipc_3": (96, 288)}.get(name, (64, 192))
    assert measured_order(solver, exact, counts) == pytest.approx(solver.order, abs=0.15)


def uneven_grid(n, start, stop):
    """Steps in log sigma that are long and short in turn, 2 : 1, so that a wrong step ratio costs an order."""
    lengths = np.where(np.arange(n) % 2, 1.0, 2.0)
    share = np.append(0.0, np.cumsum(lengths)) / lengths.sum()
    return np.exp(np.log(start) + share * (np.log(stop) - np.log(start)))


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_3m", "unipc_2", "lms_3"])
def test_multistep_solvers_keep_their_order_on_uneven_steps(name, exact):
    solver = DETERMINISTIC[name]
    counts = (192, 576) if name == "lms_3" else (96, 288)
    assert measured_order(solver, exact, counts, grid=uneven_grid) > solver.order - 0.15


def test_ipndm_has_its_full_order_on_a_grid_that_is_uniform_in_sigma():
    start, stop = 3.0, 2.0
    x = np.linspace(-4, 4, 9)
    grid = lambda n, a, b: np.linspace(a, b, n + 1)  # noqa: E731
    order = measured_order(d.ipndm(2), mixture_flow(x, start, stop), (16, 64), x, start, stop, grid)
    assert order == pytest.approx(2, abs=0.15)
    # Order 4 starts with steps of lower order, whose error of h^2 is all that is seen; LMS agrees with it to rounding.
    with jax.enable_x64(True):
        sigmas = np.linspace(start, stop, 17)
        solvers = (d.ipndm(), d.lms())
        both = jax.jit(lambda x: [d.sample(mixture, solver, sigmas, x, KEY) for solver in solvers])(x[:, None])
    np.testing.assert_allclose(*both, rtol=1e-12)


def test_the_third_order_method_needs_the_whole_curvature_term(exact):
    """Half of the curvature term, as in published code, is a method of second order; ours has the whole."""

    def half_curvature(denoiser, carry, sigma, sigma_next, noise_fn):
        x, (d1, d2, h1, h2, count) = carry
        d0, h = denoiser(x, sigma), jnp.log(sigma / sigma_next)
        phi2 = 1 + jnp.expm1(-h) / h
        phi3 = phi2 / h - 0.5
        r0, r1 = h1 / h, h2 / h
        first, second = (d0 - d1) / r0, (d1 - d2) / r1
        slope = first + (first - second) * r0 / (r0 + r1)
        curve = (first - second) / (r0 + r1)
        extra = jnp.where(count > 1, phi2 * slope - phi3 * curve, jnp.where(count > 0, phi2 * first, 0.0))
        x = sigma_next / sigma * x - jnp.expm1(-h) * d0 + extra
        return d.Carry(x, (d0, d1, h, h1, count + 1))

    def init(x):
        one = jnp.ones((), x.dtype)
        return d.Carry(x, (jnp.zeros_like(x), jnp.zeros_like(x), one, one, jnp.zeros((), jnp.int32)))

    assert measured_order(d.Solver(init, half_curvature, 3, 1), exact, (128, 512)) < 2.4
    assert measured_order(d.dpmpp_3m_sde(0.0), exact, (128, 512)) > 2.85


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m"])
def test_inversion_returns_the_input_to_the_solvers_order(name):
    solver, counts = DETERMINISTIC[name], (32, 96)
    with jax.enable_x64(True):
        x0 = np.linspace(-1.5, 1.5, 7)[:, None]
        # A grid that does not end in 0, so that the error is the solver's only.
        round_trip = jax.jit(lambda s: d.sample(mixture, solver, s, d.invert(mixture, solver, s, x0), KEY) - x0)
        errors = [float(jnp.max(jnp.abs(round_trip(log_grid(n, 20.0, 0.05))))) for n in counts]
    # Going up and down, a symmetric rule may lose less than its order says, never more.
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] > solver.order - 0.2


def test_inversion_leaves_a_last_level_of_zero_out_whether_the_grid_is_traced_or_not():
    x0, grid = np.linspace(-1.5, 1.5, 7, dtype=np.float32)[:, None], np.geomspace(20.0, 0.05, 9, dtype=np.float32)
    ends_in_zero = np.append(grid, np.float32(0))
    invert = lambda sigmas: d.invert(wave, d.dpmpp_2m(), sigmas, x0)  # noqa: E731
    wanted, known = jax.jit(lambda: [invert(grid), invert(ends_in_zero)])()
    traced, traced_above_zero = jax.jit(lambda *grids: [invert(sigmas) for sigmas in grids])(ends_in_zero, grid)
    for name, found in {"known": known, "traced": traced, "traced, above 0": traced_above_zero}.items():
        np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=name)
