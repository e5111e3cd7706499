"""Transformers over token sequences: the block that all of them share, and the network of the token priors.

One `Transformer` is the denoiser of masked diffusion (both directions, mask tokens in its vocabulary) and, with
`causal=True`, the autoregressive prior. The residual stream is pre-norm; normalisation statistics, softmax and
logits are float32 whatever the dtype.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count
from jaxgen.core.errors import unknown_name
from jaxgen.nn.attention import Attention, KVCache
from jaxgen.nn.checks import check_attributes
from jaxgen.nn.embeddings import Condition

POSITIONS = ("learned", "rope", "rope2d")

zeros_init = nn.initializers.zeros_init()
small_init = nn.initializers.normal(0.02)


class TransformerBlock(nn.Module):
    """Attention, attention to a context if there is one, and a two-layer MLP, each after a norm and added to x.

        x <- x + g1 attention((1 + s1) norm(x) + b1)
        x <- x + cross_attention(norm(x), context)
        x <- x + g2 mlp((1 + s2) norm(x) + b2),   (b1, s1, g1, b2, s2, g2) = dense(swish(condition))

    The modulation is zero at first, and so is the attention to the context: with a condition the block starts as
    the identity (adaLN-Zero, Peebles & Xie, 2023). Without one, s = b = 0, g = 1 and the norms learn a scale and a
    shift of their own.

    Attributes:
        heads, causal, qk_norm: see `Attention`.
        mlp_ratio: features between the two layers of the MLP over the features of x.
        dtype: computing dtype; None computes in the parameters' dtype.
        param_dtype: dtype of the parameters.
    """

    heads: int
    mlp_ratio: float = 4.0
    causal: bool = False
    qk_norm: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B N D"],
        condition: Float[Array, "B C"] | None = None,
        context: Float[Array, "B M E"] | None = None,
        *,
        mask: Bool[Array, "B N"] | None = None,
        context_mask: Bool[Array, "B M"] | None = None,
        positions: Int[Array, "N"] | Int[Array, "N axes"] | None = None,
        cache: KVCache | None = None,
        index: Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "B N D"], KVCache | None]:
        """(x, the cache with x's keys and values, or None); the arguments are those of `Attention`."""
        features = x.shape[-1]
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        shift1, scale1, gate1, shift2, scale2, gate2 = (0, 0, 1, 0, 0, 1)
        if condition is not None:
            modulation = nn.Dense(6 * features, kernel_init=zeros_init, name="modulation", **types)(nn.swish(condition))
            shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation[:, None], 6, axis=-1)

        def norm(name, affine):
            return nn.LayerNorm(epsilon=1e-6, use_scale=affine, use_bias=affine, name=name, **types)(x)

        h = (1 + scale1) * norm("norm1", condition is None) + shift1
        h = Attention(self.heads, self.causal, self.qk_norm, name="attention", **types)(
            h, mask=mask, positions=positions, cache=cache, index=index
        )
        h, cache = h if cache is not None else (h, None)
        x = x + gate1 * h
        if context is not None:
            attend = Attention(self.heads, qk_norm=self.qk_norm, out_init=zeros_init, name="cross_attention", **types)
            x = x + attend(norm("norm_context", True), context, mask=context_mask)
        h = (1 + scale2) * norm("norm2", condition is None) + shift2
        h = nn.gelu(nn.Dense(int(self.mlp_ratio * features), name="mlp1", **types)(h))
        return x + gate2 * nn.Dense(features, name="mlp2", **types)(h), cache


