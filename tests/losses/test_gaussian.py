"""The divergence of a diagonal Gaussian from N(0, 1)."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxgen.losses import Gaussian, gaussian_kl

MEANS = np.array([[0.0, 1.5], [-0.7, 0.2], [3.0, 0.0]])
LOGVARS = np.array([[0.0, 0.4], [-3.0, 1.1], [0.5, -1.0]])


def integrated(mean, logvar):
    """Integral of p log(p / q) over the line."""
    p, q = stats.norm(mean, np.exp(logvar / 2)), stats.norm()
    reach = 12 * p.std()
    return integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), mean - reach, mean + reach)[0]


def test_divergence_is_the_integral_summed_over_the_entries_of_an_example():
    expected = [sum(map(integrated, *pair)) for pair in zip(MEANS, LOGVARS)]
    gaussian = Gaussian(jnp.asarray(MEANS, jnp.float32), jnp.asarray(LOGVARS, jnp.float32))
    result = gaussian_kl(gaussian)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    images = jax.tree.map(lambda x: x.reshape(3, 2, 1, 1), gaussian)
    chex.assert_trees_all_close(jax.jit(gaussian_kl)(images), result)
    chex.assert_trees_all_close(jax.vmap(lambda g: gaussian_kl(g)[0])(jax.tree.map(lambda x: x[:, None], images)),
                                result)


def test_it_keeps_its_digits_near_the_minimum():
    logvar = np.float32(1e-4)
    expected = (np.expm1(np.float64(logvar)) - np.float64(logvar)) / 2
    assert gaussian_kl(Gaussian(jnp.zeros((1, 1)), jnp.full((1, 1), logvar)))[0] == pytest.approx(expected, abs=2e-11)


def test_half_precision_is_widened():
    half = Gaussian(jnp.full((1, 5000), 0.5, jnp.bfloat16), jnp.zeros((1, 5000), jnp.bfloat16))
    result = gaussian_kl(half)
    assert result.dtype == jnp.float32 and float(result[0]) == 625.0


def test_its_gradient_draws_to_the_standard_normal():
    gaussian = Gaussian(jnp.array([[2.0]]), jnp.array([[1.0]]))
    gradient = jax.grad(lambda g: gaussian_kl(g)[0])(gaussian)
    np.testing.assert_allclose(gradient.mean, [[2.0]], rtol=1e-6)
    np.testing.assert_allclose(gradient.logvar, [[(np.e - 1) / 2]], rtol=1e-6)
