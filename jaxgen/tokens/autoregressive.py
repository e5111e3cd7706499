"""Autoregressive decoding: each token given those before it.

A network reads one token at a time and keeps what it needs in a cache, a pytree:

    next_fn(tokens [B, 1, ...], cache, index [], cond) -> (logits [B, 1, ..., K], cache)

where `tokens` is the token before position `index` (not looked at for index 0) and the logits are of the token at
`index` (`jaxgen.nn.Transformer` with `causal`). Known tokens are given as everywhere: `known` [B, N] and `keep` [B, N]
boolean, True keeps. What is filled in depends on the known tokens before it, not on those after.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxgen.core.checks import check_finite, check_key
from jaxgen.core.conditions import null_like
from jaxgen.core.mapped import vary_like
from jaxgen.tokens.contract import known_tokens
from jaxgen.tokens.draw import draw_tokens

PyTree = Any
NextFn = Callable[[Array, PyTree, Array, Any], tuple[Array, PyTree]]


def guide(next_fn: NextFn, scale: Any, null_cond: Any) -> NextFn:
    """Classifier-free guidance of logits, l_null + scale (l_cond - l_null); its cache is that of 2 B sequences.

    Args:
        next_fn: the network's.
        scale: 1 is the conditional model; may be traced.
        null_cond: a pytree like cond, for "no condition"; leaves broadcast to cond's leaves.

    Returns:
        A function as `next_fn`, which calls it once with 2 B sequences, those with the condition first.

    Raises:
        ValueError: a scale that is not finite; the guided function: no cond, or null_cond that does not fit it.

    Example:
        >>> guided = guide(lambda tokens, cache, index, cond: (cond[:, None, None], cache), 3.0, 1.0)
        >>> print(guided(jnp.zeros((1, 1), int), (), 0, jnp.array([2.0]))[0])  # 1 + 3 (2 - 1)
        [[[4.]]]

    Reference: Ho, Salimans, "Classifier-free diffusion guidance", 2022, arXiv:2207.12598
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
    keep: Bool[Array, "B N ..."] | None = None,
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
        known, keep: tokens to keep where `keep` is True; they come back exactly.
        cond: passed to the network.
        sample_ids: [B], 0 .. B - 1 by default.

    Returns:
        int32 tokens of `shape`; -1 where the logits were NaN.

    Raises:
        ValueError: known tokens or `keep` that do not fit, a cache that is shorter than the sequence, what is no key,
            or a setting out of its bounds.

    Example:
        >>> def counting(tokens, cache, index, cond):  # the token after n is most likely n + 1
        ...     return 9.0 * jax.nn.one_hot(tokens + 1, 6), cache
        >>> print(autoregressive_sample(jax.random.key(0), counting, (), (1, 4), top_k=1))
        [[1 2 3 4]]

    Reference: van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel recurrent neural networks", 2016, arXiv:1601.06759
    """
    check_key(key)
    for part in jax.tree.leaves(cache, is_leaf=lambda part: hasattr(part, "length")):
        if getattr(part, "length", shape[1]) < shape[1]:
            raise ValueError(f"shape asks for {shape[1]} tokens, but the cache holds {part.length}: make a longer one")
    columns = tuple(jnp.moveaxis(a, 1, 0) for a in known_tokens(shape, known, keep))

    def advance(carry, inputs):
        before, cache = carry
        index, given, kept = inputs
        logits, cache = next_fn(before[:, None], cache, index, cond)
        drawn = draw_tokens(key, logits[:, 0], sample_ids, index, temperature=temperature, top_k=top_k, top_p=top_p)
        token = jnp.where(kept, given, drawn)
        return (token, cache), token

    first = jnp.zeros((shape[0], *shape[2:]), jnp.int32)
    start = vary_like((first, cache), cache, known, keep, cond, key, sample_ids, temperature, top_k, top_p)
    _, tokens = jax.lax.scan(advance, start, (jnp.arange(shape[1]), *columns))
    return jnp.moveaxis(tokens, 0, 1)
