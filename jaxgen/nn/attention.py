"""The layer of multi-head attention over sequences, rotary positions, and the cache of decoding token by token.

The cache is an argument and a result: an `Attention` that is given one is still a pure function.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jaxgen.attention import attend


class KVCache(NamedTuple):
    """Keys and values of the positions so far, in arrays of a fixed length, zero where nothing is written yet."""

    key: Float[Array, "B length heads head_features"]
    value: Float[Array, "B length heads head_features"]

    @property
    def length(self) -> int:
        """How many positions it holds."""
        return self.key.shape[1]


def rotate(
    x: Float[Array, "B N heads D"], positions: Int[Array, "N"] | Int[Array, "N axes"], *, base: float = 10000.0
) -> Float[Array, "B N heads D"]:
    """Rotary positions: pairs of features turn by angles proportional to the position.

        (a, b) -> (a cos - b sin, a sin + b cos),  angle_i = position * base^(-i / half),  i = 0 .. half - 1,
        half = D / (2 axes); a is feature i of an axis' share of D and b is feature half + i

    The product of a rotated query and a rotated key depends on the difference of their positions only. With several
    axes (row and column of an image) each has an equal share of the features.

    Args:
        x: [B, N, heads, D] queries or keys.
        positions: [N] positions, or [N, axes] coordinates.
        base: the slowest pair turns once in about 2 pi base positions.

    Raises:
        ValueError: 2 axes do not divide D, or there is not one position per token.

    Su et al., "RoFormer: enhanced transformer with rotary position embedding" (2021).
    """
    batch, length, heads, features = x.shape
    if jnp.shape(positions)[:1] != (length,):
        raise ValueError(f"positions must hold one position per token, [{length}]; got shape {jnp.shape(positions)}")
    positions = jnp.reshape(positions, (length, -1))
    axes = positions.shape[1]
    if features % (2 * axes):
        raise ValueError(f"{2 * axes} must divide the {features} features of a head to rotate along {axes} axes")
    half = features // (2 * axes)
    angles = positions[..., None] * base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    cosine, sine = (f(angles)[:, None] for f in (jnp.cos, jnp.sin))
    pairs = x.reshape(batch, length, heads, axes, 2, half).astype(jnp.promote_types(x.dtype, jnp.float32))
    first, second = pairs[..., 0, :], pairs[..., 1, :]
    turned = jnp.stack([first * cosine - second * sine, first * sine + second * cosine], axis=-2)
    return turned.reshape(x.shape).astype(x.dtype)


class Attention(nn.Module):
    """out(softmax(q k^T / sqrt(d)) v), d = D / heads, over x itself or over a context.

    The weighting is that of `jaxgen.attention.attend`: a float32 softmax whatever the dtype, and a query that may
    attend to nothing takes nothing, its sum is 0.

    With a cache, x are the tokens at `index`, `index + 1`, ...: their keys and values are written there and they
    attend to every position up to their own. Token by token this equals the causal pass over the whole sequence.

    Attributes:
        heads: must divide the features of x.
        causal: position i attends to positions 0 .. i only.
        qk_norm: RMS normalisation of queries and keys, per head, with a learned scale; it bounds the logits (Henry
            et al., "Query-key normalization for transformers", 2020).
        out_init: initialiser of the output's kernel; zeros make the layer 0 at first.
        dtype: computing dtype; None computes in the parameters' dtype.
        param_dtype: dtype of the parameters.

    Vaswani et al., "Attention is all you need" (2017).
    """

    heads: int
    causal: bool = False
    qk_norm: bool = False
    out_init: Any = nn.initializers.lecun_normal()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B N D"],
        context: Float[Array, "B M E"] | None = None,
        *,
        mask: Bool[Array, "B M"] | None = None,
        positions: Int[Array, "N"] | Int[Array, "N axes"] | None = None,
        cache: KVCache | None = None,
        index: Int[Array, ""] | None = None,
    ) -> Float[Array, "B N D"] | tuple[Float[Array, "B N D"], KVCache]:
        """Attends.

        Args:
            x: [B, N, D] queries, and keys and values too without a context.
            context: [B, M, E] keys and values; no rotary positions, no causality, no cache.
            mask: [B, M] True where a key may be attended to; M = N without a context.
            positions: of x's tokens, for `rotate`; None does not rotate.
            cache: keys and values of the positions before `index`; needs `causal`.
            index: [] position of x[:, 0] in the cache; traced. Where `index + N` passes the cache's length, a traced
                index gives NaN.

        Returns:
            [B, N, D]; with a cache, (that, the new cache).

        Raises:
            ValueError: heads do not divide the features, the mask has another shape, arguments that exclude each
                other, or a cache of another batch or too short.
        """
        batch, length, features = x.shape
        if features % self.heads:
            raise ValueError(f"heads={self.heads} must divide the features of x, got {features}")
        if context is not None and (self.causal or positions is not None or cache is not None):
            raise ValueError("context excludes causal, positions and cache: those order x's own tokens")
        if (cache is None) != (index is None) or (cache is not None and not (self.causal and mask is None)):
            raise ValueError("cache and index belong together, need causal=True and exclude mask")
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def project(name, inputs):
            return nn.Dense(features, name=name, **types)(inputs).reshape(batch, -1, self.heads, features // self.heads)

        source = x if context is None else context
        query, key, value = project("query", x), project("key", source), project("value", source)
        if self.qk_norm:
            query = nn.RMSNorm(name="query_norm", **types)(query)
            key = nn.RMSNorm(name="key_norm", **types)(key)
        if positions is not None:
            query, key = rotate(query, positions), rotate(key, positions)
        if cache is not None:
            key = _within(cache, key, index)
            start = (0, index, 0, 0)
            cache = KVCache(jax.lax.dynamic_update_slice(cache.key, key.astype(cache.key.dtype), start),
                            jax.lax.dynamic_update_slice(cache.value, value.astype(cache.value.dtype), start))
            key, value = cache.key.astype(query.dtype), cache.value.astype(query.dtype)
        if mask is not None and jnp.shape(mask) != key.shape[:2]:
            raise ValueError(f"mask must have one entry per key, shape {key.shape[:2]}; got {jnp.shape(mask)}")
        y = attend(query, key, value, allowed=None if mask is None else jnp.asarray(mask, bool)[:, None, None],
                   causal=self.causal, index=0 if index is None else index)
        y = nn.Dense(features, kernel_init=self.out_init, name="out", **types)(y.reshape(batch, length, features))
        return y if cache is None else (y, cache)


def _within(cache: KVCache, key: Array, index: Array | int) -> Array:
    """The keys [B, N, ...] to be written at `index`, NaN where they pass the cache's end, which would be moved back."""
    if cache.key.shape[0] != key.shape[0]:
        raise ValueError(f"the cache is of {cache.key.shape[0]} sequences, and x of {key.shape[0]}: make it for as "
                         "many (twice as many with guidance)")
    length = key.shape[1]
    if not isinstance(index, jax.core.Tracer) and not 0 <= int(index) <= cache.length - length:
        raise ValueError(f"index={index} and {length} tokens reach position {int(index) + length} of a cache of "
                         f"{cache.length}: make a longer one")
    return jnp.where(index + length <= cache.length, key, jnp.nan)
