import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare, entropy

from jaxgen.core.types import Variables
from jaxgen.quantize import gumbel
from tests.quantize.inputs import normal, run, start


def logits_of(variables, z):
    return np.float64(z) @ np.float64(variables.params["kernel"]) + np.float64(variables.params["bias"])


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_codes_are_drawn_with_the_probabilities_of_the_softmax():
    quantizer = gumbel(5)
    variables = start(quantizer, 3)
    z = np.float32([0.5, -1.0, 0.3])
    output, _ = run(functools.partial(quantizer.apply, train=True, key=jax.random.key(3)), variables,
                    np.broadcast_to(z, (20_000, 3)))
    counts = np.bincount(output.indices, minlength=5)
    assert chisquare(counts, 20_000 * softmax(logits_of(variables, z))).pvalue > 1e-3


def test_evaluation_takes_the_likeliest_code_and_its_loss_is_the_weighted_divergence_from_uniform():
    quantizer = gumbel(9, kl_weight=0.3)
    variables, z = start(quantizer, 3), normal(1, 20, 3) * 3
    output, _ = run(quantizer.apply, variables, z)
    np.testing.assert_array_equal(output.indices, logits_of(variables, z).argmax(axis=-1))
    p = softmax(logits_of(variables, z))
    expected = 0.3 * entropy(p, np.full_like(p, 1 / 9), axis=-1)
    np.testing.assert_allclose(output.losses["entropy"], expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_the_relaxed_draw():
    quantizer = gumbel(7, temperature=0.6)
    variables, z = start(quantizer, 3), normal(1, 4, 3)

    def hard(params, z):
        return jnp.sum(jnp.arange(3) * quantizer.apply(Variables(params, {}), z)[0].quantized)

    def soft(params, z):
        weights = jax.nn.softmax((z @ params["kernel"] + params["bias"]) / 0.6)
        return jnp.sum(jnp.arange(3) * (weights @ params["codebook"]))

    actual, expected = run(lambda *a: [jax.grad(f, argnums=(0, 1))(*a) for f in (hard, soft)], variables.params, z)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), actual, expected)


def test_the_temperature_anneals_without_compiling_again():
    variables, z = start(gumbel(7), 3), normal(1, 4, 3)
    compiled = []

    @jax.jit
    def gradient(z, temperature):
        compiled.append(temperature)
        return jax.grad(lambda z: jnp.sum(gumbel(7, temperature=temperature).apply(variables, z)[0].quantized))(z)

    sharp, soft = gradient(z, 0.5), gradient(z, 5.0)
    assert len(compiled) == 1
    assert np.abs(sharp).max() > 2 * np.abs(soft).max()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        gumbel(7, temperature=temperature)
