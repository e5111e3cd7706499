"""Every solver on every grid, those that start at infinite noise among them, against the exact Gaussian denoiser."""

import functools
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from tests.diffusion.oracle import ALL, STOCHASTIC, VARIANTS, gaussian, mixture, mixture_flow

MEAN, STD = 0.4, 0.5
ZERO_SNR = d.rescale_zero_terminal_snr(d.scaled_linear())
GRIDS = {
    "flow": lambda n: d.uniform_sigmas(d.flow(), n),
    "flow, shift 3": lambda n: d.uniform_sigmas(d.flow(shift=3.0), n),
    "trigonometric": lambda n: d.uniform_sigmas(d.trigonometric(), n),
    "sigmoid": lambda n: d.uniform_sigmas(d.sigmoid(), n),
    "zero terminal SNR": lambda n: d.spaced_sigmas(ZERO_SNR, n),
    "cosine": lambda n: d.spaced_sigmas(d.cosine(), n),
    "linear": lambda n: d.spaced_sigmas(d.linear(), n),
    "linear, leading": lambda n: d.spaced_sigmas(d.linear(), n, spacing="leading"),
    "karras": lambda n: d.karras_sigmas(n),
}
NAMES = [name for name in ALL if name not in VARIANTS and name != "consistency"]
KEY = jax.random.key(0)


def outcome(solver, grids, stochastic):
    """[G] the mean and std of samples, without sampling: x_end = m + a x_start + sum of b z is linear in its inputs.

    m is a run with all inputs 0, every other coefficient one with one input 1.
    """

    def run(sigmas, index):
        noise = lambda step, stream: jnp.where(index == 1 + step, 1.0, 0.0)[None, None]  # noqa: E731
        start = jnp.where(index == 0, sigmas[0], 0.0)[None, None]
        return d.integrate(gaussian(MEAN, STD), solver, sigmas, start, noise)[0, 0]

    inputs = jnp.arange(-1, grids.shape[1] if stochastic else 1)
    ends = jax.jit(jax.vmap(lambda sigmas: jax.vmap(lambda index: run(sigmas, index))(inputs)))(grids)
    ends = np.asarray(ends, np.float64)
    return ends[:, 0], np.sqrt(((ends[:, 1:] - ends[:, :1]) ** 2).sum(1))


@functools.cache
def made(n, kinds):
    """[len(kinds), n + 1]."""
    return np.asarray(jax.jit(lambda: jnp.stack([GRIDS[kind](n) for kind in kinds]))())


def check(name, counts, kinds):
    for n in counts:
        grids = made(n, tuple(kinds))
        mean, std = outcome(ALL[name], grids, name in STOCHASTIC)
        # The exact flow down to the last level above 0 and a step into 0 from there is narrower than the data, by the
        # grid's fault.
        first, last = np.asarray(grids[:, 0], np.float64), np.asarray(grids[:, -2], np.float64)
        reached = STD**2 * first / np.sqrt((STD**2 + first**2) * (STD**2 + last**2))
        low, high = 0.9 * reached / STD, 1.1
        wrong = (std / STD < low) | (std / STD > high) | (np.abs(mean - MEAN) > 0.01)
        assert not wrong.any(), {k: (n, std[i] / STD, mean[i]) for i, k in enumerate(kinds) if wrong[i]}


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_datas_std_and_mean_from_every_grid(name):
    if name in STOCHASTIC or ALL[name].order == 1:
        return check(name, [96], list(GRIDS))
    # A "leading" grid ends in one long step, over which second-order multistep methods overshoot at this count.
    check(name, [24], [kind for kind in GRIDS if kind != "linear, leading"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if name != "consistency"])
def test_samples_have_the_datas_std_and_mean_from_every_grid_of_many_counts(name):
    few = name not in STOCHASTIC and ALL[name].order > 1
    check(name, [24, 32, 50] if few else [96], [kind for kind in GRIDS if kind != "linear, leading"])
    check(name, [96, 200], list(GRIDS))


def algorithm_2(denoiser, sigmas, x, noise, churn, low, high, s_noise):
    """Karras et al. (2022), algorithm 2, line by line in NumPy; t_i are the noise levels."""
    n = len(sigmas) - 1
    for i in range(n):
        t, t_next = sigmas[i], sigmas[i + 1]
        gamma = min(churn / n, np.sqrt(2) - 1) if low <= t <= high else 0.0
        t_hat = t + gamma * t
        x_hat = x + np.sqrt(t_hat**2 - t**2) * s_noise * noise[i]
        slope = (x_hat - denoiser(x_hat, t_hat)) / t_hat
        x = x_hat + (t_next - t_hat) * slope
        if t_next != 0:
            slope_next = (x - denoiser(x, t_next)) / t_next
            x = x_hat + (t_next - t_hat) * (slope + slope_next) / 2
    return x


