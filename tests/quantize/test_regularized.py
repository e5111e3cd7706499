"""Latent noise and quantizer dropout by what defines them; the contracts of all quantizers hold for them elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from jaxgen.core.types import Variables
from jaxgen.quantize import QuantizeOutput, Quantizer, dropout, noisy, residual, straight_through, vq
from tests.quantize.inputs import normal, run, start

KEY = jax.random.key(3)


def rounding() -> Quantizer:
    """Each component to a whole number; its "commitment" says what it was given."""

    def apply(variables, z, *, train=False, key=None, valid=None):
        output = QuantizeOutput(straight_through(z, jnp.round(z)), jnp.zeros(z.shape[:-1], jnp.int32),
                                {"commitment": z[..., 0]})
        return output, variables.state

    return Quantizer(lambda key, dim: Variables({}, {}), apply, lambda variables, indices: indices, 1)


def trained(quantizer, z, key=KEY, **options):
    variables = quantizer.init(jax.random.key(0), z.shape[-1])
    return run(lambda z, key: quantizer.apply(variables, z, train=True, key=key, **options)[0], z, key)


def test_the_noise_is_gaussian_with_the_std_in_units_of_each_examples_own():
    z = normal(1, 6, 400, 5) * np.float32([1e-3, 0.1, 1, 3, 40, 0]).reshape(-1, 1, 1) + 2
    left = trained(noisy(rounding(), 0.25), z).losses["commitment"] - z[..., 0]
    for example, noise in zip(z[:5], left[:5]):
        std = np.float64(example).std()
        assert kstest(noise / (0.25 * std), "norm").pvalue > 1e-3
    np.testing.assert_array_equal(left[5], 0)
    assert np.abs(np.corrcoef(left[:5]) - np.eye(5)).max() < 0.2


def test_the_size_of_the_noise_is_a_constant_for_the_gradient():
    z = normal(2, 3, 4, 2)
    variables = rounding().init(KEY, 2)

    def first(z):
        return noisy(rounding(), 0.5).apply(variables, z, train=True, key=KEY)[0].losses["commitment"].sum()

    gradient = run(jax.grad(first), z)
    np.testing.assert_array_equal(gradient, np.broadcast_to(np.float32([1, 0]), z.shape))


@pytest.mark.parametrize("combinator", [noisy, dropout])
def test_evaluation_and_no_strength_are_the_inner_quantizer(combinator):
    z, inner = normal(3, 2, 5, 4), vq(6)
    variables = start(inner, 4)
    expected = run(inner.apply, variables, z)
    jax.tree.map(np.testing.assert_array_equal, run(combinator(inner, 0.9).apply, variables, z), expected)
    without = run(lambda z: combinator(inner, 0.0).apply(variables, z, train=True, key=KEY), z)
    jax.tree.map(np.testing.assert_array_equal, without, expected)


def test_dropout_passes_whole_examples_with_its_rate_and_leaves_codes_and_losses():
    z, inner = normal(4, 2000, 3, 2), vq(6, ema_decay=0.9)
    output, expected = (trained(one, z) for one in (dropout(inner, 0.3), inner))
    passed = (output.quantized == z).all(axis=2)
    assert (passed.all(axis=1) | ~passed.any(axis=1)).all()
    dropped = passed[:, 0]
    assert abs(dropped.mean() - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5
    np.testing.assert_array_equal(output.quantized[~dropped], expected.quantized[~dropped])
    np.testing.assert_array_equal(output.indices, expected.indices)
    jax.tree.map(np.testing.assert_array_equal, output.losses, expected.losses)


def test_the_gradient_of_what_passes_is_the_identity_whatever_the_estimator():
    z, inner = normal(5, 3, 2, 4), vq(6, estimator="rotation")
    variables = start(inner, 4)

    def total(z, quantizer):
        return jnp.sum(quantizer.apply(variables, z, train=True, key=KEY)[0].quantized * z[..., ::-1])

    gradient = run(jax.grad(lambda z: total(z, dropout(inner, 1.0))), z)
    np.testing.assert_allclose(gradient, 2 * z[..., ::-1], rtol=1e-6)
    assert not np.allclose(run(jax.grad(lambda z: total(z, inner)), z), 2 * z[..., ::-1])


@pytest.mark.parametrize("combinator", [noisy, dropout])
def test_one_vector_is_one_example_and_combinators_compose(combinator):
    quantizer = combinator(residual(vq(6), 2), 0.5)
    variables = start(quantizer, 4)
    z = normal(6, 4)
    alone, batch = (run(lambda z: quantizer.apply(variables, z, train=True, key=KEY)[0], one) for one in (z, z[None]))
    np.testing.assert_array_equal(alone.quantized, batch.quantized[0])
    assert alone.indices.shape == (2,)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: noisy(vq(6), -0.1), "std must not be below 0, got -0.1"),
    (lambda: noisy(vq(6), float("inf")), "std"),
    (lambda: dropout(vq(6), 1.5), r"rate must be a fraction in \[0, 1\], got 1.5"),
    (lambda: trained(noisy(vq(6), 0.1), normal(0, 2, 3), key=None), "key=None, but noisy draws"),
    (lambda: trained(dropout(vq(6), 0.1), normal(0, 2, 3), key=None), "key=None, but dropout draws"),
    (lambda: trained(noisy(vq(6), 0.1), np.zeros((2, 3), np.int32)), "floating"),
    (lambda: trained(noisy(vq(6), 0.1), normal(0, 2, 3), valid=np.ones((2, 3), bool)), "valid has shape"),
])
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
