"""The roofline's parts: what instructions of compiled programs do, and whose time it is."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import hlo, roofline
from experiments.common import machine
from jaxgen.core.cpu import compiler_options


def instructions(function, *shapes):
    """The entry's and all other instructions of the compiled function, in float32."""
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return hlo.parse(jax.jit(function, compiler_options=compiler_options()).lower(*arrays).compile().as_text())


def test_a_products_operations_and_bytes_are_counted():
    found = instructions(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), (3, 40, 50), (3, 60, 50))
    (product,) = (i for i in found.values() if i.kind == hlo.PRODUCTS)
    assert product.operations == 2 * 3 * 40 * 60 * 50
    assert product.size == 4 * 3 * (40 * 50 + 60 * 50 + 40 * 60)


def test_a_convolutions_operations_are_counted():
    def conv(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    found = instructions(conv, (2, 16, 16, 5), (3, 3, 5, 7))
    assert max(i.operations for i in found.values()) == 2 * (2 * 8 * 8 * 7) * (3 * 3 * 5)


@pytest.mark.parametrize(("function", "kind", "size"), [
    (lambda x: x * 2 + 1, hlo.ARITHMETIC, 2 * 4 * 600_000),
    (lambda x: x.T.reshape(-1)[::-1], hlo.COPIES, 2 * 4 * 600_000),
    (lambda x: jnp.tanh(x).sum(0), hlo.REDUCTIONS, 4 * (600_000 + 2000)),
], ids=["arithmetic", "copies", "reductions"])
def test_passes_over_memory_are_told_apart_and_counted(function, kind, size):
    found = [i for i in instructions(function, (300, 2000)).values() if i.kind == kind]
    assert max(i.size for i in found) == pytest.approx(size, rel=0.01)


REDUCE_THEN_MULTIPLY = """
%fused (p0: f32[8,1000,{n}], p1: f32[{n},{n}]) -> f32[8,{n}] {{
  %p0 = f32[8,1000,{n}]{{2,1,0}} parameter(0)
  %sum = f32[8,{n}]{{1,0}} reduce(%p0, %zero), dimensions={{1}}, to_apply=%add
  %p1 = f32[{n},{n}]{{1,0}} parameter(1)
  ROOT %dot = f32[8,{n}]{{1,0}} dot(%sum, %p1), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
}}
ENTRY %main (a: f32[8,1000,{n}], b: f32[{n},{n}]) -> f32[8,{n}] {{
  %a = f32[8,1000,{n}]{{2,1,0}} parameter(0)
  %b = f32[{n},{n}]{{1,0}} parameter(1)
  ROOT %fusion = f32[8,{n}]{{1,0}} fusion(%a, %b), kind=kCustom, calls=%fused
}}
"""


@pytest.mark.parametrize(("features", "kind"), [(64, hlo.REDUCTIONS), (50_000, hlo.PRODUCTS)])
def test_a_fusion_of_a_sum_and_a_product_is_what_takes_its_time(features, kind):
    # Operations over bytes: 2 * 8 * n / (4 * (8,000 + n)), 0.03 and 3.4.
    assert hlo.parse(REDUCE_THEN_MULTIPLY.format(n=features))["fusion"].kind == kind


def test_of_arrays_that_a_loop_slices_the_slices_are_counted():
    def loop(x):
        return jax.lax.map(lambda row: jnp.tanh(row) * 3, x)

    rows = 4 * 5000
    sizes = [i.size for name, i in instructions(loop, (800, 5000)).items() if i.kind == hlo.ARITHMETIC]
    assert max(sizes) <= 4 * rows  # and not the 16 MB of the whole


def test_time_belongs_to_the_innermost_event():
    events = [(0.0, 100.0, "while"), (10.0, 30.0, "dot"), (15.0, 5.0, "add"), (50.0, 20.0, "dot"), (200.0, 7.0, "add")]
    assert roofline.self_times(events) == {"while": 50, "dot": 45, "add": 12}


def test_a_kinds_floor_is_the_larger_of_its_operations_and_its_bytes():
    known = {"a": hlo.Instruction(hlo.PRODUCTS, 100, 8, ""), "b": hlo.Instruction(hlo.PRODUCTS, 50, 1000, ""),
             "c": hlo.Instruction(hlo.COPIES, 0, 30, "")}
    rows = roofline.table(Counter(a=3.0, b=2.0, c=1.0, other=9.0), Counter(a=2, b=1, c=4, other=1), known,
                          rate=10.0, bandwidth=20.0)
    assert [row["kind"] for row in rows] == [hlo.PRODUCTS, hlo.COPIES]
    np.testing.assert_allclose([row["seconds"] for row in rows], [5, 1])
    np.testing.assert_allclose([row["floor"] for row in rows], [max(250 / 10, 1016 / 20), 120 / 20])


def test_the_machine_names_its_cores():
    import os

    assert f"{os.cpu_count()} cores" in machine.describe()


@pytest.mark.slow
def test_the_kinds_of_work_of_a_configurations_step_are_printed(capsys):
    from experiments import benchmark

    benchmark.main(["roofline", "--config=vqvae_mnist:smoke", "--steps=2"])
    printed = capsys.readouterr().out
    assert "| convolutions |" in printed and "page faults" in printed and "/conv_general_dilated" in printed


@pytest.mark.slow
def test_our_side_of_a_comparison_with_pytorch_is_printed(capsys):
    from experiments import benchmark

    benchmark.main(["roofline", "--benchmark=autoencoder", "--steps=1"])
    printed = capsys.readouterr().out
    assert "autoencoder: a step of" in printed and "up1_upsample/conv" in printed
