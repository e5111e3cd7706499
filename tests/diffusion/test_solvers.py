"""What is true of solvers: identities, ends of the grid, the transformations of JAX, precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from tests.diffusion.oracle import ALL, STOCHASTIC, gaussian, mixture, wave

KEY = jax.random.key(3)
GRID = np.asarray(d.karras_sigmas(6, 0.02, 10.0))
X = np.float32(10 * np.random.default_rng(1).normal(size=(4, 3)))


def run(x, sigmas, key, solver):
    return d.sample(wave, solver, sigmas, x, key)


def together(*solvers, sigmas=GRID):
    """Samples of all the solvers, by one program."""
    return jax.jit(lambda x: [run(x, sigmas, KEY, solver) for solver in solvers])(X)


@pytest.mark.parametrize("name", ["heun_churn", "dpmpp_2m_sde"])
def test_gradients_with_respect_to_the_noise_levels_are_finite(name):
    gradient = np.asarray(jax.jit(jax.grad(lambda sigmas: jnp.sum(run(X, sigmas, KEY, ALL[name]))))(GRID))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", ["heun", "unipc_2", "dpmpp_2m_sde"])
def test_bfloat16_samples_are_near_the_float32_ones(name):
    sampled = jax.jit(lambda x: [d.sample(mixture, ALL[name], GRID, a, KEY) for a in (x.astype(jnp.bfloat16), x)])
    low, high = sampled(X)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(low, np.float32), high, atol=0.06)


@pytest.mark.parametrize("name", ["ddpm", "dpmpp_2m", "lms_4"])
def test_as_many_steps_as_the_schedule_has_work(name):
    schedule = d.linear(steps=60, beta_end=0.2)
    sigmas = d.spaced_sigmas(schedule, 60)
    x = np.asarray(jax.jit(lambda x: d.sample(gaussian(), ALL[name], sigmas, x, KEY))(X))
    assert np.isfinite(x).all() and np.abs(x).max() < 3


def test_ddim_without_noise_is_euler():
    np.testing.assert_array_equal(*together(d.ddim(0.0), d.euler()))


def test_ddim_with_full_noise_is_the_ancestral_posterior_of_the_respaced_chain():
    np.testing.assert_allclose(*together(d.ddim(1.0), d.ddpm()), rtol=2e-5, atol=2e-6)


def test_ddim_coefficients_are_the_pinned_ones():
    """In the model's own variable, from index 500 to 400 of the linear schedule."""
    schedule = d.linear()

    @functools.partial(jax.jit, static_argnums=3)
    def step(x0, eps, z, eta):
        (s, s_next), (alpha, alpha_next) = schedule.ratio(np.array([500, 400])), schedule.alpha(np.array([500, 400]))
        x = (alpha * x0 + schedule.sigma(500) * eps) / alpha
        carry = d.Carry(jnp.full((1,), x))
        out = d.ddim(eta).step(lambda x, s: jnp.full((1,), x0), carry, s, s_next, lambda: jnp.full((1,), z))
        return out.x[0] * alpha_next

    # xt' = coefficient of x0, of eps (in place of eps given x0) and of the noise
    for eta, of_eps, of_z in ((0.0, 0.8980133576, 0.0), (1.0, 0.5323673832, 0.7231963493)):
        assert step(1.0, 0.0, 0.0, eta) == pytest.approx(0.4399681917, rel=3e-6)
        assert step(0.0, 1.0, 0.0, eta) == pytest.approx(of_eps, rel=3e-6)
        assert step(0.0, 0.0, 1.0, eta) == pytest.approx(of_z, rel=3e-6, abs=1e-9)


def test_the_ancestral_step_from_10_to_6_keeps_3_6_and_draws_4_8():
    x, z = jnp.array([10.0]), jnp.array([1.0])
    out = d.euler_ancestral().step(lambda x, s: 0 * x, d.Carry(x), jnp.float32(10.0), jnp.float32(6.0), lambda: 0 * z)
    assert float(out.x[0]) == pytest.approx(3.6, rel=1e-6)
    out = d.euler_ancestral().step(lambda x, s: x * 0, d.Carry(0 * x), jnp.float32(10), jnp.float32(6), lambda: z)
    assert float(out.x[0]) == pytest.approx(4.8, rel=1e-6)