class OutputLayer(nn.Module):
    """dense((1 + s) norm(x) + b), (b, s) = dense(swish(condition)): [B, N, D] -> [B, N, features], float32 or wider.

    Without a condition the norm learns its own scale and shift. The modulation is zero at first.
    """

    features: int
    kernel_init: Any = small_init
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B N D"], condition: Float[Array, "B C"] | None = None
    ) -> Float[Array, "B N features"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        affine = condition is None
        shift, scale = 0, 0
        if condition is not None:
            modulate = nn.Dense(2 * x.shape[-1], kernel_init=zeros_init, name="modulation", **types)
            shift, scale = jnp.split(modulate(nn.swish(condition))[:, None], 2, axis=-1)
        x = (1 + scale) * nn.LayerNorm(epsilon=1e-6, use_scale=affine, use_bias=affine, name="norm", **types)(x) + shift
        # Rounding logits to bfloat16 would merge tokens whose probabilities differ by several percent.
        wide = jnp.promote_types(x.dtype, jnp.float32)
        product = functools.partial(jax.lax.dot_general, preferred_element_type=wide)
        return nn.Dense(self.features, kernel_init=self.kernel_init, dot_general=product, name="dense", **types)(x)


class Transformer(nn.Module):
    """Logits over tokens at every position of a sequence, in both directions or causally.

    Without `causal`, logits[:, i] may depend on every token: the network of masked diffusion.
    With it, the input is shifted by a learned start, so logits[:, i] predicts tokens[:, i] from tokens[:, :i].

    Attributes:
        num_tokens: input vocabulary, the mask token included where there is one. A token outside gives NaN.
        num_outputs: K, the logits per token; None: num_tokens.
        features: size of the residual stream.
        depth: number of blocks.
        heads: attention heads; must divide features.
        mlp_ratio: see `TransformerBlock`.
        positions: "learned" (a table of max_length rows), "rope" (rotary), or "rope2d" (rotary along the rows and
            columns of an image's tokens in row-major order, `grid_width` to a row).
        max_length: rows of the table of positions, and the length of the cache.
        grid_width: for "rope2d".
        causal: see above.
        num_classes: 0 for none; otherwise classes are 0 .. num_classes, the last being "no class".
        context: blocks attend to a context, such as a text's features.
        levels: indices per position (residual or grouped codes): tokens are [B, N, levels], their embeddings are
            added, and the logits [B, N, levels, K] of one position are independent given the past.
        qk_norm: see `Attention`.
        time_scale: multiplies time before its embedding; the default is for times in [0, 1].
        remat: compute each block again in the backward pass instead of keeping its activations.
        dtype: computing dtype (for example bfloat16); None computes in the parameters' dtype.
        param_dtype: dtype of the parameters.

    Classes and time act by adaLN modulation. Give time to both init and apply, or to neither.

    Vaswani et al. (2017); Chang et al., "MaskGIT" (2022); Peebles & Xie, "Scalable diffusion models with
    transformers" (2023).
    """

    num_tokens: int
    num_outputs: int | None = None
    features: int = 256
    depth: int = 6
    heads: int = 4
    mlp_ratio: float = 4.0
    positions: str = "learned"
    max_length: int = 1024
    grid_width: int | None = None
    causal: bool = False
    num_classes: int = 0
    context: bool = False
    levels: int = 1
    qk_norm: bool = False
    time_scale: float = 1000.0
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self, num_classes=0)
        super().__post_init__()

    def init_cache(self, batch: int, length: int | None = None) -> tuple[KVCache, ...]:
        """An empty cache for `batch` sequences of up to `length` tokens (default: max_length).

        Raises:
            ValueError: more tokens than there are learned positions.
        """
        length = self.max_length if length is None else check_count("length", length)
        if self.positions == "learned" and length > self.max_length:
            raise ValueError(f"a cache of {length} tokens does not fit in max_length={self.max_length} learned "
                             "positions")
        shape = (check_count("batch", batch), length, self.heads, self.features // self.heads)
        dtype = self.dtype or self.param_dtype
        return tuple(KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(self.depth))

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B N"] | Int[Array, "B N levels"],
        *,
        time: Float[Array, "B"] | None = None,
        classes: Int[Array, "B"] | None = None,
        context: Float[Array, "B M E"] | None = None,
        context_mask: Bool[Array, "B M"] | None = None,
        cache: tuple[KVCache, ...] | None = None,
        index: Int[Array, ""] | None = None,
    ) -> Float[Array, "B N K"] | Float[Array, "B N levels K"] | tuple[Array, tuple[KVCache, ...]]:
        """The logits.

        Args:
            tokens: [B, N], or [B, N, levels]. With a cache, tokens[:, 0] is the token before `index` (at index 0 it
                is not looked at) and logits[:, 0] predicts the token at `index`; N is 1, or more to read a known
                beginning at once.
            time: [B] of the diffusion.
            classes: [B]; None: no class.
            context: [B, M, E] where the attribute `context` is True.
            context_mask: [B, M] True where the context may be attended to.
            cache: what the positions before `index` left; `init_cache` at index 0.
            index: [] position of logits[:, 0], below the cache's length; traced. Beyond it, or beyond the learned
                positions, the logits are NaN.

        Returns:
            Float32 logits [B, N, K], or [B, N, levels, K]; with a cache, (logits, the new cache).

        Raises:
            ValueError: shapes or arguments that do not fit the attributes or the cache; an unknown name of positions.
        """
        self._check(tokens, context, cache, index)
        batch, length = tokens.shape[:2]
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        embed = functools.partial(nn.Embed, features=self.features, embedding_init=small_init, **types)
        levels = tokens[..., None] if self.levels == 1 else tokens
        levels = jnp.where(levels < 0, self.num_tokens, levels)  # they would count from the end
        x = sum(embed(self.num_tokens, name=f"tokens{i}")(levels[..., i]) for i in range(self.levels))
        slots = jnp.arange(length) + (0 if index is None else index)
        if self.causal:
            start = self.param("start", small_init, (self.features,), self.param_dtype).astype(x.dtype)
            before = x if cache is not None else jnp.roll(x, 1, axis=1)
            x = jnp.where(slots[:, None] == 0, start, before)
        positions = None if self.positions == "learned" else slots
        if self.positions == "learned":
            x = x + embed(self.max_length, name="positions")(slots)
        elif self.positions == "rope2d":
            positions = jnp.stack([slots // self.grid_width, slots % self.grid_width], axis=-1)
        condition = Condition(self.features, self.num_classes, self.time_scale, name="condition", **types)(
            batch, time, classes
        )
        block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
        caches = []
        for i in range(self.depth):
            x, written = block(self.heads, self.mlp_ratio, self.causal, self.qk_norm, name=f"block{i}", **types)(
                x, condition, context, context_mask=context_mask, positions=positions,
                cache=None if cache is None else cache[i], index=index,
            )
            caches.append(written)
        outputs = self.num_outputs or self.num_tokens
        logits = OutputLayer(self.levels * outputs, name="out", **types)(x, condition)
        if self.levels > 1:
            logits = logits.reshape(batch, length, self.levels, outputs)
        return logits if cache is None else (logits, tuple(caches))

    def _check(self, tokens, context, cache, index) -> None:
        if self.positions not in POSITIONS:
            raise unknown_name("positions", self.positions, POSITIONS)
        if self.positions == "rope2d" and not self.grid_width:
            raise ValueError(f"positions 'rope2d' needs grid_width, the tokens of a row; got {self.grid_width}")
        if tokens.ndim != (2 if self.levels == 1 else 3) or tokens.shape[2:] not in ((), (self.levels,)):
            expected = "[B, N]" if self.levels == 1 else f"[B, N, {self.levels}]"
            raise ValueError(f"tokens must have shape {expected} for levels={self.levels}, got {tokens.shape}")
        if self.positions == "learned" and tokens.shape[1] > self.max_length:
            raise ValueError(f"{tokens.shape[1]} tokens do not fit in max_length={self.max_length} learned positions")
        if (context is not None) != self.context:
            fix = "give the features to attend to" if self.context else "set context=True"
            raise ValueError(f"context is {'None' if context is None else 'given'} but the attribute "
                             f"context={self.context}: {fix}")
        if (cache is None) != (index is None) or (cache is not None and not self.causal):
            raise ValueError("cache and index belong together, and need causal=True")
