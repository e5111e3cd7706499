"""Which convolutions are computed in tiles on CPU, and in which steps."""

import jax
import numpy as np

from jaxgen.conv import conv, cpu
from tests.conv.test_conv import draw


def test_a_plan_fits_its_budget_and_keeps_eight_devices_busy():
    for batch, size, channels in [(32, (32, 32), 128), (16, (64, 64), 128), (4, (256, 256), 64), (100, (7, 7), 512)]:
        chunk, rows = cpu._plan(batch, size, channels)
        assert batch % chunk == 0 and chunk % np.gcd(batch, 8) == 0
        assert chunk * rows * -(-size[1] // 4) * channels * 144 <= cpu.PRODUCT_BYTES


def test_small_convolutions_stay_native_to_compile_fast(monkeypatch):
    monkeypatch.setattr(cpu, "LEAST_OPERATIONS", 1e8)
    for batch, tiled in ((2, False), (16, True)):
        x, kernel = draw((batch, 32, 32, 32), (3, 3, 32, 32))
        assert ("stablehlo.convolution" in jax.jit(conv).lower(x, kernel).as_text()) != tiled
