"""The convolution against the compiler's own, against SciPy in float64, and under every transformation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import signal

from jaxgen.conv import conv, cpu
from jaxgen.nn.conv_layer import Conv

LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.fixture(autouse=True, scope="module")
def small_convolutions_take_tiles_and_windows_too():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "LEAST_OPERATIONS", 0)
        patch.setattr(cpu, "LEAST_PRODUCT_OPERATIONS", 0)
        yield


def native(x, kernel, strides=(1, 1), padding="SAME", dilation=(1, 1)):
    return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=LAYOUT)


def draw(*shapes, dtype=jnp.float32):
    generator = np.random.default_rng(sum(map(sum, shapes)))
    return [generator.standard_normal(shape).astype(dtype) for shape in shapes]


def assert_close(actual, expected, tolerance=1e-5):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max(initial=0) <= tolerance * np.abs(expected).max(initial=1e-30)


def assert_all_passes_equal(ours, theirs, x, kernel, tolerance=1e-5):
    """Compares values and gradients, and gives the text of the program that computes them."""

    def passes(x, kernel):
        results = []
        for function in (ours, theirs):
            y, backward = jax.vjp(function, x, kernel)
            dy = jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
            results.append((y, *backward(dy)))
        return results

    lowered = jax.jit(passes).lower(x, kernel)
    for actual, expected in zip(*lowered.compile()(x, kernel)):
        assert actual.dtype == expected.dtype
        assert_close(actual, expected, tolerance)
    return lowered.as_text()


pads = st.tuples(st.integers(-1, 3), st.integers(0, 3))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    batch=st.sampled_from([1, 2, 3, 8]), height=st.integers(9, 21), width=st.integers(9, 21),
    cin=st.sampled_from([16, 20, 33]), cout=st.sampled_from([16, 24]), padding=st.tuples(pads, pads),
)
def test_tiled_convolution_and_gradients_equal_the_native_ones(batch, height, width, cin, cout, padding):
    x, kernel = draw((batch, height, width, cin), (3, 3, cin, cout))
    assert_all_passes_equal(lambda x, k: conv(x, k, padding=padding), lambda x, k: native(x, k, (1, 1), padding),
                            x, kernel)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3), height=st.integers(5, 14), width=st.integers(5, 14), cin=st.integers(1, 5),
    cout=st.integers(1, 17), window=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)), dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(pads, pads)),
)
def test_any_window_equals_the_native_convolution(batch, height, width, cin, cout, window, strides, dilation, padding):
    x, kernel = draw((batch, height, width, cin), (*window, cin, cout))
    assert_all_passes_equal(
        lambda x, k: conv(x, k, strides=strides, padding=padding, dilation=dilation),
        lambda x, k: native(x, k, strides, padding, dilation), x, kernel,
    )


@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_tiles_are_as_exact_as_float32_allows_against_scipy_in_float64(size):
    x, kernel = draw((1, *size, 24), (3, 3, 24, 16))
    x64, k64 = np.asarray(x[0], np.float64), np.asarray(kernel, np.float64)
    expected = np.stack([
        sum(signal.correlate2d(x64[:, :, c], k64[:, :, c, o], mode="same") for c in range(24)) for o in range(16)
    ], -1)
    assert "36,24,16" in jax.jit(conv).lower(x, kernel).compile().as_text()
    assert_close(conv(x, kernel)[0], expected, 4e-6)


@pytest.mark.parametrize(("batch", "budget"), [(6, 300_000), (8, 300_000), (3, 50_000), (16, 100_000)])
def test_steps_over_images_and_rows_change_nothing(monkeypatch, batch, budget):
    monkeypatch.setattr(cpu, "PRODUCT_BYTES", budget)
    x, kernel = draw((batch, 19, 14, 16), (3, 3, 16, 17))
    assert "while" in assert_all_passes_equal(conv, native, x, kernel)


def test_one_by_one_is_a_matrix_product():
    x, kernel = draw((2, 7, 5, 12), (1, 1, 12, 9))
    text = jax.jit(jax.grad(lambda x, k: conv(x, k).sum(), (0, 1))).lower(x, kernel).as_text()
    assert "stablehlo.convolution" not in text and "dot_general" in text
    assert_all_passes_equal(conv, native, x, kernel)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(batch=st.sampled_from([1, 3, 8]), height=st.integers(3, 12), width=st.integers(3, 12),
       window=st.tuples(st.integers(1, 4), st.integers(1, 4)), few=st.integers(1, 4), many=st.sampled_from([5, 8, 20]),
       padding=st.tuples(pads, pads))
def test_few_channels_on_either_side_equal_the_native_convolution(batch, height, width, window, few, many, padding):
    for cin, cout in ((few, many), (many, few)):
        x, kernel = draw((batch, height + 3, width + 3, cin), (*window, cin, cout))
        assert_all_passes_equal(lambda x, k: conv(x, k, padding=padding), lambda x, k: native(x, k, (1, 1), padding),
                                x, kernel)


@pytest.mark.parametrize(("cin", "cout"), [(3, 16), (16, 2), (2, 3)])
def test_few_channels_take_matrix_products(cin, cout):
    x, kernel = draw((2, 9, 12, cin), (3, 3, cin, cout))
    text = jax.jit(jax.grad(lambda x, k: jnp.sum(conv(x, k) ** 2), (0, 1))).lower(x, kernel).as_text()
    assert "stablehlo.convolution" not in text and "dot_general" in text


def scalar(function):
    return lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel)))


@pytest.mark.parametrize(("cin", "cout"), [(16, 16), (3, 16), (16, 2)])
def test_forward_mode_equals_native(cin, cout):
    x, kernel, tx, tk = draw(*[(2, 12, 12, cin), (3, 3, cin, cout)] * 2)
    both = jax.jit(lambda *a: [jax.jvp(function, a[:2], a[2:]) for function in (conv, native)])
    for actual, expected in zip(*both(x, kernel, tx, tk)):
        assert_close(actual, expected)


@pytest.mark.parametrize(("cin", "cout"), [(16, 16), (3, 16), (16, 2)])
def test_gradient_penalty_and_forward_over_reverse_equal_native(cin, cout):
    x, kernel, tangent = draw((2, 12, 12, cin), (3, 3, cin, cout), (3, 3, cin, cout))

    def penalty(function):
        return lambda kernel: jnp.sum(jax.grad(lambda x: jnp.sum(function(x, kernel / 12) ** 2))(x) ** 2)

    both = jax.jit(lambda *a: [jax.jvp(jax.grad(penalty(f)), a[:1], a[1:]) for f in (conv, native)])
    for actual, expected in zip(*both(kernel, tangent)):
        assert_close(actual, expected, 2e-5)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_over_images_and_over_kernels_equals_native(axes):
    arrays = draw((3, 2, 12, 12, 16), (3, 3, 3, 16, 16))
    arguments = [a if axis == 0 else a[0] for a, axis in zip(arrays, axes)]

    def mapped(function):
        def square(*pair):
            return jnp.sum(function(*pair) ** 2)

        return jax.vmap(function, axes)(*arguments), jax.vmap(jax.grad(square, 1), axes)(*arguments)

    for actual, expected in zip(*jax.jit(lambda: [mapped(conv), mapped(native)])()):
        assert_close(actual, expected)


def test_it_runs_where_jit_is_disabled():
    x, kernel = draw((2, 9, 8, 16), (3, 3, 16, 16))
    with jax.disable_jit():
        y, backward = jax.vjp(conv, x, kernel)
        found = y, *backward(np.sin(y))
    y, backward = jax.vjp(native, x, kernel)
    for actual, expected in zip(found, (y, *backward(np.sin(y)))):
        assert_close(actual, expected)


def test_remat_leaves_gradients_as_they_are():
    x, kernel = draw((2, 12, 12, 16), (3, 3, 16, 16))
    plain, again = (jax.jit(jax.grad(f, (0, 1)))(x, kernel) for f in (scalar(conv), jax.checkpoint(scalar(conv))))
    for a, b in zip(plain, again):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 0), (-1, 3))])
def test_gradients_of_a_convolution_to_few_channels_equal_the_native_ones(padding):
    x, kernel = draw((2, 9, 12, 7), (3, 2, 7, 3))
    assert_all_passes_equal(lambda x, k: conv(x, k, padding=padding), lambda x, k: native(x, k, (1, 1), padding),
                            x, kernel)


@pytest.mark.parametrize(("cin", "cout"), [(32, 16), (3, 16), (32, 2)])
def test_bfloat16_is_the_rounded_float32_result(cin, cout):
    x, kernel = draw((2, 12, 12, cin), (3, 3, cin, cout), dtype=jnp.bfloat16)
    wide = [a.astype(jnp.float32) for a in (x, kernel)]

    def value_and_gradient(function, x, kernel):
        def total(kernel):
            y = function(x, kernel)
            return jnp.sum(y.astype(jnp.float32) ** 2), y

        gradient, y = jax.grad(total, has_aux=True)(kernel)
        return y, gradient

    ours, theirs = jax.jit(lambda: (value_and_gradient(conv, x, kernel), value_and_gradient(native, *wide)))()
    assert ours[0].dtype == ours[1].dtype == jnp.bfloat16
    assert_close(ours[0], theirs[0], 2**-8)
    assert_close(ours[1], theirs[1], 2**-6)


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()[:8]), ("data",))


@pytest.mark.parametrize(("cin", "cout"), [(16, 16), (3, 16), (16, 3)])
def test_a_divided_batch_stays_where_it_is(mesh, monkeypatch, cin, cout):
    monkeypatch.setattr(cpu, "PRODUCT_BYTES", 10_000)
    x, kernel = draw((16, 12, 12, cin), (3, 3, cin, cout))
    divided = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    shared = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
    step = jax.jit(lambda x, k: (conv(x, k), *jax.grad(scalar(conv), (0, 1))(x, k)))
    compiled = step.lower(divided, shared).compile()
    assert not re.search(r"all-gather|all-to-all|collective-permute", compiled.as_text())
    y, dx, dk = compiled(divided, shared)
    assert y.sharding.spec[0] == dx.sharding.spec[0] == "data"
    reference = jax.jit(lambda x, k: (native(x, k), *jax.grad(scalar(native), (0, 1))(x, k)))
    for actual, expected in zip((y, dx, dk), reference(x, kernel)):
        assert_close(actual, expected, 2e-5)


@pytest.mark.parametrize(("cin", "cout"), [(16, 16), (3, 16), (16, 3)])
def test_shard_map_sums_the_shared_kernels_gradient_whether_it_checks_or_not(mesh, monkeypatch, cin, cout):
    monkeypatch.setattr(cpu, "PRODUCT_BYTES", 10_000)
    x, kernel = draw((32, 12, 12, cin), (3, 3, cin, cout))

    everywhere, split = PartitionSpec(), PartitionSpec("data")
    mapped = [jax.shard_map(lambda kernel, x: lax.psum(scalar(conv)(x, kernel), "data"), mesh=mesh,
                            in_specs=(everywhere, split), out_specs=everywhere, check_vma=check_vma)
              for check_vma in (True, False)]
    checked, unchecked = jax.jit(lambda *a: [jax.grad(function)(*a) for function in mapped])(kernel, x)
    expected = jax.jit(jax.grad(scalar(native), 1))(x, kernel)
    assert_close(checked, expected, 2e-5)
    assert_close(unchecked, expected, 2e-5)


@pytest.mark.parametrize(("platform", "native_only"), [("cuda", True), ("tpu", True), ("cpu", False)])
def test_accelerators_get_the_native_convolution(platform, native_only):
    x, kernel = draw((16, 32, 32, 64), (3, 3, 64, 64))
    small = np.ones((1, 1, 64, 32), np.float32)
    step = jax.jit(jax.grad(lambda x, k, s: jnp.sum(conv(conv(x, k), s) ** 2), (0, 1, 2)))
    text = jax.export.export(step, platforms=[platform])(x, kernel, small).mlir_module()
    assert ("stablehlo.convolution" in text) == native_only
    assert ("stablehlo.dot_general" in text or "stablehlo.while" in text) != native_only


def test_the_layer_has_the_parameters_and_the_results_of_the_linen_layer():
    x = draw((2, 11, 12, 16))[0]
    for options in ({}, {"strides": 2, "use_bias": False}, {"padding": ((0, 1), (0, 1))}, {"dtype": jnp.bfloat16}):
        ours, theirs = Conv(24, (3, 3), **options), nn.Conv(24, (3, 3), **options)
        types = [jax.eval_shape(layer.init, jax.random.key(0), x) for layer in (ours, theirs)]
        assert types[0] == types[1]
        reference = jax.tree.map(lambda a: draw(a.shape)[0], types[0])
        y, expected = jax.jit(lambda p, x, o=ours, t=theirs: (o.apply(p, x), t.apply(p, x)))(reference, x)
        assert y.dtype == expected.dtype
        assert_close(y, expected, 2**-7 if y.dtype == jnp.bfloat16 else 1e-5)


def test_bad_arguments_name_themselves():
    x, kernel = np.ones((1, 8, 8, 3), np.float32), np.ones((3, 3, 4, 5), np.float32)
    with pytest.raises(ValueError, match=r"3 channels, but kernel \(3, 3, 4, 5\) takes 4"):
        conv(x, kernel)
    with pytest.raises(ValueError, match="kernel"):
        conv(x, kernel[0])
    with pytest.raises(ValueError, match="Did you mean 'SAME'"):
        conv(x, kernel[:, :, :3], padding="SAMME")
    with pytest.raises(ValueError, match="strides must be a positive int"):
        conv(x, kernel[:, :, :3], strides=0)
