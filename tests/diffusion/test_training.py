"""Losses, weights, noise levels, and averages of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, norm

from jaxgen import diffusion as d
from jaxgen import train
from tests.diffusion.oracle import gaussian

KEY = jax.random.key(13)


def test_the_loss_of_an_exact_denoiser_is_the_posterior_variance():
    sigma, std = jnp.tile(jnp.array([0.2, 0.5, 3.0]), 20_000), 0.5
    x0 = std * jax.random.normal(KEY, (60_000, 2))
    # The data and their noise must not share a key.
    loss = d.denoising_loss(jax.random.key(14), gaussian(0.0, std), x0, sigma, weighting=d.uniform("x0"))
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
    loss = d.denoising_loss(key, denoiser, x0, schedule.ratio(t), weighting=d.uniform(kind))
    np.testing.assert_allclose(loss, np.mean((answer - target) ** 2, axis=1), rtol=2e-3)


def test_the_loss_asks_for_one_level_per_sample():
    with pytest.raises(ValueError, match="sigma"):
        d.denoising_loss(KEY, gaussian(), jnp.zeros((3, 2)), jnp.ones(2))


def test_weights_have_the_pinned_values():
    assert float(d.edm_weighting()(0.5)) == pytest.approx(8.0)
    sigma = jnp.array([0.1, 0.5, 1.0, 3.0])
    snr = np.asarray(sigma, np.float64) ** -2
    weight = np.asarray(d.min_snr(5.0)(sigma))
    np.testing.assert_allclose(weight, np.minimum(snr, 5), rtol=1e-5)
    np.testing.assert_allclose(weight / d.uniform("eps")(sigma), np.minimum(snr, 5) / snr, rtol=1e-5)
    np.testing.assert_allclose(weight / d.uniform("v")(sigma), np.minimum(snr, 5) / (snr + 1), rtol=1e-5)
    np.testing.assert_allclose(d.p2(1.0, 1.0)(sigma), snr / (1 + snr), rtol=1e-5)
    np.testing.assert_allclose(d.sigmoid_weighting(2.0)(sigma), snr / (1 + np.exp(np.log(snr) - 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="Did you mean 'eps'"):
        d.uniform("epss")


def test_noise_levels_have_their_distributions():
    n = 4000
    assert kstest(d.uniform_times(KEY, n, end=2.0), "uniform", (0, 2)).pvalue > 1e-3
    assert kstest(np.log(d.log_normal_sigmas(KEY, n)), norm(-1.2, 1.2).cdf).pvalue > 1e-3
    t = np.asarray(d.logit_normal_times(KEY, n, mean=0.5), np.float64)
    assert kstest(np.log(t / (1 - t)), norm(0.5, 1).cdf).pvalue > 1e-3
    stratified = np.sort(d.stratified_times(KEY, 100))
    np.testing.assert_allclose(np.diff(stratified), 0.01, atol=1e-6)
    assert np.histogram(d.uniform_steps(KEY, n, 4), np.arange(5))[0].min() > 900


def test_the_exponent_of_a_width_is_the_pinned_one_and_gives_the_width():
    for width, gamma in ((0.05, 16.9721986), (0.10, 6.9372039)):
        assert train.power_gamma(width) == pytest.approx(gamma, rel=1e-8)
        g = train.power_gamma(width)
        assert (g + 1) ** 0.5 / ((g + 2) * (g + 3) ** 0.5) == pytest.approx(width)
    with pytest.raises(ValueError, match="sigma_rel"):
        train.power_gamma(0.3)


def test_the_power_average_weights_a_step_by_its_power():
    gamma = train.power_gamma(0.1)
    thetas = np.sin(np.arange(1, 301) / 20)
    update = jax.jit(train.power_ema_update)
    average = {"w": jnp.zeros(())}
    for step, theta in enumerate(thetas, 1):
        average = update(average, {"w": jnp.float32(theta)}, step, gamma)
    s = np.arange(1, 301) / 300
    weights = s ** (gamma + 1) - (s - 1 / 300) ** (gamma + 1)
    # The recurrence approximates the integral of the power function.
    assert float(average["w"]) == pytest.approx(np.sum(weights * thetas), abs=0.01)


def test_another_average_is_reconstructed_after_training():
    gammas = [train.power_gamma(0.05), train.power_gamma(0.10)]
    wanted_gamma, steps = train.power_gamma(0.07), 512
    rng = np.random.default_rng(0)
    thetas = np.cumsum(rng.normal(size=(steps, 3)), axis=0) * 0.1
    averages, wanted = [np.zeros(3), np.zeros(3)], np.zeros(3)
    snapshots, at, exponents = [], [], []
    for step, theta in enumerate(thetas, 1):
        averages = [a + (1 - (1 - 1 / step) ** (g + 1)) * (theta - a) for a, g in zip(averages, gammas, strict=True)]
        wanted = wanted + (1 - (1 - 1 / step) ** (wanted_gamma + 1)) * (theta - wanted)
        if step % 64 == 0:
            for a, g in zip(averages, gammas, strict=True):
                snapshots.append({"w": jnp.asarray(a, jnp.float32)})
                at.append(step)
                exponents.append(g)
    weights = train.reconstruction_weights(at, exponents, steps, wanted_gamma)
    assert weights.sum() == pytest.approx(1.0, abs=1e-2)
    made = np.asarray(train.reconstruct(snapshots, weights)["w"])
    other = np.abs(averages[0] - wanted).max()
    assert np.abs(made - wanted).max() < 0.1 * other
    # A stored average is its own reconstruction.
    own = train.reconstruction_weights(at, exponents, at[5], exponents[5])
    np.testing.assert_allclose(own, np.eye(len(at))[5], atol=1e-4)
    with pytest.raises(ValueError, match="after the last"):
        train.reconstruction_weights(at, exponents, steps + 1, wanted_gamma)
