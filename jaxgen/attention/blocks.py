"""Attention in blocks of queries whose scores stay in the cache, computed again for gradients.

Keys and values are held features first, `[h, F, M]`: so the products that are their gradients come out in that layout,
which XLA on CPU computes two to three times as fast as the transposed one. A loop's step takes at least two heads where
there are two: for one, XLA turns these products round.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

# What a block keeps for its gradient; the scores and weights are computed again.
KEPT = jax.checkpoint_policies.save_only_these_names("attention_sums", "attention_largest")


def mix(q: Array, k: Array, v: Array, allowed: Array | None, latest: Array | None) -> Array:
    """Weighted values of all queries at once: `[h, N, G]` in the dtype of v.

    Args:
        q: [h, N, F] queries of h heads.
        k: [h, F, M] keys.
        v: [h, G, M] values.
        allowed: [h or 1, N or 1, M or 1] True where a query may attend to a key.
        latest: [N] the last key's position that a query may attend to.
    """
    wide = jnp.promote_types(jnp.result_type(q, k, v), jnp.float32)
    scores = jnp.einsum("hnf,hfm->hnm", q, k, preferred_element_type=wide) / math.sqrt(q.shape[-1])
    if latest is not None:
        past = jnp.arange(k.shape[2]) <= latest[:, None]
        allowed = past if allowed is None else allowed & past
    if allowed is not None:
        # Not -inf, which makes a row without any allowed key NaN: so its weights are one, and the second select
        # empties them.
        scores = jnp.where(allowed, scores, jnp.finfo(wide).min)
    largest = checkpoint_name(lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)), "attention_largest")
    weights = jnp.exp(scores - largest)
    if allowed is not None:
        weights = jnp.where(allowed, weights, 0)
    # The weights' sum is one more column of their product with the values.
    values = jnp.concatenate([v, jnp.ones_like(v[:, :1])], axis=1)
    sums = jnp.einsum("hnm,hgm->hng", weights.astype(v.dtype), values, preferred_element_type=wide)
    sums = checkpoint_name(sums, "attention_sums")
    total = sums[..., -1:]
    return (sums[..., :-1] / jnp.where(total == 0, 1, total)).astype(v.dtype)


def blocked(
    q: Array, k: Array, v: Array, allowed: Array | None, latest: Array | None, *, block_bytes: int, least: int
) -> Array:
    """`mix` with scores of about `block_bytes` at a time; `least` divides h and the heads of a step."""
    heads, length = q.shape[:2]
    row_bytes = k.shape[2] * jnp.promote_types(q.dtype, jnp.float32).itemsize
    step, block = _plan(heads, length, row_bytes, block_bytes, least)
    count = -(-length // block)
    of_heads, of_queries = (allowed is not None and allowed.shape[axis] > 1 for axis in (0, 1))
    kept = jax.checkpoint(mix, policy=KEPT, prevent_cse=False)

    def split(x):  # step i takes heads i, i + steps, ...: heads that lie on several devices stay there
        return jnp.moveaxis(x.reshape(step, heads // step, *x.shape[1:]), 1, 0)

    def cut(x):  # [h, N, ...] -> [count, h, block, ...]
        x = jnp.pad(x, ((0, 0), (0, count * block - length), *[(0, 0)] * (x.ndim - 2)))
        return jnp.moveaxis(x.reshape(x.shape[0], count, block, *x.shape[2:]), 1, 0)

    def heads_of_a_step(arrays):
        number, q, k, v, mask = arrays
        # JAX computes ahead, for all blocks, what depends on a loop's constants only. Masks would fill the memory: so
        # they depend on the step's number.
        here = number >= 0
        mask, last = (None if x is None else x & here if x.dtype == bool else jnp.where(here, x, 0)
                      for x in (mask if of_heads else allowed, latest))
        if count == 1:
            return kept(q, k, v, mask, last)
        parts = (cut(q), cut(mask) if of_queries else None, None if last is None else cut(last[None])[:, 0])
        y = lax.map(lambda part: kept(part[0], k, v, part[1] if of_queries else mask, part[2]), parts)
        return jnp.moveaxis(y, 0, 1).reshape(step, count * block, v.shape[1])[:, :length]

    steps = jnp.arange(heads // step)
    y = lax.map(heads_of_a_step, (steps, *jax.tree.map(split, (q, k, v, allowed if of_heads else None))))
    return jnp.moveaxis(y, 0, 1).reshape(heads, length, v.shape[1])


def _plan(heads: int, length: int, row_bytes: int, block_bytes: int, least: int) -> tuple[int, int]:
    """Heads of a step and queries of a block: several heads with all queries where they fit, else `least` in parts."""
    fitting = [d for d in range(least, heads + 1, least) if heads % d == 0 and d * length * row_bytes <= block_bytes]
    if fitting:
        return fitting[-1], length
    return least, -(-length // min(length, -(-least * length * row_bytes // block_bytes)))
