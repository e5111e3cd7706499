"""Counts may be NumPy integers everywhere; the functions next to the quantizers work in the same modes as these do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy.spatial.distance import cdist

from jaxgen.quantize import fsq, fsq_indices, grouped, gumbel, lfq, nearest, projected, residual, simvq, usage, vq

MAKERS = {
    "vq": lambda count: vq(count(8), kmeans_iterations=count(3), block_size=count(4)),
    "fsq": lambda count: fsq([count(4), count(2)]),
    "fsq of an array": lambda count: fsq(np.array([4, 2])) if count is not int else fsq([4, 2]),
    "lfq": lambda count: lfq(count(6)),
    "gumbel": lambda count: gumbel(count(8)),
    "simvq": lambda count: simvq(count(8), block_size=count(4)),
    "residual": lambda count: residual(vq(count(8)), count(2)),
    "grouped": lambda count: grouped(vq(count(8)), count(2)),
    "projected": lambda count: projected(fsq([4, count(2)]), count(2)),
}


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("name", MAKERS)
def test_a_numpy_integer_makes_the_quantizer_that_an_integer_makes(name, kind):
    assert MAKERS[name](kind) == MAKERS[name](int)
    assert type(MAKERS[name](kind).num_codes) is int


@pytest.mark.parametrize("make", [
    lambda: vq(True), lambda: vq(np.float32(8)), lambda: vq(8, kmeans_iterations=np.bool_(1)),
    lambda: lfq(np.float64(4)), lambda: fsq([4, np.float32(2)]), lambda: simvq("8"),
    lambda: vq(8).init(jax.random.key(0), np.float32(4)), lambda: nearest(Z, CODES, block_size=np.float64(2)),
])
def test_what_is_no_integer_is_refused(make):
    with pytest.raises(ValueError, match="must be an integer of at least"):
        make()


def test_dimensions_and_blocks_may_be_numpy_integers():
    types = jax.eval_shape(lambda key: vq(8).init(key, np.int64(4)), jax.random.key(0))
    assert types.params["codebook"].shape == (8, 4)
    np.testing.assert_array_equal(nearest(Z, CODES, block_size=np.int32(2)), EXPECTED)


GENERATOR = np.random.default_rng(0)
Z, CODES = (GENERATOR.normal(size=size).astype(np.float32) for size in ((3, 5, 2), (7, 2)))
EXPECTED = cdist(Z.reshape(-1, 2), CODES).argmin(axis=1).reshape(3, 5)


@pytest.mark.parametrize("block_size", [None, 3])
def test_nearest_is_int32_in_float64_mode_and_without_rank_promotion(block_size):
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        indices = jax.jit(lambda *a: nearest(*a, block_size=block_size))(np.float64(Z), np.float64(CODES))
        assert indices.dtype == jnp.int32
        np.testing.assert_array_equal(indices, EXPECTED)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_nearest_is_exported_for_batches_of_any_size(metric):
    count, = export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((count, 5, 2), jnp.float32)
    exported = export.export(jax.jit(lambda z: nearest(z, CODES, metric=metric)))(shape)
    expected = cdist(Z.reshape(-1, 2), CODES, metric).argmin(axis=1).reshape(3, 5)
    for size in (1, 3):
        np.testing.assert_array_equal(exported.call(Z[:size]), expected[:size])


def test_indices_of_fsq_codes_and_usage_keep_their_types_in_float64_mode_and_without_rank_promotion():
    quantizer = fsq([4, 3])
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):

        def there_and_back(indices):
            codes = quantizer.lookup(quantizer.init(jax.random.key(0), 2), indices)
            indices = fsq_indices(codes.astype(jnp.float64), [4, 3])
            return indices, usage(indices, np.int64(12)).histogram

        indices, histogram = jax.jit(there_and_back)(np.arange(12).reshape(3, 4))
        assert indices.dtype == histogram.dtype == jnp.int32
        np.testing.assert_array_equal(indices, np.arange(12).reshape(3, 4))
