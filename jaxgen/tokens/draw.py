"""Drawing tokens from logits: temperature, the k most likely, the nucleus; a key for each sample."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.core.checks import (
    check_batch,
    check_floating,
    check_fraction,
    check_integers,
    check_positive,
    concrete,
)
from jaxgen.core.keys import sample_keys
from jaxgen.tokens._categorical import draw_categorical


def filter_logits(
    logits: Float[Array, "... K"], *, top_k: Any = None, top_p: Any = None
) -> Float[Array, "... K"]:
    """Logits with -inf for what may not be drawn.

    Args:
        logits: [..., K].
        top_k: keep the k most likely tokens (and those as likely as the k-th); None keeps all. May be traced.
        top_p: keep the fewest most likely tokens whose probabilities sum up to at least p ("nucleus"); None keeps
            all. May be traced.

    Returns:
        float32 [..., K]; the most likely token always stays, and so does a NaN.

    Raises:
        ValueError: top_k below 1 or no whole number, top_p outside [0, 1], or logits that are no floating-point
            numbers.

    Example:
        >>> print(filter_logits(jnp.array([0.0, 2.0, 1.0]), top_k=2))
        [-inf   2.   1.]

    Reference: Fan, Lewis, Dauphin, "Hierarchical neural story generation", 2018, arXiv:1805.04833; Holtzman, Buys, Du,
        Forbes, Choi, "The curious case of neural text degeneration", 2020, arXiv:1904.09751
    """
    check_floating("logits", logits)
    logits = jnp.asarray(logits, jnp.promote_types(jnp.result_type(logits), jnp.float32))
    if top_k is not None:
        check_integers("top_k", top_k)
    count = concrete(top_k) if top_k is not None else None
    if count is not None and not (count >= 1).all():
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None:
        check_fraction("top_p", top_p)
    if top_k is None and top_p is None:
        return logits
    # What stays is decided among the sorted values: a fused program may compute a logit twice with two roundings, and
    # the logits themselves compared with the least one that stays could then lose even the most likely token.
    places = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    ordered, order = (jnp.flip(a, axis=-1) for a in jax.lax.sort((logits, places), num_keys=1))
    least = ordered[..., -1:]
    if top_k is not None:
        last = jnp.clip(jnp.asarray(top_k) - 1, 0, logits.shape[-1] - 1)
        least = jnp.maximum(least, jnp.take(ordered, last, axis=-1)[..., None])
    if top_p is not None:
        before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(ordered, axis=-1)
        kept = jnp.sum(before < top_p, axis=-1, keepdims=True)
        least = jnp.maximum(least, jnp.take_along_axis(ordered, jnp.maximum(kept - 1, 0), axis=-1))
    hidden = jnp.take_along_axis(ordered < least, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(hidden, -jnp.inf, logits)  # a NaN is less than nothing, and stays


def draw_tokens(
    key: Array, logits: Float[Array, "B ... K"], sample_ids: Int[Array, "B"], step: Any, *, temperature: Any = 1.0,
    top_k: Any = None, top_p: Any = None,
) -> Int[Array, "B ..."]:
    """Tokens from softmax(logits / temperature) after `filter_logits`.

    Sample i draws from fold_in(fold_in(key, i), step).

    Args:
        key: of all draws.
        logits: [B, ..., K].
        sample_ids: [B] whole numbers that name the samples.
        step: [] whole number; another one draws again.
        temperature: above 0; may be traced. For the most likely token use top_k=1.
        top_k, top_p: see `filter_logits`.

    Returns:
        int32 [B, ...]; -1 where a logit is NaN.

    Raises:
        ValueError: as `filter_logits`; a temperature that is not above 0; or what is no key, or ids that do not fit.

    Example:
        >>> logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
        >>> print(draw_tokens(jax.random.key(0), logits, jnp.arange(2), 0, top_k=1))
        [1 0]
    """
    check_batch("logits", logits)
    keys = jax.vmap(lambda k: jax.random.fold_in(k, step))(sample_keys(key, sample_ids, logits.shape[0]))
    return draw_each(keys, logits, temperature=temperature, top_k=top_k, top_p=top_p)


def draw_each(
    keys: Array, logits: Float[Array, "B ... K"], *, temperature: Any = 1.0, top_k: Any = None, top_p: Any = None
) -> Int[Array, "B ..."]:
    """`draw_tokens` with a key [B] for each sample."""
    check_positive("temperature", temperature, "; for the most likely token use top_k=1")
    return jax.vmap(draw_categorical)(keys, filter_logits(logits / temperature, top_k=top_k, top_p=top_p))
