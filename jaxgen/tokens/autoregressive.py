"""Autoregressive priors: each token given those before it.

A network reads one token at a time and keeps what it needs in a cache, a pytree:

    next_fn(tokens [B, 1, ...], cache, index [], cond) -> (logits [B, 1, ..., K], cache)

where `tokens` is the token before position `index` (not looked at for index 0) and the logits are of the token at
`index` (`jaxgen.nn.Transformer` with `causal`). Known tokens are given as everywhere: `known` [B, N] and `mask`
[B, N] boolean, **True keeps**. What is filled in knows the given tokens before it, not those after.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_finite, check_floating, check_integers, check_keep_mask, check_key
from jaxgen.core.keys import numbered
from jaxgen.core.mapped import vary_like
from jaxgen.diffusion.sampling.guidance import null_like
from jaxgen.tokens.draw import draw_tokens
from jaxgen.tokens.masked import entries

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

    Returns:
        [B, N, ...]; NaN for a token that has no logit.

    Raises:
        ValueError: logits that are no floating-point numbers or of another shape, or (where their values are known)
            tokens that have none.
    """
    check_floating("logits", logits)
    if logits.shape[:-1] != tokens.shape:
        raise ValueError(f"logits must be [B, N, ..., K] for tokens {tokens.shape}, got {logits.shape}")
    log_p = jax.nn.log_softmax(jnp.asarray(logits, jnp.promote_types(jnp.result_type(logits), jnp.float32)))
    nats = -entries(log_p, tokens)
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

    Raises:
        ValueError: a scale that is not finite; the guided function: no cond, or null_cond that does not fit it.
    """
    check_finite("scale", scale)

    def guided(tokens, cache, index, cond):
        both = jax.tree.map(lambda c, n: jnp.concatenate([c, n]), cond, null_like(cond, null_cond, len(tokens)))
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
        cache: the empty cache, of B sequences (2 B for a guided `next_fn`). A part of it that has a `length`, as
            `jaxgen.models`' have, is asked for it.
        shape: (B, N), or (B, N, levels).
        temperature, top_k, top_p: see `draw_tokens`; may be traced.
        known, mask: tokens to keep where `mask` is True; they come back exactly.
        cond: passed to the network.
        sample_ids: [B], 0 .. B - 1 by default.

    Returns:
        int32 tokens of `shape`; -1 where the logits were NaN.

    Raises:
        ValueError: `known` and `mask` do not come together, or do not fit; a cache that is shorter than the sequence;
            what is no key, or a setting out of its bounds.
    """
    check_key(key)
    for part in jax.tree.leaves(cache, is_leaf=lambda part: hasattr(part, "length")):
        if getattr(part, "length", shape[1]) < shape[1]:
            raise ValueError(f"shape asks for {shape[1]} tokens, but the cache holds {part.length}: make a longer one")
    if (known is None) != (mask is None):
        raise ValueError("known and mask belong together: give both, or neither")
    if known is None:
        known, mask = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)
    if jnp.shape(known) != tuple(shape):
        raise ValueError(f"known must have the shape {tuple(shape)} of the result, got {jnp.shape(known)}")
    check_integers("known", known)
    check_keep_mask(mask, tuple(shape))
    ids = numbered(sample_ids, shape[0])
    columns = jax.tree.map(lambda a: jnp.moveaxis(jnp.broadcast_to(a, shape), 1, 0),
                           (jnp.asarray(known, jnp.int32), mask))

    def advance(carry, inputs):
        before, cache = carry
        index, given, keep = inputs
        logits, cache = next_fn(before[:, None], cache, index, cond)
        drawn = draw_tokens(key, logits[:, 0], ids, index, temperature=temperature, top_k=top_k, top_p=top_p)
        token = jnp.where(keep, given, drawn.astype(jnp.int32))
        return (token, cache), token

    first = jnp.zeros((shape[0], *shape[2:]), jnp.int32)
    start = vary_like((first, cache), cache, known, mask, cond, key, ids)
    _, tokens = jax.lax.scan(advance, start, (jnp.arange(shape[1]), *columns))
    return jnp.moveaxis(tokens, 0, 1)
