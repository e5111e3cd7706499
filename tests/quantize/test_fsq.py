import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from jaxgen.quantize import fsq, fsq_indices
from tests.quantize.inputs import run

KEY = jax.random.key(0)
SETS = {240: [8, 6, 5], 1000: [8, 5, 5, 5], 4375: [7, 5, 5, 5, 5], 15360: [8, 8, 8, 6, 5], 64000: [8, 8, 8, 5, 5, 5]}


def test_a_worked_example_of_the_paper_formula():
    quantizer = fsq([3, 5, 4])
    output, _ = run(lambda z: quantizer.apply(quantizer.init(KEY, 3), z), np.float32([0.25, 0.6, -7.0]))
    np.testing.assert_array_equal(output.quantized, [0, 0.5, -1])
    assert int(output.indices) == 10
    assert output.losses == {}


@pytest.mark.parametrize("level", [2, 3, 4, 5, 8, 15, 16])
def test_codes_and_gradients_are_those_of_the_formula(level):
    z = np.linspace(-6, 6, 401)
    half, offset = (level - 1) * (1 - 1e-3) / 2, 0.0 if level % 2 else 0.5
    shift = math.tan(offset / half)
    bounded = np.tanh(z + shift) * half - offset
    quantizer = fsq([level])

    def total(z):
        output, _ = quantizer.apply(quantizer.init(KEY, 1), z)
        return jnp.sum(output.quantized), output

    gradient, output = run(jax.grad(total, has_aux=True), np.float32(z)[:, None])
    clear = np.abs(bounded - np.floor(bounded) - 0.5) > 1e-4
    np.testing.assert_array_equal(output.quantized[clear, 0], np.float32(np.round(bounded) / (level // 2))[clear])
    assert set(np.unique(output.indices)) == set(range(level))
    expected = (1 - np.tanh(z + shift) ** 2) * half / (level // 2)
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("num_codes", SETS)
def test_every_index_comes_back_from_its_code_in_float32_and_bfloat16(num_codes):
    levels = SETS[num_codes]
    quantizer = fsq(levels)
    assert quantizer.num_codes == num_codes
    indices = np.arange(num_codes, dtype=np.int32)

    def there_and_back(indices):
        codes = quantizer.lookup(quantizer.init(KEY, len(levels)), indices)
        return codes, [fsq_indices(codes.astype(dtype), levels) for dtype in (jnp.float32, jnp.bfloat16)]

    codes, back = run(there_and_back, indices)
    assert len(np.unique(codes, axis=0)) == num_codes
    assert np.abs(codes).max() <= 1
    for found in back:
        np.testing.assert_array_equal(found, indices)


def test_every_digit_comes_back_for_every_number_of_levels_in_float32_and_bfloat16():
    sets = [np.arange(first, first + 4) for first in range(2, 130, 4)]
    digits = [np.arange(129)[:, None] % levels for levels in sets]
    codes = [np.float32((digit - levels // 2) / (levels // 2)) for digit, levels in zip(digits, sets, strict=True)]

    def back(codes):
        return [[fsq_indices(code.astype(dtype), levels) for code, levels in zip(codes, sets, strict=True)]
                for dtype in (jnp.float32, jnp.bfloat16)]

    for found in run(back, codes):
        for indices, digit, levels in zip(found, digits, sets, strict=True):
            np.testing.assert_array_equal(indices, digit @ np.cumprod([1, *levels[:-1]]), err_msg=f"{levels}")


def test_the_first_component_is_the_lowest_digit():
    quantizer = fsq([3, 4])
    grid = [(a / 1, b / 2) for b, a in itertools.product(range(-2, 2), range(-1, 2))]
    np.testing.assert_array_equal(run(quantizer.lookup, Variables({}, {}), np.arange(12)), grid)


@pytest.mark.parametrize(
    ("levels", "message"),
    [([], "levels is empty"), ([8, 1], "at least 2, got 1"), ([8, 2.5], "got 2.5"), ([2] * 31, "int32")],
)
def test_bad_levels_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        fsq(levels)


def test_another_dimension_is_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"dim=4.*projected"):
        fsq([8, 8]).init(KEY, 4)