@pytest.mark.parametrize(("n", "top"), [(18, 80.0), (5, 80.0), (10, 700.0)])
def test_heun_on_karras_grids_is_algorithm_2_of_edm(n, top):
    with jax.enable_x64(True):
        sigmas = np.asarray(jax.jit(lambda: d.karras_sigmas(n, 0.002, top))())
        noise = np.random.default_rng(1).normal(size=(n, 4, 1))
        x = top * np.random.default_rng(0).normal(size=(4, 1))
        exact = jax.jit(mixture)

        @jax.jit
        def run(sigmas, x, noise, churn):
            solver = d.heun(churn, churn_min=0.05, churn_max=50.0, noise_scale=1.003)
            return d.integrate(mixture, solver, sigmas, x, lambda step, _: noise[step])

        for churn in (0.0, 4.0):
            got = run(sigmas, x, noise, churn / n)
            wanted = algorithm_2(exact, sigmas, x, noise, churn, 0.05, 50.0, 1.003)
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11, err_msg=str(churn))


def flow_steps(method, velocity, times, x):
    """Heun's or the classical Runge-Kutta method for dx/dt = velocity(x, t), in NumPy."""
    for t, t_next in pairwise(times):
        h = t_next - t
        k1 = velocity(x, t)
        if t_next == 0:
            x = x + h * k1
        elif method == "heun":
            x = x + h / 2 * (k1 + velocity(x + h * k1, t_next))
        else:
            k2 = velocity(x + h / 2 * k1, t + h / 2)
            k3 = velocity(x + h / 2 * k2, t + h / 2)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + velocity(x + h * k3, t_next))
    return x


@pytest.mark.parametrize(("method", "solver"), [("heun", d.heun()), ("rk4", d.rk4())])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_in_flow_time_a_solver_is_the_same_method_in_the_time_of_a_flow(method, solver, shift):
    schedule = d.flow(shift=shift)
    mean, std = 1.0, 4.0  # values of scale 4
    start = np.random.default_rng(0).normal(size=(6, 1))

    def velocity(x, t):
        """E[eps - x0 | xt] for x0 ~ N(mean, std²)."""
        a, variance = 1 - t, (1 - t) ** 2 * std**2 + t**2
        rest = (x - a * mean) / variance
        return t * rest - (mean + a * std**2 * rest)

    with jax.enable_x64(True):
        sigmas = np.asarray(d.uniform_sigmas(schedule, 20))
        network = lambda xt, time, cond: velocity(xt, time[:, None])  # noqa: E731
        denoiser = d.precondition(network, kind="flow", schedule=schedule)
        solvers = (d.in_flow_time(solver), solver)
        both = jax.jit(lambda x: [d.sample(denoiser, one, sigmas, x, KEY) for one in solvers])
        got, plain = both(start * (1 + sigmas[0]))
        times = sigmas / (1 + sigmas)
    wanted = flow_steps(method, velocity, times, start)
    np.testing.assert_allclose(got, wanted, rtol=1e-7)
    # By itself the solver is near it too, and both are near the exact flow.
    np.testing.assert_allclose(plain, wanted, atol=0.25)
    np.testing.assert_allclose(got, mean + std * start, atol=0.15)


def test_in_flow_time_refuses_a_solver_that_draws_noise():
    with pytest.raises(ValueError, match="in_flow_time takes a deterministic solver"):
        d.sample(mixture, d.in_flow_time(d.ddpm()), d.uniform_sigmas(d.flow(), 4), jnp.ones((2, 1)), KEY)


@pytest.mark.parametrize("name", ["heun", "rk4", "pndm", "ipndm", "lms_4", "deis_3", "kdpm2"])
def test_inversion_goes_up_to_infinite_noise_and_back(name):
    sigmas = made(96, ("flow",))[0]
    x0 = np.linspace(-1.5, 1.5, 7, dtype=np.float32)[:, None]

    @jax.jit
    def up_and_down(x0):
        x = d.invert(mixture, ALL[name], sigmas, x0)
        return x, d.sample(mixture, ALL[name], sigmas, x, KEY)

    x, back = up_and_down(x0)
    low = float(sigmas[-2])
    exact = mixture_flow(np.asarray(x0[:, 0], np.float64), low, float(sigmas[0])) / float(sigmas[0])
    np.testing.assert_allclose(np.asarray(x)[:, 0] / float(sigmas[0]), exact, atol=0.02)
    np.testing.assert_allclose(back, x0, atol=0.03)
