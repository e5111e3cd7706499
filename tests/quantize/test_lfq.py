import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.quantize import lfq
from jaxgen.quantize.lfq import factorised_entropy, joint_entropy

KEY = jax.random.key(0)
Z = np.random.default_rng(0).normal(size=(3, 4, 5))


def softmax_over_all_codes(z, size, temperature):
    """p [tokens, 2^bits] by the definition, code k having the bits of k, lowest first."""
    bits = z.shape[-1]
    codes = np.array([[1 if k >> i & 1 else -1 for i in range(bits)] for k in range(2**bits)]) * size
    logits = 2 * z.reshape(-1, bits) @ codes.T / temperature
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def entropy(p):
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_losses_are_those_of_a_softmax_over_all_codes(spherical, temperature):
    quantizer = lfq(
        5, spherical=spherical, temperature=temperature, entropy="joint", diversity=0.7, entropy_weight=0.2,
        commitment=0.3,
    )
    output, _ = jax.jit(quantizer.apply)(quantizer.init(KEY, 5), Z.astype(np.float32))
    z = Z / np.linalg.norm(Z, axis=-1, keepdims=True) if spherical else Z
    size = 5**-0.5 if spherical else 1
    p = softmax_over_all_codes(z, size, temperature)
    expected = 0.2 * (entropy(p) - 0.7 * entropy(p.mean(axis=0)))
    np.testing.assert_allclose(output.losses["entropy"].reshape(-1), expected, rtol=2e-5, atol=1e-6)
    commitment = 0.3 * np.mean((z - size * np.where(z > 0, 1, -1)) ** 2, axis=-1)
    np.testing.assert_allclose(output.losses["commitment"], commitment, rtol=1e-5)


def test_the_factorised_entropy_is_that_of_independent_bits_and_bounds_the_joint_one():
    logits = Z.reshape(-1, 5) * 3
    p = (1 / (1 + np.exp(-logits))).mean(axis=0)
    product = [np.prod([p[i] if bit else 1 - p[i] for i, bit in enumerate(bits)])
               for bits in itertools.product([0, 1], repeat=5)]
    np.testing.assert_allclose(factorised_entropy(jnp.float32(logits)), entropy(np.array(product)), rtol=1e-5)
    assert factorised_entropy(jnp.float32(logits)) >= joint_entropy(jnp.float32(logits))


def test_component_zero_is_the_lowest_bit_and_zero_counts_as_minus():
    quantizer = lfq(4)
    variables = quantizer.init(KEY, 4)
    indices = jax.jit(lambda z: quantizer.apply(variables, z)[0].indices)
    np.testing.assert_array_equal(
        indices(jnp.array([[1.0, -1, -1, -1], [-1, -1, 2, 3], [0, 0.0, -0.0, 1]])), [1, 12, 8])
    codes = quantizer.lookup(variables, jnp.arange(16))
    np.testing.assert_array_equal(indices(codes), np.arange(16))
    np.testing.assert_array_equal(codes[6], [-1, 1, 1, -1])


def test_spherical_codes_have_unit_length():
    quantizer = lfq(7, spherical=True)
    codes = quantizer.lookup(quantizer.init(KEY, 7), jnp.arange(128))
    np.testing.assert_allclose(np.linalg.norm(codes, axis=-1), 1, rtol=1e-6)


def test_chunks_of_the_joint_entropy_change_neither_value_nor_gradient(monkeypatch):
    logits = jax.random.normal(KEY, (50, 6)) * 3
    whole = jax.jit(jax.value_and_grad(lambda x: joint_entropy(x)))(logits)
    monkeypatch.setattr(sys.modules["jaxgen.quantize.lfq"], "_CHUNK", 8 * 7)
    # Another function, since one that is compiled already would not be traced again.
    chunked = jax.jit(jax.value_and_grad(lambda x: joint_entropy(x)))(logits)
    np.testing.assert_allclose(chunked[0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(chunked[1], whole[1], rtol=1e-4, atol=1e-7)


def test_eighteen_bits_train_without_a_matrix_of_tokens_by_codes():
    quantizer = lfq(18, entropy="joint")
    tokens = 4096

    def loss(z):
        output, _ = quantizer.apply(quantizer.init(KEY, 18), z, train=True)
        return sum(jnp.mean(x) for x in output.losses.values())

    compiled = jax.jit(jax.grad(loss)).lower(jax.ShapeDtypeStruct((tokens, 18), jnp.float32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * tokens * 2**18 / 50


def test_thirty_bits_have_finite_losses_at_a_sharp_temperature():
    quantizer = lfq(30)
    z = jax.random.normal(KEY, (6, 30)) * 10

    def loss(z):
        output, _ = quantizer.apply(quantizer.init(KEY, 30), z)
        return sum(jnp.mean(x) for x in output.losses.values()) + jnp.sum(output.quantized)

    value, gradient = jax.jit(jax.value_and_grad(loss))(z.at[0].set(0))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    indices = jax.jit(lambda z: quantizer.apply(quantizer.init(KEY, 30), z)[0].indices)
    assert indices(jnp.ones((1, 30)))[0] == 2**30 - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_bits": 31}, "grouped"),
        ({"num_bits": 0}, "num_bits must be"),
        ({"num_bits": 25, "entropy": "joint"}, "factorised"),
        ({"num_bits": 8, "entropy": "factorized"}, "Did you mean 'factorised'"),
        ({"num_bits": 8, "temperature": 0.0}, "temperature"),
        ({"num_bits": 8, "commitment": -1.0}, "commitment"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lfq(**arguments)