def test_dpmpp_2m_is_first_order_on_its_first_step_and_on_the_step_into_zero():
    two = np.float32([10.0, 1.0, 0.0])
    np.testing.assert_array_equal(*together(d.dpmpp_2m(), d.euler(), sigmas=two))


def test_the_sde_solvers_without_noise_are_the_ode_solvers():
    of_a_traced_eta = jax.jit(lambda eta: [run(X, GRID, KEY, s) for s in (d.dpmpp_2m_sde(eta), d.dpmpp_2m())])
    np.testing.assert_allclose(*of_a_traced_eta(0.0), rtol=1e-5, atol=1e-6)


SCHEDULES = {"vp": d.linear(), "cosine": d.trigonometric(), "flow": d.flow(shift=3.0), "ve": d.edm()}


@pytest.mark.parametrize("name", SCHEDULES)
def test_variance_preserving_and_flow_networks_give_the_variance_exploding_denoiser_and_sample(name):
    """The same data through networks of every kind and scaling: one denoiser, one sample."""
    exact, schedule = gaussian(0.3, 0.5), SCHEDULES[name]

    def network(kind, xt, time, cond):
        if name == "flow":  # conditioned on the share of noise
            alpha, sigma = 1 - time, time
        else:
            alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        alpha, sigma = alpha[:, None], sigma[:, None]
        x0 = exact(xt / alpha, (sigma / alpha))
        eps = (xt - alpha * x0) / sigma
        return {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "flow": eps - x0}[kind]

    denoisers = {kind: d.precondition(functools.partial(network, kind), kind=kind, schedule=schedule)
                 for kind in ("eps", "x0", "v", "flow") if kind != "eps" or not schedule.zero_terminal_snr}
    kind = {"vp": "eps", "flow": "flow"}.get(name)  # one of each for the sample

    @jax.jit
    def compared(x, levels):
        samples = [d.sample(one, d.dpmpp_2m(), GRID, x, KEY) for one in (exact, denoisers[kind])] if kind else [x, x]
        return {kind: denoiser(x, levels) for kind, denoiser in denoisers.items()}, exact(x, levels), samples

    found, wanted, samples = compared(X, GRID[:4])
    for kind, value in found.items():
        np.testing.assert_allclose(value, wanted, atol=3e-5, err_msg=kind)
    np.testing.assert_allclose(*samples, atol=3e-4)


def test_multistep_history_is_not_kept_between_calls():
    solver = d.unipc(3)
    first, _, again = jax.jit(lambda x: [run(*a, KEY, solver) for a in ((x, GRID), (x + 1, GRID * 0.5), (x, GRID))])(X)
    np.testing.assert_array_equal(first, again)


def test_steps_from_an_infinite_noise_level_are_finite():
    """A flow starts at t = 1, where the ratio stands for infinity."""
    sigmas = d.uniform_sigmas(d.flow(), 8)
    solvers = {"2m": d.dpmpp_2m(), "unipc": d.unipc(), "3m_sde": d.dpmpp_3m_sde()}
    samples = jax.jit(lambda x: {name: d.sample(gaussian(), s, sigmas, x, KEY) for name, s in solvers.items()})
    for name, out in samples(X / 10 * sigmas[0]).items():
        assert np.isfinite(out).all() and np.abs(out).max() < 3, name


def test_solvers_are_found_by_name_and_a_wrong_name_gets_the_nearest():
    assert d.get_solver("ddim", eta=0.5).order == 1
    with pytest.raises(ValueError, match="Did you mean 'heun'"):
        d.get_solver("huen")


def test_bad_options_are_refused():
    for make, message in (
        (lambda: d.ddim(1.5), "eta"),
        (lambda: d.dpmpp_2m_sde(-1.0), "eta"),
        (lambda: d.dpmpp_2m_sde(kind="midpont"), "midpoint"),
        (lambda: d.unipc(4), "order"),
        (lambda: d.lms(0), "order"),
        (lambda: d.unipc(2, kind="bh3"), "bh2"),
        (lambda: d.ddpm(2.0), "variance"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_inversion_refuses_a_solver_that_draws_noise():
    for name in STOCHASTIC:
        with pytest.raises(ValueError, match="deterministic"):
            d.invert(mixture, STOCHASTIC[name], GRID, X)
