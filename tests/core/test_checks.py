"""The checks that every part shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.checks import check_count, check_finite, check_floating


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
