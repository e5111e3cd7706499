"""Static tables: fitting, round trips, sizes, refusals."""

import numpy as np
import pytest

from jaxgen.codec import Probabilities, Static, fit_static, frequencies
from tests.helpers.codec import round_trip, same_tables


def planes(rng, num_codes, shapes=None, images=5):
    shapes = shapes or [(4, 6)] * len(num_codes)
    return [rng.integers(0, codes, (images, *shape)) for codes, shape in zip(num_codes, shapes)]


def test_static_tables_are_the_counts_with_one_added():
    own = planes(np.random.default_rng(0), (3, 50))
    model = fit_static(own, (4, 50))
    for plane, table in zip(own, model.tables):
        counts = [1 + sum(code == i for code in plane.ravel().tolist()) for i in range(len(table))]
        np.testing.assert_array_equal(table, frequencies(np.array(counts)))
    assert model.num_codes == (4, 50) and model.exact and model.block is None and isinstance(model, Probabilities)
    assert model.chunks(1) == [(0,)] and model.chunks(2) == [(0,), (1,)]


def test_planes_of_any_size_come_back_with_the_same_tables():
    rng = np.random.default_rng(1)
    model, own = fit_static(planes(rng, (5, 9)), (5, 9)), planes(rng, (5, 9), [(1, 1), (7, 3)], 2)
    for i in range(2):
        (found,), data, writer, reader = round_trip(model, (i,), own)
        np.testing.assert_array_equal(found, own[i])
        assert same_tables(writer, reader) and len(writer.tables) == 1
        assert len(data) <= writer.bits / 8 * 1.001 + 8


def test_the_digest_is_of_the_tables():
    own = planes(np.random.default_rng(2), (4,))
    assert fit_static(own, (4,)).digest == fit_static(own, (4,)).digest != fit_static(own, (5,)).digest


@pytest.mark.parametrize("plane, codes, words", [
    (np.array([[[0, 4]]]), 4, "codes below 4, got .* to 4"), (np.array([[[-1, 0]]]), 4, "got .*-1 to 0"),
    (np.array([[0, 1]]), 4, r"must be \[B, h, w\]"), (np.zeros((1, 1, 1), int), 5000, "split codes into digits"),
])
def test_planes_of_other_codes_are_refused(plane, codes, words):
    with pytest.raises(ValueError, match=words):
        fit_static([plane], (codes,))


def test_another_number_of_planes_is_refused():
    with pytest.raises(ValueError, match="of 2 planes, but 1"):
        fit_static([np.zeros((1, 1, 1), int)], (4, 4))


@pytest.mark.parametrize("table", [[1, 2, 3], [0, 65536], [[32768, 32768]]])
def test_what_is_no_table_is_refused(table):
    with pytest.raises(ValueError, match="sum 65536"):
        Static(tables=(np.array(table),))
