"""Integrals of the polynomial through past evaluations: what all linear multistep methods are made of.

Positions u are relative to the step: u = 0 is where it starts, u = 1 where it ends, earlier evaluations are at u < 0.
"""

import math

import jax.numpy as jnp
from jax import Array

_TERMS = 17
_SERIES = [[math.factorial(k) / math.factorial(n + k + 1) for n in range(_TERMS)] for k in range(4)]


def exponential_moments(h: Array, count: int) -> list[Array]:
    """m_k = integral over 0 .. 1 of h exp(-h (1 - u)) u^k du, k < count; m_0 = 1 - exp(-h), m_k = 1 - k m_(k-1) / h.

    The recursion cancels for small h; there the series h k! sum_n (-h)^n / (n + k + 1)! is used.
    """
    h = jnp.asarray(h)
    small = jnp.abs(h) < 1.0
    h_small, h_large = jnp.where(small, h, 0.5), jnp.where(small, 2.0, h)
    powers = jnp.cumprod(jnp.concatenate([h_small[None], jnp.broadcast_to(-h_small, (_TERMS - 1,))]))
    moments, closed = [], -jnp.expm1(-h_large)
    for k in range(count):
        if k:
            closed = 1 - k * closed / h_large
        series = jnp.sum(powers * jnp.asarray(_SERIES[k], powers.dtype))
        moments.append(jnp.where(small, series, closed))
    return moments


def plain_moments(count: int) -> list[float]:
    """Integrals of u^k over 0 .. 1."""
    return [1.0 / (k + 1) for k in range(count)]


def weights(nodes: list, moments: list) -> list[Array]:
    """The weight of each node's value in the integral of the polynomial through all of them.

    Args:
        nodes: distinct positions u_j.
        moments: at least as many moments of the integration weight.

    Returns:
        w_j = integral of the Lagrange polynomial l_j.
    """
    result = []
    for j, node in enumerate(nodes):
        coefficients, scale = [1.0], 1.0  # of the product over k != j of (u - u_k), lowest power first
        for k, other in enumerate(nodes):
            if k != j:
                shifted = [0.0, *coefficients]
                coefficients = [s - other * c for s, c in zip(shifted, [*coefficients, 0.0], strict=True)]
                scale = scale * (node - other)
        result.append(sum(c * m for c, m in zip(coefficients, moments, strict=False)) / scale)
    return result


def select_by_count(count: Array, rows: list[list]) -> list[Array]:
    """The row of weights for how many past evaluations there are: rows[min(count, last)], short rows padded with 0."""
    width = max(len(row) for row in rows)
    table = jnp.stack([jnp.stack([jnp.asarray(w) for w in [*row, *[0.0] * (width - len(row))]]) for row in rows])
    chosen = table[jnp.minimum(count, len(rows) - 1)]
    return [chosen[k] for k in range(width)]


def combine(coefficients: list[Array], values: list[Array]) -> Array:
    """sum_j w_j value_j."""
    return sum(w * value for w, value in zip(coefficients, values, strict=True))
