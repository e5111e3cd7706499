"""Operations against closed forms, where XLA's own count takes a loop's body once."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxgen.attention import attend
from jaxgen.conv import conv
from jaxgen.core.cost import flops, planned_bytes

N, K, M = 64, 32, 48
X, W, SQUARE = jnp.ones((N, K)), jnp.ones((K, M)), jnp.ones((K, K))
PRODUCT = 2 * N * K * K
LOOSE = {"rel": 1e-3}  # a loop counts its steps too


def repeated(times):
    return lambda x, w: lax.scan(lambda carry, _: (carry @ w, None), x, None, length=times)[0]


def test_a_product_of_matrices():
    assert flops(lambda x, w: x @ w, X, W) == 2 * N * K * M
    assert flops(lambda x, w: x @ w, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (X, W))) == 2 * N * K * M


@pytest.mark.parametrize(("times", "function"), [
    (10, repeated(10)),
    (15, lambda x, w: lax.fori_loop(0, 5, lambda _, x: repeated(3)(x, w), x)),
    (7, jax.jit(repeated(7))),
    (4, lambda x, w: lax.map(lambda part: part @ w, jnp.stack([x] * 4))),
    (6, lambda x, w: lax.cond(x[0, 0] > 2, repeated(6), lambda x, w: x @ w @ w, x, w)),
    (8, lambda x, w: lax.scan(lambda x, i: (lax.cond(i > 1, lambda: x @ w @ w, lambda: x), None), x, jnp.arange(4))[0]),
])
def test_a_loop_counts_as_often_as_it_runs(times, function):
    assert flops(function, X, SQUARE) == pytest.approx(times * PRODUCT, **LOOSE)


def test_xla_by_itself_counts_a_loop_once():
    compiled = jax.jit(repeated(10)).lower(X, SQUARE).compile()
    assert compiled.cost_analysis()["flops"] == pytest.approx(PRODUCT, **LOOSE)


def test_a_convolution_is_counted_in_its_plain_form():
    """3x3 taps, of which each row and column at an edge lacks one; on CPU it would be Winograd's, in a loop."""
    batch, side, features = 64, 32, 64
    x, kernel = jnp.ones((batch, side, side, features)), jnp.ones((3, 3, features, features))
    assert flops(conv, x, kernel) == 2 * batch * features**2 * (3 * side - 2) ** 2


@pytest.mark.parametrize("length", [64, 1024])
def test_attention_counts_all_its_blocks(length):
    heads, features = 16, 32
    q = jnp.ones((4, length, 4, features))
    products = 2 * 2 * heads * length**2 * features
    assert products < flops(lambda q: attend(q, q, q), q) < 1.1 * products


def test_planned_bytes_are_at_least_arguments_and_results():
    least = 4 * (N * K + K * M + N * M)
    assert least <= planned_bytes(jax.jit(lambda x, w: x @ w).lower(X, W).compile()) < 2 * least
