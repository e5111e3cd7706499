"""Autoregressive priors: each token given those before it.

A network reads one token at a time and keeps what it needs in a cache, a pytree:

    next_fn(tokens [B, 1, ...], cache, index [], cond) -> (logits [B, 1, ..., K], cache)

where `tokens` is the token before position `index` (not looked at for index 0) and the logits are of the token at
`index` (`jaxgen.models.Transformer` with `causal`). Known tokens are given as everywhere: `known` [B, N] and `mask`
[B, N] boolean, **True keeps**. What is filled in knows the given tokens before it, not those after.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.diffusion.checks import check_keep_mask, numbered
from jaxgen.priors.draw import draw_tokens

PyTree = Any
NextFn = Callable[[Array, PyTree, Array, Any], tuple[Array, PyTree]]


def token_nats(
    logits: Float[Array, "B N ... K"], tokens: Int[Array, "B N ..."], *, smoothing: float = 0.0
) -> Float[Array, "B N ..."]:
    """-log p of each token, in float32; with label smoothing s: (1 - s) of it and s times the mean over all K.

    Args:
        logits: [B, N, ..., K].
        tokens: [B, N, ...] below K.
        smoothing: s, in [0, 1).
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    nats = -jnp.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]
    return nats if not smoothing else (1 - smoothing) * nats - smoothing * jnp.mean(log_p, axis=-1)


def autoregressive_loss(
    logits: Float[Array, "B N ... K"], tokens: Int[Array, "B N ..."], *, smoothing: float = 0.0
) -> Float[Array, "B"]:
    """-log p(tokens) of each sequence in nats: the sum of `token_nats`.

    Args:
        logits: [B, N, ..., K], where logits[:, i] depend on tokens[:, :i] alone.
        tokens: [B, N, ...].
        smoothing: of the labels.
    """
    nats = token_nats(logits, tokens, smoothing=smoothing)
    return jnp.sum(nats.reshape(nats.shape[0], -1), axis=1)


def guide(next_fn: NextFn, scale: Any, null_cond: Any) -> NextFn:
    """Classifier-free guidance of logits, l_null + scale (l_cond - l_null); its cache is that of 2 B sequences.

    Args:
        next_fn: the network's.
        scale: 1 is the conditional model; may be traced.
        null_cond: a pytree like cond, for "no condition"; leaves broadcast to cond's leaves.
    """

    def guided(tokens, cache, index, cond):
        both = jax.tree.map(lambda c, n: jnp.concatenate([c, jnp.broadcast_to(jnp.asarray(n, c.dtype), c.shape)]),
                            cond, null_cond)
        logits, cache = next_fn(jnp.concatenate([tokens, tokens]), cache, index, both)
        with_cond, without = jnp.split(logits, 2)
        return without + scale * (with_cond - without), cache

    return guided


def autoregressive_sample(
    key: Array,
    next_fn: NextFn,
    cache: PyTree,
    shape: tuple[int, ...],
    *,
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    known: Int[Array, "B N ..."] | None = None,
    mask: Bool[Array, "B N ..."] | None = None,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Int[Array, "B N ..."]:
    """Tokens one after the other, in one `lax.scan`.

    Args:
        key: sample i at position n draws from fold_in(fold_in(key, i), n).
        next_fn: see this module.
        cache: the empty cache, of B sequences (2 B for a guided `next_fn`).
        shape: (B, N), or (B, N, levels).
        temperature, top_k, top_p: see `draw_tokens`; may be traced.
        known, mask: tokens to keep where `mask` is True; they come back exactly.
        cond: passed to the network.
        sample_ids: [B], 0 .. B - 1 by default.

    Returns:
        int32 tokens of `shape`.

    Raises:
        ValueError: `known` and `mask` do not come together, or do not fit.
    """
    if (known is None) != (mask is None):
        raise ValueError("known and mask belong together: give both, or neither")
    if known is None:
        known, mask = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)
    if jnp.shape(known) != tuple(shape):
        raise ValueError(f"known must have the shape {tuple(shape)} of the result, got {jnp.shape(known)}")
    check_keep_mask(mask, tuple(shape))
    ids = numbered(sample_ids, shape[0])
    columns = jax.tree.map(lambda a: jnp.moveaxis(jnp.broadcast_to(a, shape), 1, 0), (known.astype(jnp.int32), mask))

    def advance(carry, inputs):
        before, cache = carry
        index, given, keep = inputs
        logits, cache = next_fn(before[:, None], cache, index, cond)
        drawn = draw_tokens(key, logits[:, 0], ids, index, temperature=temperature, top_k=top_k, top_p=top_p)
        token = jnp.where(keep, given, drawn.astype(jnp.int32))
        return (token, cache), token

    first = jnp.zeros((shape[0], *shape[2:]), jnp.int32)
    _, tokens = jax.lax.scan(advance, (first, cache), (jnp.arange(shape[1]), *columns))
    return jnp.moveaxis(tokens, 0, 1)
