import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from jaxgen.quantize import nearest
from tests.quantize.inputs import normal, run

compiled = jax.jit(nearest, static_argnames="block_size")
BLOCKS = [None, 1, 7, 64, 1000]


@pytest.mark.parametrize(("metric", "block_size"), [
    *(("euclidean", size) for size in BLOCKS), *(("cosine", size) for size in BLOCKS if size != 64),
])
def test_codes_are_those_of_all_distances(metric, block_size):
    generator = np.random.default_rng(0)
    z, codebook = generator.normal(size=(3, 5, 6)), generator.normal(size=(101, 6)) * 2
    indices = jax.jit(lambda z, c: nearest(z, c, metric=metric, block_size=block_size))(z, codebook)
    expected = cdist(z.reshape(-1, 6), codebook, metric).argmin(axis=1).reshape(3, 5)
    np.testing.assert_array_equal(indices, expected)
    assert indices.dtype == jnp.int32


@pytest.mark.parametrize("block_size", BLOCKS)
def test_the_lowest_index_wins_a_tie(block_size):
    generator = np.random.default_rng(1)
    codes = generator.integers(-2, 3, size=(90, 2)).astype(np.float32)
    z = generator.integers(-3, 4, size=(50, 2)).astype(np.float32)
    squares = ((z[:, None] - codes[None]) ** 2).sum(axis=-1)
    assert ((squares == squares.min(axis=1, keepdims=True)).sum(axis=1) > 1).mean() > 0.8
    np.testing.assert_array_equal(compiled(z, codes, block_size=block_size), squares.argmin(axis=1))


@settings(max_examples=8, deadline=None)
@given(tokens=st.integers(1, 9), codes=st.integers(1, 9), block_size=st.integers(1, 10), seed=st.integers(0, 99))
def test_blocks_of_any_size_change_nothing(tokens, codes, block_size, seed):
    generator = np.random.default_rng(seed)
    z, codebook = generator.normal(size=(tokens, 2)), generator.normal(size=(codes, 2))
    expected = cdist(z, codebook).argmin(axis=1)
    indices = compiled(z.astype(np.float32), codebook.astype(np.float32), block_size=block_size)
    np.testing.assert_array_equal(indices, expected)


def test_blocks_of_vectors_change_nothing(monkeypatch):
    # By name, since the package's attribute `nearest` is the function.
    monkeypatch.setattr(sys.modules["jaxgen.quantize.nearest"], "_BLOCK", 40)
    monkeypatch.setattr(sys.modules["jaxgen.quantize.nearest"], "_BLOCK_ACCELERATOR", 40)
    generator = np.random.default_rng(2)
    z, codebook = generator.normal(size=(53, 3)), generator.normal(size=(31, 3))
    # A lambda, since one that is compiled already would not be traced again.
    indices = jax.jit(lambda z, codebook: nearest(z, codebook, block_size=10))(np.float32(z), np.float32(codebook))
    np.testing.assert_array_equal(indices, cdist(z, codebook).argmin(axis=1))


def test_the_matrix_of_all_distances_is_never_built():
    tokens, codes = 4096, 65_536
    shapes = jax.ShapeDtypeStruct((tokens, 8), jnp.float32), jax.ShapeDtypeStruct((codes, 8), jnp.float32)
    memory = jax.jit(nearest).lower(*shapes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * tokens * codes / 40


def test_a_vector_with_nan_gets_index_zero_and_disturbs_no_other():
    codebook = np.float32([[0, 0], [1, 1], [5, 5]])
    z = np.float32([[np.nan, 0], [4, 4], [1, 1]])
    for block_size in (None, 1, 2):
        np.testing.assert_array_equal(compiled(z, codebook, block_size=block_size), [0, 2, 1])


def test_low_precision_inputs_are_compared_in_float32():
    codebook = np.float32([[1.0], [1.001]])
    assert int(compiled(np.array([[1.0]], jnp.bfloat16), codebook)[0]) == 0
    assert int(compiled(np.float32([[1.0009]]), codebook)[0]) == 1


def test_it_has_no_gradient_and_maps_over_codebooks():
    z, codebooks = normal(0, 5, 3), normal(1, 2, 9, 3)
    mapped = run(jax.vmap(lambda c: nearest(z, c, block_size=4)), codebooks)
    np.testing.assert_array_equal(mapped, [compiled(z, c) for c in codebooks])
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(z * nearest(z, codebooks[0])[:, None])))(z)
    np.testing.assert_array_equal(gradient, np.broadcast_to(mapped[0][:, None], z.shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "euclidian"}, "Did you mean 'euclidean'"),
        ({"block_size": 0}, "block_size must be an integer of at least 1, got 0"),
        ({"codebook": jnp.zeros((4, 2))}, r"\(3, 5\).*2 components"),
        ({"codebook": jnp.zeros((0, 5))}, r"at least one code, got \(0, 5\)"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    arguments = {"codebook": jnp.zeros((4, 5))} | arguments
    with pytest.raises(ValueError, match=message):
        nearest(jnp.zeros((3, 5)), arguments.pop("codebook"), **arguments)


@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_code_that_is_not_finite_is_nearest_to_no_vector(metric, block_size):
    generator = np.random.default_rng(3)
    z, codebook = np.float32(generator.normal(size=(40, 2))), np.float32(generator.normal(size=(11, 2)))
    expected = cdist(z, codebook[3:], metric).argmin(axis=1) + 3
    codebook[:3, 1] = np.nan, np.inf, 1e30
    indices = jax.jit(lambda z, codebook: nearest(z, codebook, metric=metric, block_size=block_size))
    np.testing.assert_array_equal(indices(z, codebook), expected)
    assert not np.any(indices(z, np.full_like(codebook, np.nan)))
