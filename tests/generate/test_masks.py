"""Masks where a model works on latents or tokens: what is hidden, and which positions are kept."""

import numpy as np
import pytest

from jaxgen.generate import hide, kept_positions
from jaxgen.generate.masks import check_keeps


def test_what_is_not_kept_becomes_the_median_of_what_is():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    keep = np.random.default_rng(1).random((2, 4, 4, 1)) < 0.5
    result = np.asarray(hide(x, keep))
    for i in range(2):
        kept = keep[i, ..., 0]
        np.testing.assert_array_equal(result[i][kept], x[i][kept])
        np.testing.assert_allclose(result[i][~kept], np.broadcast_to(np.median(x[i][kept], axis=0), ((~kept).sum(), 3)),
                                   rtol=1e-6)


def test_an_image_of_which_nothing_is_kept_becomes_zero():
    assert not np.asarray(hide(np.ones((1, 2, 2, 1), np.float32), np.zeros((1, 2, 2, 1), bool))).any()


@pytest.mark.parametrize(("size", "shape"), [((6, 9), (2, 3)), ((4, 4), (4, 4)), ((8,), (2,)), ((4, 4, 6), (2, 4, 3))])
def test_a_position_is_kept_where_all_of_its_block_is(size, shape):
    keep = np.random.default_rng(0).random((3, *size, 1)) < 0.8
    result, block = kept_positions(keep, (*shape, 7)), [s // n for s, n in zip(size, shape)]
    expected = np.zeros((3, *shape), bool)
    for place in np.ndindex(3, *shape):
        window = tuple(slice(p * b, (p + 1) * b) for p, b in zip(place[1:], block))
        expected[place] = keep[(place[0], *window)].all()
    np.testing.assert_array_equal(result, expected)


def test_a_mask_that_does_not_divide_into_the_positions_is_refused():
    with pytest.raises(ValueError, match="keep of 6x5 does not divide into 2x2 positions"):
        kept_positions(np.ones((1, 6, 5, 1), bool), (2, 2, 3))


def test_a_mask_in_the_models_own_positions_may_keep_nothing():
    check_keeps(np.zeros((1, 4, 4, 1), bool), (4, 4, 1), (4, 4, 1))


def test_a_mask_without_a_whole_block_is_refused():
    with pytest.raises(ValueError, match="no whole block of 2x4 pixels"):
        check_keeps(np.zeros((1, 4, 8, 1), bool), (2, 2, 5), (4, 8, 1))
