"""Averages of parameters by powers of the step, and their reconstruction after training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import train


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
