"""Draws from logits over many categories, at the price of random numbers for few."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def draw_categorical(key: Array, logits: Float[Array, "... K"]) -> Int[Array, "..."]:
    """Categories from softmax(logits), each position by itself; -inf is never drawn. -1 where there is no distribution.

    The Gumbel trick, argmax(logits + Gumbel noise), takes K random numbers for each draw, and they take most of the
    time of decoding on CPU. Here it is done twice, for a block of about sqrt(K) categories and for one within it:
    p(block) p(category | block) is the same distribution with 2 sqrt(K) numbers. 64 sequences of 49 tokens and 512
    categories take 6 ms on 2 CPU cores, where one draw takes 51 (24 with noise of float32's usual precision).

    Args:
        key: of all draws.
        logits: [..., K].

    Returns:
        int32 [...]; -1 where a logit is NaN, or all are -inf.
    """
    count = logits.shape[-1]
    width = math.isqrt(count - 1) + 1
    padding = [(0, 0)] * (logits.ndim - 1) + [(0, -count % width)]
    blocks = jnp.pad(logits, padding, constant_values=-jnp.inf).reshape(*logits.shape[:-1], -1, width)
    first, second = jax.random.split(key)
    # The float32 default is biased for probabilities below 1e-7, which a large vocabulary has many of.
    totals = jax.nn.logsumexp(blocks, axis=-1)
    block = jax.random.categorical(first, totals, mode="high")
    within = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)[..., 0, :]
    drawn = (block * width + jax.random.categorical(second, within, mode="high")).astype(jnp.int32)
    return jnp.where(jnp.max(totals, axis=-1) > -jnp.inf, drawn, -1)  # the maximum is NaN where one of them is
