"""`attend` against a loop in NumPy and under every transformation, all scores at once and in blocks of either kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgen.attention
from tests.attention.oracle import MASKS, B, F, G, H, M, N, draw, loop, naive


@pytest.mark.parametrize("mask", MASKS)
def test_it_equals_a_loop_over_queries(attend, mask):
    result = jax.jit(attend)(*draw(), allowed=MASKS[mask])
    np.testing.assert_allclose(result, loop(*draw(), MASKS[mask]), atol=1e-5)


def test_under_the_causal_mask_of_the_docstring_a_query_sees_the_keys_up_to_its_own_place(attend):
    q, k, v = draw()
    result = jax.jit(attend)(q[:, :M], k, v, allowed=jnp.tril(jnp.ones((M, M), bool)))
    for b, i, h in np.ndindex(B, M, H):
        weights = np.exp(k[b, :i + 1, h] @ q[b, i, h] / np.sqrt(F))
        np.testing.assert_allclose(result[b, i, h], weights / weights.sum() @ v[b, :i + 1, h], atol=1e-5)


@pytest.mark.parametrize("mask", ["all", "keys of each example", "causal"])
def test_gradients_equal_those_of_the_definition(attend, mask):
    allowed, cotangent = MASKS[mask], np.random.default_rng(2).normal(size=(B, N, H, G)).astype(np.float32)

    def gradients(function):
        return jax.jit(jax.grad(lambda *x: jnp.sum(function(*x) * cotangent), (0, 1, 2)))(*draw())

    expected = gradients(lambda q, k, v: naive(q, k, v, allowed))
    for ours, theirs in zip(gradients(lambda *x: attend(*x, allowed=allowed)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def nothing_for_one_query():
    allowed = np.ones((N, M), bool)
    allowed[2] = False
    return allowed


def squared_with_gradient(attend, argnums, allowed):
    """What `attend` gives, and the gradient of the sum of its squares."""

    def total(*qkv):
        result = attend(*qkv, allowed=allowed)
        return jnp.sum(result**2), result

    gradient, result = jax.device_get(jax.jit(jax.grad(total, argnums, has_aux=True))(*draw()))
    return result, gradient


def test_a_query_that_may_attend_to_nothing_gives_zero_and_has_no_gradient(attend):
    result, gradient = squared_with_gradient(attend, 0, nothing_for_one_query())
    assert np.all(result[:, 2] == 0) and np.all(result[:, [0, 1, 3, 4]] != 0)
    assert np.isfinite(gradient).all() and np.all(gradient[:, 2] == 0) and np.any(gradient[:, 1] != 0)


def test_values_that_no_query_may_see_get_no_gradient(attend):
    _, gradients = squared_with_gradient(attend, (1, 2), np.arange(M) < 2)
    for gradient in gradients:
        assert np.all(gradient[:, 2:] == 0) and np.all(np.any(gradient[:, :2], axis=(2, 3)))


def test_large_dot_products_do_not_overflow(attend):
    q, k, v = draw()
    result = attend(1e4 * q, 1e4 * k, v, allowed=MASKS["causal"])
    best = np.where(MASKS["causal"], np.einsum("bqhd,bkhd->bhqk", q, k), -np.inf).argmax(-1)
    expected = np.take_along_axis(v.transpose(0, 2, 1, 3), best[..., None], axis=2).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_bfloat16_is_near_float32_and_stays_bfloat16(attend):
    arrays = draw(jnp.bfloat16)
    result = np.asarray(jax.jit(attend)(*arrays, allowed=MASKS["causal"]))
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(result.astype(np.float32), loop(*arrays, MASKS["causal"]), atol=2e-2)


def test_the_softmax_of_bfloat16_is_float32(attend):
    q, k = np.array([4, 0.25], jnp.bfloat16).reshape(1, 1, 2), np.array([[4, 0], [4, 0.25]], jnp.bfloat16)
    result = np.asarray(jax.jit(attend)(q, k.reshape(2, 1, 2), np.float32([0, 1]).reshape(2, 1, 1)))
    # 16 and 16.0625 are one number in bfloat16.
    np.testing.assert_allclose(result[0, 0, 0], 1 / (1 + np.exp(-0.0625 / np.sqrt(2))), rtol=1e-6)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_leading_axes_are_examples(attend, leading):
    q, k, v = (np.broadcast_to(x[0], (*leading, *x.shape[1:])) for x in draw())
    expected = loop(*draw())[0]
    result = jax.jit(attend)(q, k, v)
    np.testing.assert_allclose(result, np.broadcast_to(expected, (*leading, *expected.shape)), atol=1e-5)


def test_vmap_gives_what_the_batch_gives(attend):
    allowed = MASKS["per query and key"]
    mapped = jax.jit(jax.vmap(lambda q, k, v, allowed: attend(q, k, v, allowed=allowed)))(*draw(), allowed)
    np.testing.assert_allclose(mapped, attend(*draw(), allowed=allowed), atol=1e-6)  # which needs no jit


@pytest.mark.parametrize("empty", ["B", "N", "M", "H", "G"])
def test_of_no_examples_queries_keys_heads_or_features_the_result_is_empty_or_zero(empty):
    size = {**dict(B=B, N=N, M=M, H=H, F=F, G=G), empty: 0}
    q, k, v = (jnp.ones([size[axis] for axis in axes]) for axes in ("BNHF", "BMHF", "BMHG"))
    result, backward = jax.vjp(lambda *x: jaxgen.attention.attend(*x, causal=True), q, k, v)
    assert result.shape == tuple(size[axis] for axis in "BNHG") and not np.any(result)
    assert [gradient.shape for gradient in backward(result)] == [q.shape, k.shape, v.shape]


@pytest.mark.parametrize(("change", "message"), [
    ({"q": np.ones((B, N, H, F), int)}, "q must hold floating-point numbers.*got dtype int32"),
    ({"q": np.ones((H, F), np.float32)}, r"q must be \[..., length, heads, features\], got shape \(3, 6\)"),
    ({"k": np.ones((B, M, H, F + 1), np.float32)}, r"do not fit each other: got q \(2, 5, 3, 6\), k \(2, 4, 3, 7\)"),
    ({"v": np.ones((B, M + 1, H, G), np.float32)}, r"do not fit each other.*v \(2, 5, 3, 7\)"),
    ({"allowed": np.ones((N, M), np.float32)}, "allowed must be boolean.*float32: compare it with a threshold"),
    ({"allowed": np.ones((M, N), bool)}, r"must broadcast to \[..., H, N, M\] = \(2, 3, 5, 4\), got shape \(4, 5\)"),
    ({"allowed": np.ones((7, B, H, N, M), bool)}, r"got shape \(7, 2, 3, 5, 4\)"),
])
def test_bad_arguments_are_named(change, message):
    arguments = dict(zip("qkv", (jnp.asarray(x) for x in draw()), strict=True), allowed=None)
    with pytest.raises(ValueError, match=message):
        jaxgen.attention.attend(**(arguments | {name: jnp.asarray(value) for name, value in change.items()}))
