"""The coder: round trips, sizes, and what damaged bytes give."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.codec import Reader, Writer, bits, frequencies
from tests.helpers.mutations import mutated_bytes

SHAPE = (3, 4, 5)
# Indices of an array, as models of probabilities use them and odder ones.
PLACES = [
    (...,), (slice(None), 1, 2), (0,), (slice(None, None, -2), ..., 3), (slice(2, 2),), (np.array([2, 0, 0]), 1),
    (np.array([[0, 1], [2, 0]]), np.array([3, 1]), 4), (np.random.default_rng(0).random(SHAPE) < 0.3,), (1, 2, 3),
]


def tables(rng, symbols, count=None, sharpness=4.0):
    weights = np.exp(sharpness * rng.normal(size=(symbols,) if count is None else (count, symbols)))
    return frequencies(np.minimum(1e6 * weights, 1 << 36).astype(np.int64))


def drawn(rng, table, count):
    """Symbols as the table has them."""
    values = rng.integers(0, 1 << 16, count)
    if table.ndim == 1:
        return np.searchsorted(table.cumsum(), values, "right")
    return (table.cumsum(-1) <= values[:, None]).sum(-1)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(
    st.sampled_from(range(len(PLACES))), st.sampled_from([1, 2, 3, 31, 256, 1000]), st.booleans()), max_size=6))
def test_symbols_come_back_whatever_the_places_and_tables(seed, calls):
    rng, asked, known = np.random.default_rng(seed), [], []
    for place, symbols, several in calls:
        array = rng.integers(0, symbols, SHAPE)
        count = array[PLACES[place]].size
        known.append(array)
        asked.append((tables(rng, symbols, count if several else None), place))
    writer = Writer(np.zeros(SHAPE, int))
    for array, (table, place) in zip(known, asked):
        writer.known = array
        np.testing.assert_array_equal(writer(table, PLACES[place]), np.ravel(array[PLACES[place]]))
    data = writer.data()
    reader = Reader(data, SHAPE)
    for array, (table, place) in zip(known, asked):
        np.testing.assert_array_equal(reader(table, PLACES[place]), np.ravel(array[PLACES[place]]))
    assert len(data) <= writer.bits / 8 * 1.001 + 8
    assert writer.bits == pytest.approx(
        sum(bits(np.ravel(array[PLACES[place]]), table) for array, (table, place) in zip(known, asked)))


@pytest.mark.parametrize("symbols, sharpness", [(2, 0.0), (2, 9.0), (64, 1.0), (512, 5.0), (4096, 1.0)])
@pytest.mark.parametrize("several", [False, True])
def test_the_coder_wastes_a_thousandth_at_most(symbols, sharpness, several):
    rng, count = np.random.default_rng(1), 500 if several else 20000
    table = tables(rng, symbols, count if several else None, sharpness)
    known = drawn(rng, table, count)
    writer = Writer(known)
    writer(table, ...)
    assert len(writer.data()) <= writer.bits / 8 * 1.001 + 8
    np.testing.assert_array_equal(Reader(writer.data(), known.shape)(table, ...), known)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([2, 16, 300]))
def test_few_symbols_take_the_bytes_that_their_bits_fill(seed, count, symbols):
    """Among numbers of b bits behind the point there is one in every interval of 2^-b."""
    rng = np.random.default_rng(seed)
    table, known = tables(rng, symbols), rng.integers(0, symbols, count)
    writer = Writer(known)
    writer(table, ...)
    assert len(writer.data()) <= math.ceil(writer.bits / 8 * 1.001 + 0.01)
    np.testing.assert_array_equal(Reader(writer.data(), known.shape)(table, ...), known)


def test_what_is_certain_takes_no_bytes():
    writer = Writer(np.zeros(1000, int))
    writer(frequencies(np.array([1])), ...)
    assert writer.bits == 0 and writer.data() == b""
    assert Writer(np.zeros(0, int)).data() == b""


def test_damaged_bytes_give_other_symbols_or_a_value_error():
    rng = np.random.default_rng(3)
    single, several = tables(rng, 7), tables(rng, 40, 30, 1.0)
    known = np.concatenate([drawn(rng, single, 30), drawn(rng, several, 30)])
    writer = Writer(known)
    writer(single, slice(30))
    writer(several, slice(30, 60))
    data, other, refused = writer.data(), 0, 0
    for _ in range(1000):
        reader = Reader(mutated_bytes(rng, data), known.shape)
        try:
            found = np.concatenate([reader(single, slice(30)), reader(several, slice(30, 60))])
        except ValueError as error:
            assert "damaged" in str(error)
            refused += 1
            continue
        assert found.shape == (60,) and found.min() >= 0 and found[:30].max() < 7 and found[30:].max() < 40
        other += not np.array_equal(found, known)
    assert other > 300


@pytest.mark.parametrize("known", [[0, 3], [-1, 0]])
def test_symbols_outside_of_a_table_are_refused(known):
    with pytest.raises(ValueError, match="from 0 to 2, got .* another tokenizer"):
        Writer(np.array(known))(frequencies(np.array([1, 1, 1])), ...)
