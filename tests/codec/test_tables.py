"""Integer tables against loops of Python integers, decimals and SciPy."""

import decimal
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from jaxgen.codec import bits, frequencies, softmax_frequencies, to_grid
from jaxgen.codec.context import logarithm
from jaxgen.codec.tables import GRID, MAX_SYMBOLS, TOTAL, exponentials

SAFE = 1e-7  # of a tie; libraries of mathematics are off by 1e-15 of the value, here at most 2e-8


def by_loop(weights):
    weights = [1] * len(weights) if sum(weights) == 0 else weights
    table = [1 + weight * (TOTAL - len(weights)) // sum(weights) for weight in weights]
    table[weights.index(max(weights))] += TOTAL - sum(table)
    return table


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 1 << 36)), min_size=1, max_size=40))
@example([0, 0, 0])
@example([1 << 36] * 3)
def test_frequencies_are_those_of_a_loop_over_python_integers(weights):
    table = frequencies(np.array(weights))
    assert table.tolist() == by_loop(weights)
    assert table.sum() == TOTAL and table.min() >= 1


def test_frequencies_of_the_most_symbols_and_of_the_largest_weights():
    weights = np.full((2, MAX_SYMBOLS), 1 << 36)
    weights[1, 1:] = 0
    assert [table.tolist() for table in frequencies(weights)] == [by_loop(row) for row in weights.tolist()]


@pytest.mark.parametrize("weights, words", [
    (np.ones(3), "float64"), (np.ones(MAX_SYMBOLS + 1, int), f"{MAX_SYMBOLS + 1}: split"),
    (np.ones((2, 0), int), "got 0"), (np.array([3, -1]), "got -1"),
])
def test_weights_that_have_no_table_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        frequencies(weights)


@pytest.mark.parametrize("symbols, spread", [(2, 1), (17, 3), (512, 2), (4096, 6)])
def test_tables_of_logits_are_near_the_softmax(symbols, spread):
    """An exponential is off by 1/2 of 2^24 parts, of which the sum has 2^24 or more: a share by (K + 1) / 2^25. A table
    entry is off from its share by less than K / 2^16, since the shares of 2^16 - K are rounded down and have 1 added,
    and the largest one takes at most K more."""
    logits = np.random.default_rng(symbols).normal(0, spread * GRID, (5, symbols)).round().astype(int)
    shares = softmax(logits / GRID, axis=-1)
    off = np.abs(softmax_frequencies(logits) / TOTAL - shares)
    assert off.max() <= (symbols + 1) / 2**25 + (symbols + 1) / TOTAL
    # without the entry that takes what is left: each has 1 and its share of 2^16 - K, rounded down
    small = np.ones_like(off, bool)
    np.put_along_axis(small, logits.argmax(-1)[:, None], False, -1)
    bound = (1 + symbols * shares) / TOTAL + (symbols + 1) / 2**25
    assert (off <= bound)[small].all()


def test_logits_far_apart_give_the_least_tables():
    logits = np.array([0, -(1 << 40), 1 << 40])
    assert softmax_frequencies(logits).tolist() == [1, 1, TOTAL - 2]


def test_exponentials_are_the_nearest_whole_numbers_and_none_is_near_a_tie():
    table = exponentials()
    with decimal.localcontext(prec=50):
        exact = [(decimal.Decimal(-i) / GRID).exp() * (1 << 24) for i in range(len(table))]
    assert table.tolist() == [math.floor(value + decimal.Decimal("0.5")) for value in exact]
    assert table[-1] == 0 and table[-2] > 0 and len(table) == 1 + math.ceil(GRID * 25 * math.log(2))
    assert min(abs(float(value % 1) - 0.5) for value in exact) > SAFE
    np.testing.assert_array_equal(np.rint(2.0**24 * np.exp(-np.arange(len(table)) / GRID)), table)


def test_logarithms_are_the_nearest_whole_numbers_and_none_is_near_a_tie():
    values = np.arange(1, TOTAL + 1)
    floats = GRID * np.log(values / TOTAL)
    nearest = np.argsort(np.abs(floats % 1 - 0.5))[:200]  # to a tie
    for value in [1, 2, TOTAL - 1, TOTAL, *values[nearest].tolist()]:
        with decimal.localcontext(prec=40):
            exact = (decimal.Decimal(value) / TOTAL).ln() * GRID
        assert logarithm(np.array(value)) == math.floor(exact + decimal.Decimal("0.5"))
        assert abs(float(exact % 1) % 1 - 0.5) > SAFE
        assert abs(float(exact) - floats[value - 1]) < SAFE / 100  # so that the others are far too
    np.testing.assert_array_equal(logarithm(values), np.floor(floats + 0.5))
    assert logarithm(np.array(0)) == logarithm(np.array(1))


def test_bits_are_minus_the_sum_of_logarithms():
    rng = np.random.default_rng(0)
    tables, symbols = frequencies(rng.integers(0, 99, (6, 5))), rng.integers(0, 5, 6)
    expected = -sum(math.log2(tables[i, symbol] / TOTAL) for i, symbol in enumerate(symbols.tolist()))
    assert bits(symbols, tables) == pytest.approx(expected, rel=1e-12)
    expected = -sum(math.log2(tables[2, symbol] / TOTAL) for symbol in symbols.tolist())
    assert bits(symbols, tables[2]) == pytest.approx(expected, rel=1e-12)
    assert bits(np.zeros(0, int), tables[0]) == 0


def test_logits_go_to_the_nearest_of_the_grid_and_must_be_finite():
    assert to_grid(np.array([0.0, 0.99 / GRID, -1.49 / GRID, 3.0])).tolist() == [0, 1, -1, 3 * GRID]
    for odd in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            to_grid(np.array([0.0, odd]))
