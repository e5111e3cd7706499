"""Convolutions to small maps against the compiler's own."""

from functools import partial

import jax
from jax import lax

from jaxgen.conv import conv, cpu
from jaxgen.conv.primitive import Geometry, conv_p
from tests.conv.test_conv import assert_all_passes_equal, assert_close, draw, native


def test_maps_of_fewer_pixels_than_their_kernel_are_products_with_any_stride_dilation_and_spread(monkeypatch):
    monkeypatch.setattr(cpu, "LEAST_SMALL_OPERATIONS", 0)
    for size, kernel, options in [
        ((2, 2), (3, 3), {}), ((1, 1), (3, 3), {}), ((4, 4), (4, 4), {"padding": "VALID"}),
        ((5, 3), (3, 4), {"strides": (2, 1), "padding": ((1, 1), (0, 2))}), ((3, 4), (2, 3), {"dilation": (2, 1)}),
    ]:
        x, k = draw((3, *size, 5), (*kernel, 5, 6))
        options = {"strides": (1, 1), "padding": "SAME", "dilation": (1, 1)} | options
        assert "conv_general" not in jax.jit(partial(conv, **options)).lower(x, k).as_text()
        assert_all_passes_equal(partial(conv, **options), partial(native, **options), x, k)
    x, k = draw((2, 1, 1, 5), (5, 5, 5, 6))
    geometry = Geometry((1, 1), (5, 5), (1, 1), ((3, 2), (3, 2)), (2, 2), (1, 1))
    assert_close(conv_p.bind(x, k, geometry=geometry), lax.conv_transpose(x, k, (2, 2), "SAME"))
