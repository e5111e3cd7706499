"""Inputs of attention, a loop over queries in NumPy and the plain definition."""

import jax.numpy as jnp
import numpy as np

B, N, M, H, F, G = 2, 5, 4, 3, 6, 7
MASKS = {
    "none": None,
    "all": np.ones((N, M), bool),
    "per query and key": np.random.default_rng(1).random((B, H, N, M)) < 0.7,
    "keys of each example": np.array([[True, False, True, True], [True, True, False, False]])[:, None, None],
    "causal": np.tril(np.ones((N, M), bool)),
}


def draw(dtype=np.float32):
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=shape).astype(dtype) for shape in ((B, N, H, F), (B, M, H, F), (B, M, H, G)))


def loop(q, k, v, allowed=None):
    """Query by query in float64, over the keys that it may attend to only."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    allowed = np.broadcast_to(True if allowed is None else allowed, (B, H, N, M))
    result = np.zeros((B, N, H, G))
    for b, h, i in np.ndindex(B, H, N):
        keys = np.flatnonzero(allowed[b, h, i])
        if keys.size:
            weights = np.exp([q[b, i, h] @ k[b, j, h] / np.sqrt(F) for j in keys])
            result[b, i, h] = weights / weights.sum() @ v[b, keys, h]
    return result


def naive(q, k, v, allowed):
    """The definition with infinite logits, differentiated by JAX; every query must have a key."""
    logits = jnp.where(allowed, jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(F), -jnp.inf)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    return jnp.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)
