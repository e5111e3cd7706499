"""What stands in the programs that convolutions become."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.conv import conv


@pytest.mark.parametrize("inside", ["loop", "branch"])
def test_kernel_gradients_in_loops_and_branches_have_the_order_of_axes_that_is_fast(inside):
    """XLA's convolutions on CPU are fast for NHWC only, and it reorders others only at the top of a program."""
    x, kernel = np.zeros((4, 8, 8, 6), np.float32), np.zeros((4, 4, 6, 8), np.float32)

    def gradient(n, x, kernel):
        def at(_, kernel):
            return jax.grad(lambda k: jnp.sum(conv(x, k, strides=2) ** 2))(kernel)

        if inside == "loop":
            return jax.lax.fori_loop(0, n, at, kernel)
        return jax.lax.cond(n > 1, lambda: at(0, kernel), lambda: kernel)

    text = jax.jit(gradient).lower(3, x, kernel).as_text()
    layouts = re.findall(r"dim_numbers = (\[[^\]]*\])x(\[[^\]]*\])->(\[[^\]]*\])", text)
    assert layouts and all(found == ("[b, 0, 1, f]", "[0, 1, i, o]", "[b, 0, 1, f]") for found in layouts)
