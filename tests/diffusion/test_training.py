"""The denoising loss, weightings and noise levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, norm

from jaxgen import diffusion as d
from tests.diffusion.oracle import gaussian

KEY = jax.random.key(13)


def test_the_loss_of_an_exact_denoiser_is_the_posterior_variance():
    sigma, std = jnp.tile(jnp.array([0.2, 0.5, 3.0]), 20_000), 0.5
    x0 = std * jax.random.normal(KEY, (60_000, 2))
    # The data and their noise must not share a key.
    loss = d.denoising_loss(jax.random.key(14), gaussian(0.0, std), x0, sigma, weighting=d.uniform_weighting("x0"))
    wanted = std**2 * sigma[:3] ** 2 / (std**2 + sigma[:3] ** 2)
    np.testing.assert_allclose(loss.reshape(-1, 3).mean(0), wanted, rtol=0.03)
    # EDM's weight makes the loss of a denoiser that returns c_skip x equal to 1 at every level.
    edm = d.denoising_loss(jax.random.key(14), gaussian(0.0, std), x0, sigma)
    np.testing.assert_allclose(edm.reshape(-1, 3).mean(0), 1.0, rtol=0.03)


@pytest.mark.parametrize("kind", ["eps", "v", "x0", "flow"])
def test_a_uniform_weight_is_the_plain_error_of_the_networks_own_prediction(kind):
    schedule = d.flow() if kind == "flow" else d.linear()
    t = jnp.array([0.3, 0.8]) if kind == "flow" else jnp.array([200, 700])
    x0, key = jax.random.normal(KEY, (2, 50)), jax.random.key(1)
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    eps = jax.random.normal(key, x0.shape)
    answer = 0.3 * x0 + 0.1
    target = d.from_pair(x0, eps, alpha[:, 0], sigma[:, 0], kind="velocity" if kind == "flow" else kind)
    denoiser = d.precondition(lambda xt, t, c: answer, kind=kind, schedule=schedule)
    loss = d.denoising_loss(key, denoiser, x0, schedule.ratio(t), weighting=d.uniform_weighting(kind))
    np.testing.assert_allclose(loss, np.mean((answer - target) ** 2, axis=1), rtol=2e-3)


def test_the_loss_asks_for_one_level_per_sample():
    with pytest.raises(ValueError, match="sigma"):
        d.denoising_loss(KEY, gaussian(), jnp.zeros((3, 2)), jnp.ones(2))


def test_weights_have_the_pinned_values():
    assert float(d.edm_weighting()(0.5)) == pytest.approx(8.0)
    sigma = jnp.array([0.1, 0.5, 1.0, 3.0])
    snr = np.asarray(sigma, np.float64) ** -2
    weight = np.asarray(d.min_snr_weighting(5.0)(sigma))
    np.testing.assert_allclose(weight, np.minimum(snr, 5), rtol=1e-5)
    np.testing.assert_allclose(weight / d.uniform_weighting("eps")(sigma), np.minimum(snr, 5) / snr, rtol=1e-5)
    np.testing.assert_allclose(weight / d.uniform_weighting("v")(sigma), np.minimum(snr, 5) / (snr + 1), rtol=1e-5)
    np.testing.assert_allclose(d.p2_weighting(1.0, 1.0)(sigma), snr / (1 + snr), rtol=1e-5)
    np.testing.assert_allclose(d.sigmoid_weighting(2.0)(sigma), snr / (1 + np.exp(np.log(snr) - 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="Did you mean 'eps'"):
        d.uniform_weighting("epss")


def test_noise_levels_have_their_distributions():
    n = 4000
    assert kstest(d.uniform_times(KEY, n, end=2.0), "uniform", (0, 2)).pvalue > 1e-3
    assert kstest(np.log(d.log_normal_sigmas(KEY, n)), norm(-1.2, 1.2).cdf).pvalue > 1e-3
    t = np.asarray(d.logit_normal_times(KEY, n, mean=0.5), np.float64)
    assert kstest(np.log(t / (1 - t)), norm(0.5, 1).cdf).pvalue > 1e-3
    stratified = np.sort(d.stratified_times(KEY, 100))
    np.testing.assert_allclose(np.diff(stratified), 0.01, atol=1e-6)
    assert np.histogram(d.uniform_steps(KEY, n, 4), np.arange(5))[0].min() > 900


SCHEDULE = d.flow(shift=3.0)
DRAWS = {
    "log_normal": (lambda: d.log_normal_sigmas(KEY, 6, mean=0.3), {"mean": 0.3}),
    "uniform": (lambda: SCHEDULE.ratio(d.uniform_times(KEY, 6)), {}),
    "stratified": (lambda: SCHEDULE.ratio(d.stratified_times(KEY, 6)), {}),
    "logit_normal": (lambda: SCHEDULE.ratio(d.logit_normal_times(KEY, 6, mean=0.3)), {"mean": 0.3}),
}


@pytest.mark.parametrize("name", DRAWS)
def test_noise_levels_by_name_are_those_of_the_function_of_this_name(name):
    function, options = DRAWS[name]
    np.testing.assert_array_equal(d.draw_noise_levels(SCHEDULE, name, **options)(KEY, 6), function())


def test_noise_levels_of_times_are_never_zero():
    draw = d.draw_noise_levels(d.edm(sigma_max=1e-6), "uniform")
    np.testing.assert_allclose(draw(KEY, 6), 1e-4)


@pytest.mark.parametrize("name", d.WEIGHTINGS)
def test_a_weighting_by_name_is_that_of_the_function_of_this_name(name):
    maker = d.sigmoid_weighting if name == "sigmoid" else getattr(d, f"{name}_weighting")
    sigma = jnp.array([0.1, 1.0, 10.0])
    np.testing.assert_array_equal(d.make_weighting(name)(sigma), maker()(sigma))


def test_options_of_another_weighting_or_draw_are_ignored_when_only_the_name_changes():
    sigma = jnp.array([0.1, 1.0])
    np.testing.assert_array_equal(
        d.make_weighting("min_snr", sigma_data=1.0, kind="v")(sigma), d.min_snr_weighting()(sigma))
    np.testing.assert_array_equal(
        d.draw_noise_levels(d.flow(), "uniform", mean=0.1, std=2.0)(KEY, 4), d.flow().ratio(d.uniform_times(KEY, 4)))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: d.make_weighting("min_snrr"), "unknown weighting 'min_snrr'.*Did you mean 'min_snr'"),
    (lambda: d.make_weighting("min_snr", gama=3.0), "option of weighting 'min_snr': 'gama'.*Did you mean 'gamma'"),
    (lambda: d.draw_noise_levels(d.flow(), "unifrm"), "unknown noise 'unifrm'.*Did you mean 'uniform'"),
    (lambda: d.draw_noise_levels(d.flow(), "logit_normal", men=0.0), "'logit_normal': 'men'.*Did you mean 'mean'"),
    (lambda: d.draw_noise_levels(d.flow(), "uniform", end=0.5), "'uniform': 'end'"),
    (lambda: d.draw_noise_levels(None, "uniform"), "draws times of the model's schedule.*'log_normal'"),
])
def test_an_unknown_name_or_option_of_training_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
