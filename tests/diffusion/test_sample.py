"""The sampling loop: compilation, batch and device invariance, trajectories, errors, marginals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen import diffusion as d
from tests.diffusion.oracle import STOCHASTIC, follow, gaussian, mixture, padded, wave

KEY = jax.random.key(7)
GRID = np.asarray(d.karras_sigmas(6, 0.02, 10.0))
X = np.float32(GRID[0] * np.random.default_rng(0).normal(size=(4, 3)))


def conditional(x, sigma, cond):
    return gaussian(cond[:, None] * 0.5, 0.5)(x, sigma)


def test_sigmas_guidance_eta_interval_classes_ids_and_seed_do_not_recompile():
    traces = []

    @jax.jit
    def run(sigmas, x, key, cond, scale, rescale, eta, lo, hi, ids):
        traces.append(0)
        guided = d.interval(d.cfg(scale, jnp.zeros(()), rescale=rescale), lo, hi)(conditional)
        return d.sample(guided, d.ddim(eta), sigmas, x, key, cond=cond, sample_ids=ids)

    x, cond, ids = np.ones((2, 3), np.float32), np.float32([1.0, -1.0]), np.arange(2)
    first = run(GRID, x, KEY, cond, 2.0, 0.3, 0.5, 0.1, 5.0, ids)
    for other in (
        run(GRID * 1.1, x, KEY, cond, 2.0, 0.3, 0.5, 0.1, 5.0, ids),
        run(GRID, x, KEY, cond, 4.0, 0.3, 0.5, 0.1, 5.0, ids),
        run(GRID, x, KEY, cond, 2.0, 0.9, 0.5, 0.1, 5.0, ids),
        run(GRID, x, KEY, cond, 2.0, 0.3, 0.9, 0.1, 5.0, ids),
        run(GRID, x, KEY, cond, 2.0, 0.3, 0.5, 0.5, 1.0, ids),
        run(GRID, x, KEY, -cond, 2.0, 0.3, 0.5, 0.1, 5.0, ids),
        run(GRID, x, jax.random.key(8), cond, 2.0, 0.3, 0.5, 0.1, 5.0, ids),
        run(GRID, x, KEY, cond, 2.0, 0.3, 0.5, 0.1, 5.0, ids + 5),
    ):
        assert np.abs(first - other).max() > 0
    assert len(traces) == 1


def test_a_sample_is_the_same_in_batches_of_1_and_64():
    @jax.jit
    def run(ids):
        x = d.prior_sample(KEY, (ids.shape[0], 5), GRID[0], sample_ids=ids)
        return d.sample(wave, d.dpmpp_2m_sde(), GRID, x, KEY, sample_ids=ids)

    # The noise is the same to the last bit; XLA may round the arithmetic of another shape otherwise by some.
    np.testing.assert_allclose(run(np.array([13])), run(np.arange(64))[13:14], rtol=0, atol=2e-6)


def test_noise_is_the_same_to_the_last_bit_in_every_batch():
    whole = d.sample_noise(KEY, (3, 2), jnp.arange(64), 5)
    np.testing.assert_array_equal(d.sample_noise(KEY, (3, 2), jnp.array([37]), 5), whole[37:38])
    folded = jax.random.fold_in(jax.random.fold_in(KEY, 37), 5)
    np.testing.assert_array_equal(whole[37], jax.random.normal(folded, (3, 2)))
    assert len(np.unique(whole)) == whole.size


def test_a_sample_is_the_same_on_1_and_8_devices():
    @jax.jit
    def run(ids):
        x = d.prior_sample(KEY, (8, 3), GRID[0], sample_ids=ids)
        return d.sample(wave, d.dpmpp_2m_sde(), GRID, x, KEY, sample_ids=ids)

    one, eight = (run(jax.device_put(np.arange(8), NamedSharding(Mesh(jax.devices()[:count], "data"),
                                                                 PartitionSpec("data")))) for count in (1, 8))
    assert len(eight.sharding.device_set) == 8
    np.testing.assert_allclose(eight, one, rtol=0, atol=2e-6)


def test_trajectories_are_stored_only_when_asked_and_end_in_the_sample():
    x = X[:2]
    plain = jax.jit(lambda x: d.sample(wave, d.dpmpp_2m(), GRID, x, KEY))(x)
    for every, length in ((1, 6), (4, 2), (6, 1), (9, 1)):
        end, trajectory = jax.jit(lambda x, n=every: d.sample(wave, d.dpmpp_2m(), GRID, x, KEY, save_every=n))(x)
        assert trajectory.shape == (length, 2, 3)
        np.testing.assert_allclose(end, plain, atol=1e-6)
        np.testing.assert_array_equal(trajectory[-1], end)
    # Nothing but the sample is stacked by the scan when no trajectory is asked for.
    text = str(jax.make_jaxpr(lambda x: d.sample(mixture, d.dpmpp_2m(), GRID, x, KEY))(x))
    assert "f32[6,2,3]" not in text
    assert "f32[6,2,3]" in str(jax.make_jaxpr(lambda x: d.sample(mixture, d.euler(), GRID, x, KEY, save_every=1))(x))


def test_bad_arguments_are_refused_and_traced_ones_pass():
    x = jnp.zeros((2, 3))
    for change, message in (
        ({"sigmas": jnp.array([1.0, 2.0, 0.0])}, "decrease strictly"),
        ({"sigmas": jnp.array([2.0, 2.0, 0.0])}, "decrease strictly"),
        ({"sigmas": jnp.array([2.0, jnp.nan])}, "finite"),
        ({"sigmas": jnp.array(2.0)}, "vector"),
        ({"sample_ids": jnp.arange(3)}, "sample_ids"),
        ({"save_every": 0}, "save_every"),
    ):
        arguments = {"sigmas": GRID, **change}
        with pytest.raises(ValueError, match=message):
            d.sample(mixture, d.euler(), arguments.pop("sigmas"), x, KEY, **arguments)
    jax.eval_shape(lambda s: d.sample(mixture, d.euler(), s, x, KEY), jnp.array([1.0, 2.0, 0.0]))


def exact_variances(solver, counts, std, start, stop):
    """The variances of a solver's output for Gaussian data, without sampling: everything is linear in the inputs.

    x_end = a x_start + sum over draws of b z, and each coefficient is a run with one input 1 and all others 0.
    """
    draws, length = solver.draws, max(counts)

    def run(index, sigmas, steps):
        def noise(step, stream):
            return jnp.where(index == 1 + step * draws + stream, 1.0, 0.0)[None, None]

        x = jnp.where(index == 0, np.sqrt(std**2 + start**2), 0.0)[None, None]
        return follow(solver, gaussian(0.0, std), sigmas, steps, x, noise)[0, 0]

    def variance(sigmas, steps):
        inputs = jnp.arange(1 + length * draws)
        return jnp.sum(jax.vmap(run, (0, None, None))(inputs, sigmas, steps) ** 2)

    variance = jax.jit(variance)
    return [float(variance(padded(np.geomspace(start, stop, n + 1), length + 1), n)) for n in counts]


@pytest.mark.parametrize("name", [name for name in STOCHASTIC if name != "euler_ancestral"])  # ddim by another name
def test_stochastic_solvers_have_the_right_variance_in_the_limit(name):
    std, start, stop = 0.5, 20.0, 0.05
    wanted = std**2 + stop**2
    with jax.enable_x64(True):
        variances = exact_variances(STOCHASTIC[name], (32, 128), std, start, stop)
    errors = np.abs(np.array(variances) / wanted - 1)
    if name == "ddpm_large":  # its variance is the forward step's, which is right only as steps shrink
        assert errors[1] < errors[0]
    else:
        assert errors[1] < 0.05 and (errors[1] < errors[0] / 2.5 or errors[1] < 2e-3)


def test_sampled_mean_and_variance_agree_with_the_exact_marginal():
    """Eta above 0 must add the noise that it takes out of the direction."""
    sigmas = d.karras_sigmas(250, 0.02, 20.0)  # first-order solvers narrow the result by one over the steps
    mean = 0.4 * -1.0 + 0.6 * 0.6
    variance = 0.4 * (0.3**2 + 1) + 0.6 * (0.5**2 + 0.36) - mean**2
    n = 6000
    for solver in (d.ddim(1.0), d.dpmpp_2m_sde()):
        run = jax.jit(lambda x, solver=solver: d.sample(mixture, solver, sigmas, x, KEY))
        x = np.asarray(run(d.prior_sample(KEY, (n, 1), sigmas[0])), np.float64)
        assert x.mean() == pytest.approx(mean, abs=4 * (variance / n) ** 0.5 + 0.02)
        assert x.var() == pytest.approx(variance, rel=0.05)


def test_consistency_sampling_of_an_exact_consistency_function():
    """For N(0, d²) the flow is x sqrt((d² + m²) / (d² + s²)), down to the level m."""
    std, low = 0.5, 0.01
    function = lambda x, s, c: x * jnp.sqrt((std**2 + low**2) / (std**2 + s**2))  # noqa: E731
    sigmas = jnp.array([40.0, 2.0, 0.5, 0.0])
    x = d.prior_sample(KEY, (20_000, 1), sigmas[0])
    out = d.sample(function, d.consistency(low), sigmas, x, KEY)
    assert float(out.std()) == pytest.approx(std, rel=0.03)
