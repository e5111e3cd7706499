"""What `attend` promises on top of values: order in time, wide numbers, every transformation, memory, platforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jaxgen.attention
from tests.attention.oracle import MASKS, B, F, G, H, M, N, draw, loop, naive


@pytest.mark.parametrize("index", [0, 2])
def test_a_causal_query_sees_the_keys_up_to_its_own_place_from_a_traced_index_on(attend, index):
    allowed = MASKS["keys of each example"]
    result = jax.jit(lambda *x, index: attend(*x, allowed=allowed, causal=True, index=index))(*draw(), index=index)
    past = np.array([[j <= index + i for j in range(M)] for i in range(N)])
    np.testing.assert_allclose(result, loop(*draw(), allowed & past), atol=1e-5)


def test_an_index_without_order_is_refused():
    with pytest.raises(ValueError, match="index=2 places the first query.*causal=True"):
        jaxgen.attention.attend(*draw(), index=2)


def test_in_float64_values_and_gradients_are_the_definitions_to_the_last_digits(attend):
    allowed, cotangent = MASKS["causal"], np.random.default_rng(2).normal(size=(B, N, H, G))

    def both(function):
        return jax.jit(jax.value_and_grad(lambda *x: jnp.sum(function(*x) * cotangent), (0, 1, 2)))(*draw(np.float64))

    with jax.enable_x64(True):
        ours = both(lambda *x: attend(*x, causal=True))
        expected = both(lambda q, k, v: naive(q, k, v, allowed))
        values = jax.jit(attend)(*draw(np.float64), allowed=allowed)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(values, loop(*draw(np.float64), allowed), rtol=1e-12)


def test_values_in_float64_are_summed_in_float64(attend):
    with jax.enable_x64(True):
        q, k, v = draw()
        result = jax.jit(attend)(q, k, v.astype(np.float64) + 1e9)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, loop(q, k, v.astype(np.float64) + 1e9), rtol=1e-6 / 1e3)


def test_tangents_and_second_gradients_are_finite_differences(attend):
    direction = tuple(np.random.default_rng(3).normal(size=x.shape) for x in draw())

    def total(q, k, v):
        return jnp.sum(attend(q, k, v, allowed=MASKS["causal"]) ** 2)

    def moved(step):
        return tuple(x + step * d for x, d in zip(draw(np.float64), direction, strict=True))

    with jax.enable_x64(True):
        first, second = jax.jit(jax.value_and_grad(total)), jax.jit(jax.grad(total, (0, 1, 2)))
        tangent = jax.jit(lambda x, d: jax.jvp(total, x, d)[1])(moved(0), direction)
        # Forward over reverse, then reverse over reverse.
        change = jax.jit(lambda x, d: jax.jvp(jax.grad(total, (0, 1, 2)), x, d)[1])(moved(0), direction)
        twice = jax.jit(jax.grad(lambda *x: sum(jnp.vdot(g, d) for g, d in zip(
            jax.grad(total, (0, 1, 2))(*x), direction)), (0, 1, 2)))(*moved(0))
        step = 1e-5
        slope = (first(*moved(step))[0] - first(*moved(-step))[0]) / (2 * step)
        slopes = [(a - b) / (2 * step) for a, b in zip(second(*moved(step)), second(*moved(-step)))]
    np.testing.assert_allclose(tangent, slope, rtol=1e-8)
    for forward, reverse, expected in zip(change, twice, slopes, strict=True):
        np.testing.assert_allclose(forward, expected, atol=1e-7)
        np.testing.assert_allclose(reverse, expected, atol=1e-7)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_gives_values_and_gradients_of_one_device(attend, check_vma):
    q, k, v = (np.concatenate([x, 2 * x]) for x in draw())
    mesh, weights = Mesh(np.array(jax.devices()[:4]), ("data",)), np.random.default_rng(2).normal(size=F)

    def loss(scale, q, k, v, mask):  # the scale is shared by all devices
        return jnp.sum(attend(q * scale, k, v, allowed=mask) ** 2)

    mask = np.concatenate([MASKS["keys of each example"]] * 2)
    mapped = jax.shard_map(lambda *x: jax.lax.psum(loss(*x), "data"), mesh=mesh,
                           in_specs=(P(), *[P("data")] * 4), out_specs=P(), check_vma=check_vma)
    both = [jax.jit(jax.value_and_grad(f, (0, 1, 2, 3)))(weights, q, k, v, mask) for f in (mapped, loss)]
    for ours, expected in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_mapped_gradient_is_each_examples(attend):
    def gradient(q, k, v):
        return jax.grad(lambda *x: jnp.sum(attend(*x, causal=True) ** 2), (0, 1, 2))(q, k, v)

    mapped = jax.jit(jax.vmap(gradient, in_axes=(0, None, 0)))(*(x if i != 1 else x[0] for i, x in enumerate(draw())))
    shared = [x if i != 1 else np.broadcast_to(x[0], x.shape) for i, x in enumerate(draw())]
    for ours, expected in zip(mapped, jax.jit(gradient)(*shared), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def compiled_with_gradients(length, features, **options):
    x = jax.ShapeDtypeStruct((1, length, 1, features), jnp.float32)

    def run(q, k, v, dy):
        y, backward = jax.vjp(lambda *x: jaxgen.attention.attend(*x, **options), q, k, v)
        return y, backward(dy)

    return jax.jit(run).lower(x, x, x, x).compile()


@pytest.mark.parametrize("options", [{}, {"causal": True}], ids=["all", "causal"])
def test_memory_is_linear_in_tokens(options):
    # All scores of 16,384 tokens take 1,074 MB.
    small, large = (compiled_with_gradients(n, 64, **options).memory_analysis().temp_size_in_bytes
                    for n in (4096, 16384))
    assert large < 100e6 and large < 5 * small


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_take_large_blocks(platform):
    x = jax.ShapeDtypeStruct((2, 2048, 2, 8), jnp.float32)  # 67 MB of scores: one block there, sixteen on a CPU
    program = jax.jit(jaxgen.attention.attend).trace(x, x, x).lower(lowering_platforms=(platform,)).as_text()
    assert "tensor<4x2048x2048xf32>" in program
    assert "tensor<4x2048x2048xf32>" not in jax.jit(jaxgen.attention.attend).trace(x, x, x).lower().as_text()
