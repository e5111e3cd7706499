"""Whole-number arithmetic against Python integers over all of the promised ranges, and its one result everywhere."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import special

from jaxgen.codec.integer import (
    ACTIVATION,
    LARGEST_ROWS,
    WEIGHT,
    normalize,
    product,
    round_shift,
    scale,
    softmax,
    square_root,
    to_multiplier,
)
from jaxgen.codec.tables import exponentials

RNG = np.random.default_rng(0)
EXPONENTIALS = ((exponentials() + 128) >> 8).astype(np.int32)
HALF = Fraction(1, 2)


def wide(rng, most, count):
    """Whole numbers of both signs and of every size up to `most`, with the extremes."""
    sizes = np.exp(rng.uniform(0, math.log(most), count - 4)).astype(np.int64)
    return np.concatenate([sizes * rng.choice([-1, 1], count - 4), [most, -most, 0, -1]]).astype(np.int32)


@pytest.mark.parametrize("rows", [1, 7, LARGEST_ROWS])
def test_products_are_exact_up_to_the_largest_numbers(rows):
    a = np.concatenate([RNG.integers(-ACTIVATION, ACTIVATION + 1, (3, rows)), np.full((1, rows), ACTIVATION),
                        np.full((1, rows), -ACTIVATION)])
    weights = np.concatenate([RNG.integers(-WEIGHT, WEIGHT + 1, (rows, 3)), np.full((rows, 1), WEIGHT),
                              np.full((rows, 1), -WEIGHT)], axis=1)
    found = jax.jit(product)(a.astype(np.int32), weights.astype(np.int8))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, a.astype(object) @ weights.astype(object))


@pytest.mark.parametrize("shift", [15, 16, 21, 30, 45])
def test_scaling_rounds_the_exact_product(shift):
    x, multiplier = wide(RNG, (1 << 30) - 1, 3000), wide(RNG, (1 << 15) - 1, 3000)
    RNG.shuffle(multiplier)
    x[:4], multiplier[:4] = [(1 << 30) - 1, -(1 << 30) + 1, (1 << 30) - 1, 1], [32767, 32767, -32767, 1 << 14]
    expected = [math.floor(Fraction(a * m, 1 << shift) + HALF) for a, m in zip(x.tolist(), multiplier.tolist())]
    np.testing.assert_array_equal(jax.jit(scale, static_argnums=2)(x, multiplier, shift), expected)


@pytest.mark.parametrize("shift", [0, 1, 5, 29])
def test_shifts_round_halves_upwards(shift):
    x = np.concatenate([wide(RNG, 1 << 30, 500), np.arange(-40, 40, dtype=np.int32) << max(shift - 1, 0) if shift < 25
                        else np.array([1 << shift - 1, -(1 << shift - 1)], np.int32)])
    expected = [math.floor(Fraction(value, 1 << shift) + HALF) for value in x.tolist()]
    np.testing.assert_array_equal(round_shift(jnp.asarray(x), shift), expected)


def test_square_roots_are_rounded_down():
    roots = np.unique(np.exp(RNG.uniform(0, math.log(1 << 15), 3000)).astype(np.int64))
    x = np.concatenate([np.arange(300), *(roots**2 + off for off in (-1, 0, 1)), [1 << 30, (1 << 30) - 1]])
    x = x.clip(0, 1 << 30).astype(np.int32)
    np.testing.assert_array_equal(jax.jit(square_root)(x), [math.isqrt(value) for value in x.tolist()])


@pytest.mark.parametrize("off", [-2, 2])
def test_square_roots_do_not_depend_on_the_guess_in_floating_point(off, monkeypatch):
    sqrt = jnp.sqrt
    monkeypatch.setattr(jnp, "sqrt", lambda x: jnp.maximum(sqrt(x) + off, 0))
    x = np.array([0, 1, 3, 4, 24, 25, 26, 10**6 - 1, 10**6, 1 << 30], np.int32)
    np.testing.assert_array_equal(square_root(jnp.asarray(x)), [math.isqrt(value) for value in x.tolist()])


def toward_zero(a, b):
    return abs(a) // b * (1 if a >= 0 else -1)


def normalized_by_loop(row, fraction):
    size = len(row)
    centred = [x - toward_zero(sum(row), size) for x in row]
    shift = max(0, max(abs(x) for x in centred).bit_length() - (10 if size > 256 else 11))
    centred = [x >> shift for x in centred]
    root = max(math.isqrt(sum(x * x for x in centred) // size << 8), 1)
    return [toward_zero(x << 4 + fraction, root) for x in centred]


def rows(size):
    """Of many sizes of numbers, with extremes: equal ones, one that is different, both ends of the range."""
    most = (1 << 20) - 1
    drawn = [np.rint(RNG.normal(RNG.normal(0, spread), spread, size)).clip(-most, most)
             for spread in (0.5, 3, 100, 5000, 2e5, 2e6)]
    one = np.zeros(size)
    one[-1] = most
    ends = np.where(np.arange(size) % 2, most, -most)
    return np.stack([*drawn, np.full(size, most), np.full(size, -most), one, -one, ends]).astype(np.int32)


@pytest.mark.parametrize("size", [1, 2, 64, 256, 257, LARGEST_ROWS])
@pytest.mark.parametrize("fraction", [0, 14, 15])
def test_norms_are_those_of_python_integers(size, fraction):
    x = rows(size)
    found = jax.jit(normalize, static_argnums=1)(x, fraction)
    np.testing.assert_array_equal(found, [normalized_by_loop(row, fraction) for row in x.tolist()])


def test_norms_are_near_the_real_ones():
    """Of numbers with a std from 2^9, of which 10 bits at least stay: the mean is off by 1, the std by 2^-9."""
    x = np.rint(np.random.default_rng(1).normal(0, np.logspace(3, 5, 20)[:, None], (20, 256))).astype(np.int32)
    real = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    assert np.abs(np.asarray(jax.jit(normalize, static_argnums=1)(x, 14)) / 2**14 - real).max() < 0.02


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-(1 << 30) + 1, (1 << 30) - 1), min_size=5, max_size=5), st.sampled_from([0, 13, 14]))
@example([(1 << 30) - 1, -(1 << 30) + 1, 0, 0, 0], 14)
@example([7, 7, 7, 7, 7], 13)
@example([0, -64, -128, -640, -6400], 13)
def test_shares_of_a_softmax_are_rounded_down_from_exact_fractions(scores, fraction):
    weights = [int(EXPONENTIALS[min(max(scores) - score, len(EXPONENTIALS) - 1)]) for score in scores]
    expected = [math.floor(Fraction(weight << fraction, sum(weights))) for weight in weights]
    found = softmax(jnp.asarray(scores, jnp.int32), jnp.asarray(EXPONENTIALS), fraction)
    assert found.tolist() == expected and sum(expected) <= 1 << fraction


def test_a_softmax_over_many_scores_is_near_the_real_one():
    scores = np.rint(RNG.normal(0, 100, (4, 4096))).astype(np.int32)
    found = np.asarray(jax.jit(softmax, static_argnums=2)(scores, EXPONENTIALS, 13)) / 2**13
    assert np.abs(found - special.softmax(scores / 64, -1)).max() < 2**-13 + 4096 / 2**17  # rounding down; exponentials


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-1 + 2**-20, 1 - 2**-20), min_size=1, max_size=5))
@example([0.0])
@example([2.0**-31, 1e-12])
@example([1e-300])
@example([0.5, -1 + 2**-20])
def test_multipliers_are_the_nearest_with_fifteen_bits(values):
    multiplier, shift = to_multiplier(np.array(values))
    most = max(abs(value) for value in values)
    assert 15 <= shift <= 45 and multiplier.dtype == np.int32 and np.abs(multiplier).max() < 1 << 15
    for value, found in zip(values, multiplier.tolist()):
        assert abs(Fraction(value) * 2**shift - found) <= (1 if abs(found) == (1 << 15) - 1 else HALF)
    assert most < 2.0**-31 or np.abs(multiplier).max() >= 1 << 14


@pytest.mark.parametrize("value", [1.0, -3.0, 1e9])
def test_numbers_that_have_no_multiplier_are_refused(value):
    with pytest.raises(ValueError, match="have no multiplier"):
        to_multiplier(np.array([0.1, value]))


@jax.jit
def everything(x, weights):
    """All of them, one after the other, of numbers below 2^20 [B, 64]."""
    norm = normalize(x, 14)
    hidden = product(jnp.clip(norm >> 4, -ACTIVATION, ACTIVATION), weights)
    scaled = scale(hidden, jnp.asarray(20000, jnp.int32), 25)
    shares = softmax(scaled, jnp.asarray(EXPONENTIALS), 13)
    return norm, hidden, scaled, square_root(jnp.abs(x)), shares, round_shift(x, 3)


WEIGHTS = RNG.integers(-WEIGHT, WEIGHT + 1, (64, 48)).astype(np.int8)
X = np.rint(RNG.normal(0, np.logspace(1, 5.5, 64)[:, None], (64, 64))).clip(-(1 << 20) + 1, (1 << 20) - 1)


def results(x=X, function=everything):
    return [np.asarray(part) for part in function(x.astype(np.int32), WEIGHTS)]


def test_results_do_not_depend_on_compilation_batches_mapping_or_wider_types():
    expected = results()
    with jax.disable_jit():
        np.testing.assert_equal(results(X[::9]), [part[::9] for part in expected])
    for size in (1, 8):
        parts = [results(X[start:start + size]) for start in (0, 8, 56)]
        for i, start in enumerate((0, 8, 56)):
            np.testing.assert_equal(parts[i], [part[start:start + size] for part in expected])
    np.testing.assert_equal(results(X[::8], jax.vmap(everything, (0, None))), [part[::8] for part in expected])
    with jax.enable_x64(True):
        found = everything(X.astype(np.int32), WEIGHTS)
    np.testing.assert_equal([np.asarray(part) for part in found], expected)
    assert {part.dtype.name for part in found} == {"int32"}


def test_results_are_those_of_four_devices():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    x = jax.device_put(X.astype(np.int32), NamedSharding(mesh, P("data")))
    weights = jax.device_put(WEIGHTS, NamedSharding(mesh, P()))
    found = everything(x, weights)
    assert len(found[0].sharding.device_set) == 4
    np.testing.assert_equal([np.asarray(part) for part in found], results())
    # the sum over rows split between devices, in any order
    split = jax.device_put(WEIGHTS, NamedSharding(mesh, P("data")))
    columns = jax.device_put(results()[0] >> 6, NamedSharding(mesh, P(None, "data")))
    np.testing.assert_array_equal(jax.jit(product)(columns, split), product(jnp.asarray(results()[0] >> 6), WEIGHTS))
