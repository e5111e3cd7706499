"""Adversarial training: what the model gets, what it is compared with; devices and types are in test_contract.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from jaxgen.objectives import robust_forward, vqvae_loss
from jaxgen.quantize import QuantizeOutput

KEY = jax.random.key(0)
BATCH = {"image": np.random.default_rng(0).uniform(-0.5, 0.5, (3, 4, 2)).astype(np.float32)}
W = np.float32([0.7, -1.2])


def forward(variables, x, *, train=False, key=None):
    """w x, and the draw of the key, so that a test sees which it was."""
    drawn = 0.0 if key is None else jax.random.uniform(key)
    output = QuantizeOutput(x, jnp.zeros(x.shape[:2], jnp.int32), {"commitment": jnp.full(x.shape[:2], drawn)})
    return x * variables.params[None, None], output, variables.state


def response(variables, x):
    return jnp.sum(x * variables.params[None, None], axis=-1)


def measured(forward, w=W, **options):
    def loss(w):
        return vqvae_loss(w, {}, BATCH, KEY, forward=forward, **options)

    return jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(w))


def test_epsilon_0_and_evaluation_are_the_plain_objective_bit_for_bit():
    plain, evaluated = measured(forward), measured(forward, train=False)
    jax.tree.map(np.testing.assert_array_equal, measured(robust_forward(forward, response, epsilon=0.0)), plain)
    robust = robust_forward(forward, response, epsilon=0.3)
    jax.tree.map(np.testing.assert_array_equal, measured(robust, train=False), evaluated)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_response_to_a_linear_model_changes_by_epsilon_times_the_l1_norm_of_its_weights(steps):
    robust = robust_forward(lambda variables, x, **options: (x, {}, {}), response, epsilon=0.2, steps=steps)
    variables = Variables(W, {})
    x, *_ = jax.jit(lambda x: robust(variables, x, train=True, key=KEY))(BATCH["image"])
    change = response(variables, x) - response(variables, BATCH["image"])
    # Up in one example and down in another, from wherever it started, at each place by itself.
    np.testing.assert_allclose(np.abs(change), 0.2 * np.abs(W).sum(), rtol=1e-4)
    assert np.abs(x - BATCH["image"]).max() <= 0.2 + 1e-6


def test_reconstructions_of_the_perturbed_image_are_compared_with_the_clean_one():
    """w (x + d) against x, whose gradient in w is 2 (w (x + d) - x) (x + d): d is a constant."""
    robust = robust_forward(forward, response, epsilon=0.2)
    (_, (metrics, _)), gradient = measured(robust)
    x = BATCH["image"]
    given = robust_forward(lambda variables, x, **options: (x, {}, {}), response, epsilon=0.2)
    perturbed = np.asarray(given(Variables(W, {}), x, train=True, key=KEY)[0])
    assert metrics["reconstruction"] == pytest.approx(np.mean((W * perturbed - x) ** 2), rel=1e-5)
    by_hand = np.mean(2 * (W * perturbed - x) * perturbed, axis=(0, 1)) / 2
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-4)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: robust_forward(forward, response, epsilon=-1), "epsilon must not be below 0, got -1"),
    (lambda: robust_forward(forward, response, epsilon=0.1, steps=0), "steps must be"),
    (lambda: robust_forward(forward, response, epsilon=0.1)(Variables(W, {}), BATCH["image"], train=True),
     "key=None, but robust_forward draws"),
])
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
