import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy

from jaxgen.quantize import usage, usage_of


def test_perplexity_of_a_known_distribution():
    result = usage(jnp.array([[0, 0], [1, 2]]), 4)
    np.testing.assert_allclose(result.perplexity, 2**1.5, rtol=1e-6)
    np.testing.assert_allclose(result.used, 0.75)
    np.testing.assert_array_equal(result.histogram, [2, 1, 1, 0])


def test_perplexity_is_the_exponential_of_the_entropy():
    indices = np.random.default_rng(0).zipf(1.5, 1000) % 50
    expected = np.exp(entropy(np.bincount(indices, minlength=50)))
    np.testing.assert_allclose(jax.jit(usage, static_argnums=1)(indices, 50).perplexity, expected, rtol=1e-5)


@pytest.mark.parametrize("codes", [1, 7, 512])
def test_uniform_use_has_the_perplexity_of_the_codebook_and_a_single_code_one(codes):
    np.testing.assert_allclose(usage(jnp.arange(codes), codes).perplexity, codes, rtol=1e-5)
    alone = usage(jnp.zeros(9, jnp.int32), codes)
    np.testing.assert_allclose((alone.perplexity, alone.used), (1, 1 / codes), rtol=1e-6)


def test_histograms_of_batches_add_up():
    a, b = jnp.array([0, 1, 1]), jnp.array([3, 3])
    summed = usage_of(usage(a, 4).histogram + usage(b, 4).histogram)
    np.testing.assert_allclose(summed.perplexity, usage(jnp.concatenate([a, b]), 4).perplexity)


@pytest.mark.parametrize("indices", [[0, 4], [-1, 0], [0.5], []])
def test_bad_indices_are_refused(indices):
    with pytest.raises(ValueError, match="indices"):
        usage(np.asarray(indices, None if indices else np.int32), 4)
