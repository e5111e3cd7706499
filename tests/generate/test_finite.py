"""Samples that are not finite are counted, said and never shown as black ones."""

import numpy as np
import pytest

from jaxgen.generate import blank, check_all, check_any, finite_images


def samples(wrong):
    x = np.full((4, 3, 3, 1), -1, np.float32)
    for i, value in wrong.items():
        x[i, 1, 2] = value
    return x


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nan_and_infinity_are_not_finite(dtype):
    x = samples({1: np.nan, 2: np.inf}).astype(dtype)
    assert finite_images(x).tolist() == [True, False, False, True]


def test_a_whole_number_below_zero_could_not_be_drawn():
    assert finite_images(np.array([[0, 3], [2, -1]], np.int32)).tolist() == [True, False]


def test_images_that_are_not_finite_are_left_white():
    x = samples({1: np.nan})
    result = blank(x, finite_images(x))
    assert (result[1] == 1).all() and result.dtype == np.float32
    np.testing.assert_array_equal(result[[0, 2, 3]], x[[0, 2, 3]])


def test_images_in_a_trajectory_are_left_white_in_all_steps():
    x = np.stack([samples({}), samples({})])
    result = blank(x, np.array([True, False, True, True]))
    assert (result[:, 1] == 1).all() and (result[:, 0] == -1).all()


def test_nothing_finite_is_an_error():
    check_any(np.array([False, True]), "samples")
    with pytest.raises(ValueError, match="none of the 2 samples is finite: nothing was written"):
        check_any(np.zeros(2, bool), "samples")


def test_some_that_are_not_finite_are_counted_with_the_first():
    check_all(np.ones(4, bool), "samples")
    with pytest.raises(ValueError, match=r"2 of 4 images are not finite \(NaN or infinite\), the first is number 1"):
        check_all(np.array([True, False, False, True]), "images")
    with pytest.raises(ValueError, match="number 0: they cannot be judged"):
        check_all(np.array([False]), "samples", "they cannot be judged")
