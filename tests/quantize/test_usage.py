"""Use of a codebook: perplexity, used fraction and histogram, of one codebook or of each of several."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy

from jaxgen.quantize import usage, usage_of
from tests.quantize.inputs import run


def test_perplexity_of_a_known_distribution():
    result = usage(jnp.array([[0, 0], [1, 2]]), 4)  # without jit, as the script of a user may call it
    np.testing.assert_allclose(result.perplexity, 2**1.5, rtol=1e-6)
    np.testing.assert_allclose(result.used, 0.75)
    np.testing.assert_array_equal(result.histogram, [2, 1, 1, 0])


def test_perplexity_is_the_exponential_of_the_entropy():
    indices = np.random.default_rng(0).zipf(1.5, 1000) % 50
    expected = np.exp(entropy(np.bincount(indices, minlength=50)))
    np.testing.assert_allclose(jax.jit(usage, static_argnums=1)(indices, 50).perplexity, expected, rtol=1e-5)


@pytest.mark.parametrize("codes", [1, 7, 512])
def test_uniform_use_has_the_perplexity_of_the_codebook_and_a_single_code_one(codes):
    batches = np.arange(codes), np.zeros(9, int)
    even, alone = run(lambda *batches: [usage(indices, codes) for indices in batches], *batches)
    np.testing.assert_allclose(even.perplexity, codes, rtol=1e-5)
    np.testing.assert_allclose((alone.perplexity, alone.used), (1, 1 / codes), rtol=1e-6)


def test_histograms_of_batches_add_up():
    a, b = np.array([0, 1, 1]), np.array([3, 3])

    def summed_and_whole(a, b):
        summed = usage_of(usage(a, 4).histogram + usage(b, 4).histogram)
        return summed.perplexity, usage(jnp.concatenate([a, b]), 4).perplexity

    np.testing.assert_allclose(*run(summed_and_whole, a, b))


def test_levels_are_counted_each_for_itself():
    indices = np.random.default_rng(0).integers(0, 5, (7, 6, 3, 2))
    for levels in (0, 1, 2):
        result = run(partial(usage, num_codes=6, levels=levels), indices)
        depths = indices.shape[4 - levels:]
        assert (result.perplexity.shape, result.used.shape, result.histogram.shape) == (depths, depths, (*depths, 6))
        for place in np.ndindex(*depths):
            counts = np.bincount(indices[(..., *place)].reshape(-1), minlength=6)
            np.testing.assert_array_equal(result.histogram[place], counts)
            np.testing.assert_allclose(result.perplexity[place], np.exp(entropy(counts)), rtol=1e-5)
            np.testing.assert_allclose(result.used[place], np.mean(counts > 0), rtol=1e-6)


def test_levels_that_use_one_code_each_have_perplexity_one_and_not_that_of_their_mixture():
    indices = np.stack([np.zeros(9, int), np.full(9, 3)], axis=-1)
    mixed, by_level = run(lambda indices: (usage(indices, 4), usage(indices, 4, levels=1)), indices)
    np.testing.assert_allclose(mixed.perplexity, 2, rtol=1e-6)
    np.testing.assert_allclose(by_level.perplexity, [1, 1], rtol=1e-6)


@pytest.mark.parametrize("levels", [0, 1])
def test_only_valid_vectors_are_counted(levels):
    indices = np.random.default_rng(1).integers(0, 5, (4, 6, 3))
    valid = np.arange(6) < np.array([6, 2, 0, 3])[:, None]
    count = jax.jit(partial(usage, num_codes=5, levels=levels))
    mask = valid if levels else np.broadcast_to(valid[..., None], indices.shape)
    jax.tree.map(np.testing.assert_array_equal, count(indices, valid=mask), count(indices[valid]))


def test_without_a_valid_vector_nothing_is_used():
    result = run(lambda indices, valid: usage(indices, 5, valid=valid), np.zeros((4, 2), int), np.zeros((4, 2), bool))
    np.testing.assert_array_equal(result.histogram, np.zeros(5))
    np.testing.assert_allclose((result.perplexity, result.used), (1, 0))


def test_traced_indices_out_of_range_are_not_counted():
    histogram = jax.jit(partial(usage, num_codes=3))(jnp.array([-1, 0, 2, 2, 3])).histogram
    np.testing.assert_array_equal(histogram, [1, 0, 2])


def test_float64_mode_and_forbidden_rank_promotion_change_no_type():
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        result = jax.eval_shape(partial(usage, num_codes=np.int64(4), levels=np.int64(1)), np.zeros((5, 2), np.int64))
    assert [x.dtype for x in result] == [jnp.float32, jnp.float32, jnp.int32]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"valid": np.ones((3, 2), np.int32)}, "valid has shape .* and dtype int32"),
    ({"valid": np.ones(3, bool)}, r"boolean mask of the vectors, of shape \(3, 2\)"),
    ({"valid": np.ones((3, 2), bool), "levels": 1}, r"boolean mask of the vectors, of shape \(3,\)"),
    ({"levels": 3}, r"levels=3, but indices has shape \(3, 2\)"),
    ({"levels": True}, "levels must be an integer of at least 0, got True"),
])
def test_masks_and_levels_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        usage(np.zeros((3, 2), np.int32), 4, **arguments)


@pytest.mark.parametrize("indices", [[0, 4], [-1, 0], [0.5], []])
def test_bad_indices_are_refused(indices):
    with pytest.raises(ValueError, match="indices"):
        usage(np.asarray(indices, None if indices else np.int32), 4)
