"""Projected gradient ascent against closed forms; types, devices and refusals are in test_contract.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses import pgd

KEY = jax.random.key(1)
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (5, 4, 3)).astype(np.float32)
WEIGHTS = RNG.normal(size=(4, 3)).astype(np.float32)


def linear(x):
    return jnp.sum(x * WEIGHTS[None], axis=(1, 2))


def attacked(loss, x, **options):
    return jax.device_get(jax.jit(lambda x: pgd(KEY, loss, x, **options))(x))


@pytest.mark.parametrize("steps", [1, 5])
def test_a_linear_loss_grows_by_epsilon_times_the_l1_norm_of_its_weights(steps):
    x = 0.5 * X  # so that the ball is inside of the range
    found = attacked(linear, x, epsilon=0.3, steps=steps)
    np.testing.assert_allclose(linear(found) - linear(x), 0.3 * np.abs(WEIGHTS).sum(), rtol=1e-5)


def test_small_steps_add_up_to_what_is_a_constant():
    x = 0.5 * X

    def total(x):
        found = pgd(None, linear, x, epsilon=0.4, steps=3, step_size=0.1)
        return jnp.sum(found), found

    slope, found = jax.device_get(jax.jit(jax.grad(total, has_aux=True))(x))
    np.testing.assert_array_equal(slope, 0)
    np.testing.assert_allclose(found, x + 0.3 * np.sign(WEIGHTS)[None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("epsilon", "steps"), [(0.1, 1), (0.7, 4), (3.0, 2)])
def test_it_stays_in_the_ball_and_in_the_range_and_reaches_both(epsilon, steps):
    found = attacked(lambda x: jnp.sum(jnp.square(x * WEIGHTS[None]), axis=(1, 2)), X, epsilon=epsilon, steps=steps)
    assert np.abs(found).max() <= 1 and np.abs(found - X).max() <= epsilon + 1e-6
    assert np.abs(found).max() == 1
    moved = np.abs(found - X)
    assert ((moved > epsilon - 1e-5) | (np.abs(found) == 1)).mean() > 0.9


def test_epsilon_0_changes_no_bit_and_an_x_outside_of_the_range_is_pulled_no_further_than_epsilon():
    np.testing.assert_array_equal(attacked(linear, X, epsilon=0.0, steps=3), X)
    found = attacked(linear, X + 3, epsilon=0.1)
    np.testing.assert_allclose(found, X + 3 - 0.1, rtol=1e-6)


def test_the_start_is_uniform_in_the_ball_and_each_examples_own():
    x = np.zeros((400, 50), np.float32)
    flat = attacked(lambda x: 0 * x[:, 0], x, epsilon=0.5)
    assert np.abs(flat.mean()) < 0.01 and flat.std() == pytest.approx(0.5 / 3**0.5, rel=0.02)
    one = attacked(lambda x: 0 * x[:, 0], x[:1], epsilon=0.5, sample_ids=np.int32([7]))
    np.testing.assert_array_equal(one[0], flat[7])


def test_a_distance_from_what_comes_of_x_has_no_gradient_there_and_one_from_a_random_start():
    x = 0.5 * X

    def change(x_new):
        return jnp.sum(jnp.square((x_new - x) * WEIGHTS[None]), axis=(1, 2))

    still = jax.device_get(jax.jit(lambda x: pgd(None, change, x, epsilon=0.2, steps=3))(x))
    np.testing.assert_array_equal(still, x)
    np.testing.assert_allclose(np.abs(attacked(change, x, epsilon=0.2) - x), 0.2, rtol=1e-5)


@pytest.mark.parametrize(("options", "message"), [
    ({"epsilon": -0.1}, "epsilon must not be below 0, got -0.1"), ({"epsilon": 0.1, "steps": 0}, "steps must be"),
    ({"epsilon": 0.1, "step_size": -1.0}, "step_size must not be below 0"), ({"epsilon": float("nan")}, "epsilon"),
])
def test_numbers_that_make_no_ball_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pgd(KEY, linear, X, **options)


def test_a_loss_that_is_not_one_number_per_example_is_refused():
    with pytest.raises(ValueError, match=r"loss must give one number per example, shape \(5,\), got \(\)"):
        pgd(KEY, lambda x: jnp.sum(x), X, epsilon=0.1)
