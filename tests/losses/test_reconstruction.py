"""Reconstruction losses against NumPy, SciPy and their definitions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from jaxgen import losses

X, Y = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 5, 2)).astype(np.float32)


def test_l1_and_l2_are_means_over_each_example():
    chex.assert_trees_all_close(losses.l1(X, Y), np.abs(X - Y).reshape(3, -1).mean(1), rtol=1e-6)
    chex.assert_trees_all_close(losses.l2(X, Y), ((X - Y) ** 2).reshape(3, -1).mean(1), rtol=1e-6)


@pytest.mark.parametrize("delta", [0.1, 0.7, 5.0])
def test_huber_equals_scipy(delta):
    expected = special.huber(delta, X.astype(np.float64) - Y).reshape(3, -1).mean(1)
    chex.assert_trees_all_close(losses.huber(X, Y, delta=delta), expected.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize(("mu", "log_b", "margin"), [(0.0, 0.0, 0.1), (0.8, -0.5, 0.1), (-1.5, 0.1, 0.02)])
def test_logit_laplace_is_the_negative_log_of_a_density_that_integrates_to_one(mu, log_b, margin):
    def density(p):  # p in (0, 1); the loss takes the image that maps to p
        x = 2 * (p - margin) / (1 - 2 * margin) - 1
        prediction = np.array([[mu, log_b]], np.float64)
        return float(np.exp(-losses.logit_laplace(np.array([[x]]), prediction, margin=margin))[0])

    # Change of variable to logit(p), in which the density is a Laplace density with exponential tails.
    total, _ = integrate.quad(lambda u: density(special.expit(u)) * special.expit(u) * special.expit(-u),
                              -9, 9, points=[mu], epsabs=1e-4, limit=60)
    assert total == pytest.approx(1, abs=2e-3)


def test_logit_laplace_is_least_at_the_location():
    x = np.linspace(-1, 1, 101)[:, None]
    prediction = np.broadcast_to([0.4, -1.0], (101, 2))
    located = float(losses.logit_laplace_mean(prediction[:1])[0, 0])
    penalty = np.asarray(losses.logit_laplace(x, prediction)) - np.asarray(
        losses.logit_laplace(x, np.stack([special.logit(0.4 * (x[:, 0] + 1) + 0.1), np.full(101, -1.0)], 1)))
    assert abs(x[penalty.argmin(), 0] - located) < 0.02


def test_logit_laplace_mean_inverts_the_map_to_the_unit_interval():
    x = np.linspace(-1, 1, 21, dtype=np.float32)[:, None]
    mu = special.logit(0.8 * (x + 1) / 2 + 0.1)
    prediction = np.concatenate([mu, np.zeros_like(mu)], axis=1)
    chex.assert_trees_all_close(losses.logit_laplace_mean(prediction), x, atol=1e-6)


@pytest.mark.parametrize("loss", [losses.l1, losses.l2, losses.huber])
def test_losses_are_float32_for_bfloat16_and_work_under_jit_vmap_and_grad(loss):
    half = jnp.asarray(X, jnp.bfloat16)
    assert loss(half, half).dtype == jnp.float32
    chex.assert_trees_all_close(jax.jit(loss)(X, Y), loss(X, Y), rtol=1e-6)
    stacked = jax.vmap(loss)(np.stack([X, Y]), np.stack([Y, X]))
    chex.assert_trees_all_close(stacked[0], loss(X, Y), rtol=1e-6)
    gradient = jax.grad(lambda y: loss(X, y).sum())(Y)
    assert np.all(np.sign(gradient) == np.sign(Y - X))


def test_bad_shapes_and_margins_are_named():
    with pytest.raises(ValueError, match=r"\(3, 4, 5, 2\) and \(3, 4, 5, 1\)"):
        losses.l2(X, Y[..., :1])
    with pytest.raises(ValueError, match=r"prediction must have shape \(3, 4, 5, 4\)"):
        losses.logit_laplace(X, Y)
    with pytest.raises(ValueError, match=r"margin .* got 0.5"):
        losses.logit_laplace(X, np.concatenate([Y, Y], -1), margin=0.5)


def test_the_table_of_reconstruction_losses_holds_those_of_two_images():
    assert {"l1": losses.l1, "l2": losses.l2, "huber": losses.huber} == losses.RECONSTRUCTIONS
