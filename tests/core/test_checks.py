"""The checks that every part shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.checks import (
    check_count,
    check_finite,
    check_floating,
    check_keep_mask,
    choose,
    choose_options,
)


@pytest.mark.parametrize("x", [np.zeros(2, np.float16), jnp.zeros(2, jnp.bfloat16), 1.0, np.float64(2)])
def test_floating_point_numbers_pass(x):
    check_floating("x", x)


def test_bytes_are_refused_with_the_function_that_converts_them():
    with pytest.raises(ValueError, match=r"images must hold floating.*uint8.*jaxgen\.data\.to_float"):
        check_floating("images", np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"x must.*int32.*x\.astype"):
        check_floating("x", jnp.zeros(2, jnp.int32))
    with pytest.raises(ValueError, match="complex64"):
        jax.jit(lambda x: check_floating("x", x))(jnp.zeros(2, jnp.complex64))


def test_counts_may_be_numpy_integers():
    assert type(check_count("n", np.int64(3))) is int
    for wrong in (True, np.True_, 2.0, np.float32(2), "2", None, 0, np.uint8(0), np.arange(2)):
        with pytest.raises(ValueError, match="n must be an integer of at least 1"):
            check_count("n", wrong)


def test_the_first_number_that_is_not_finite_is_named():
    check_finite("scale", 1e30)
    jax.jit(lambda x: check_finite("scale", x))(jnp.inf)
    with pytest.raises(ValueError, match="scale must be finite, got nan"):
        check_finite("scale", float("nan"))
    with pytest.raises(ValueError, match=r"got inf at position \(.*1.*, .*2.*\)"):
        check_finite("scale", np.array([[0, 1, 2], [3, 4, np.inf]]))


TABLE = {"constant": lambda value: value, "power": lambda key, base, exponent=2: base**exponent}


def test_choose_returns_the_entry_of_a_name():
    assert choose("curve", "power", TABLE) is TABLE["power"]


@pytest.mark.parametrize("name", ["powr", None, 2, ["power"]])
def test_choose_refuses_what_is_no_name_of_the_table(name):
    with pytest.raises(ValueError, match=r"unknown curve .*: expected one of 'constant', 'power'"):
        choose("curve", name, TABLE)


def test_choose_knows_the_names_of_other_libraries():
    with pytest.raises(ValueError, match="Did you mean 'power'"):
        choose("curve", "polynomial", TABLE, elsewhere={"polynomial": ["power"]})


def test_options_of_another_function_of_the_table_are_left_out():
    assert choose_options("curve", "power", TABLE, {"base": 3, "value": 1}, taken=("key",)) == {"base": 3}


@pytest.mark.parametrize(("name", "option", "message"), [
    ("power", "bas", r"curve 'power': 'bas': expected one of 'base', 'exponent'. Did you mean 'base'"),
    ("power", "key", "unknown option of curve 'power': 'key'"),
    ("constant", "anything", r"'anything': expected one of 'value'$"),
])
def test_options_of_no_function_of_the_table_are_refused(name, option, message):
    with pytest.raises(ValueError, match=message):
        choose_options("curve", name, TABLE, {option: 1}, taken=("key",))


@pytest.mark.parametrize(("keep", "message"), [
    (np.ones((2, 3), np.float32), r"keep must be boolean \(True keeps `known`\), got dtype float32"),
    (np.ones((2, 4), bool), r"keep of shape \(2, 4\) does not fit `known` of shape \(2, 3\)"),
    (np.ones(3, bool), r"keep of shape \(3,\) does not fit"),
])
def test_a_keep_mask_that_is_not_boolean_or_does_not_fit_is_refused(keep, message):
    check_keep_mask(np.ones((2, 1), bool), (2, 3))
    with pytest.raises(ValueError, match=message):
        check_keep_mask(keep, (2, 3))
