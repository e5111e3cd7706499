"""The blocks of diffusion U-Nets: residual blocks with a time embedding, attention over pixels and to a context.

Parameters are named as in diffusers ("resnets_0/norm1/scale" for "resnets.0.norm1.weight"), so that published weights
need renaming and no rearranging (`jaxgen.interop`). Everything is NHWC; normalisation and softmax are float32.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from jaxgen.attention import attend
from jaxgen.nn.blocks import repeat2
from jaxgen.nn.conv_layer import Conv
from jaxgen.nn.norm import GroupNorm


def halve(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The mean of each 2x2 pixels; odd sizes round up, the last mean being over what is there."""
    padding = tuple((0, size % 2) for size in x.shape[1:3])
    return nn.avg_pool(x, (2, 2), (2, 2), padding, count_include_pad=False)


def double(x: Float[Array, "B H W C"], size: tuple[int, int] | None) -> Float[Array, "B 2*H 2*W C"]:
    """Each pixel as 2x2 pixels, cut to a height and width that `size` may give."""
    height, width = size or (None, None)
    return repeat2(x)[:, :height, :width]


class UpsampleTo(nn.Module):
    """Doubles height and width by repetition, cuts them to `size`, then a 3x3 convolution."""

    features: int
    size: tuple[int, int]
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B height width features"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        return Conv(self.features, (3, 3), name="conv", **types)(double(x, self.size))


class TimeResBlock(nn.Module):
    """x + conv(dropout(swish(norm(conv(swish(norm(x))) + Dense(swish(emb)))))), over `output_scale`.

    With `scale_shift` the embedding gives a factor and a shift after the second norm instead ("adaptive group norm",
    Dhariwal & Nichol, 2021). `resample` "down" or "up" halves or doubles both paths after the first norm (BigGAN's
    block, which DDPM++ uses); odd sizes round up, and `size` cuts off what was rounded. The last convolution starts
    at zero.
    """

    features: int
    norm_groups: int = 32
    epsilon: float = 1e-5
    scale_shift: bool = False
    resample: str | None = None
    size: tuple[int, int] | None = None  # height and width after "up"
    dropout: float = 0.0
    output_scale: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], emb: Float[Array, "B E"], train: bool = False) -> Array:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = nn.swish(GroupNorm(self.norm_groups, self.epsilon, name="norm1", **types)(x))
        if self.resample == "down":
            x, h = halve(x), halve(h)
        elif self.resample == "up":
            x, h = double(x, self.size), double(h, self.size)
        h = Conv(self.features, (3, 3), name="conv1", **types)(h)
        emb = nn.Dense(self.features * (1 + self.scale_shift), name="time_emb_proj", **types)(nn.swish(emb))
        emb = emb[:, None, None, :]
        norm = GroupNorm(self.norm_groups, self.epsilon, name="norm2", **types)
        if self.scale_shift:
            scale, shift = jnp.split(emb, 2, axis=-1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + emb)
        h = nn.Dropout(self.dropout)(nn.swish(h), deterministic=not train)
        h = Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros_init(), name="conv2", **types)(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), name="conv_shortcut", **types)(x)
        return (x + h) / self.output_scale if self.output_scale != 1 else x + h


class UNetAttention(nn.Module):
    """Attention of `[B, N, D]` to itself or to a context `[B, M, E]` that may be masked, by diffusers' names."""

    heads: int
    qkv_bias: bool = False
    zero_out: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B N D"], context: Array | None = None, context_mask: Array | None = None
    ) -> Float[Array, "B N D"]:
        features = x.shape[-1]
        if features % self.heads:
            raise ValueError(f"heads={self.heads} must divide the channel count {features}")
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        source = x if context is None else context
        query, key, value = (
            nn.Dense(features, use_bias=self.qkv_bias, name=name, **types)(of)
            for name, of in (("to_q", x), ("to_k", source), ("to_v", source))
        )
        query, key, value = (a.reshape(*a.shape[:2], self.heads, -1) for a in (query, key, value))
        x = attend(query, key, value, allowed=None if context_mask is None else context_mask[:, None, None])
        init = {"kernel_init": nn.initializers.zeros_init()} if self.zero_out else {}
        return nn.Dense(features, name="to_out_0", **init, **types)(x.reshape(*x.shape[:2], features))


class PixelBlock(nn.Module):
    """x + attention over all positions of the image, after a group norm, over `output_scale`."""

    heads: int = 1
    norm: bool = True
    norm_groups: int = 32
    epsilon: float = 1e-5
    output_scale: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = x.reshape(x.shape[0], -1, x.shape[-1])
        if self.norm:
            h = GroupNorm(self.norm_groups, self.epsilon, name="group_norm", **types)(h)
        # The three projections and the way out are this module's own, without a level between, as in diffusers.
        attention = UNetAttention(self.heads, qkv_bias=True, zero_out=True, **types)
        nn.share_scope(self, attention)
        h = attention(h)
        return (x + h.reshape(x.shape)) / self.output_scale


class ContextLayer(nn.Module):
    """Self-attention, attention to the context, gated feed-forward; each after a layer norm, each added.

    The gate is GEGLU (Shazeer, "GLU variants improve transformer", 2020).
    """

    heads: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], context: Array, context_mask: Array | None) -> Float[Array, "B N D"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        features = x.shape[-1]
        norm1, norm2, norm3 = (nn.LayerNorm(epsilon=1e-5, name=f"norm{i}", **types) for i in (1, 2, 3))
        x = x + UNetAttention(self.heads, name="attn1", **types)(norm1(x))
        x = x + UNetAttention(self.heads, name="attn2", **types)(norm2(x), context, context_mask)
        value, gate = jnp.split(nn.Dense(8 * features, name="ff_net_0_proj", **types)(norm3(x)), 2, axis=-1)
        return x + nn.Dense(features, name="ff_net_2", **types)(value * nn.gelu(gate, approximate=False))


class ContextBlock(nn.Module):
    """x + `layers` context layers over the positions of the image, between two projections. Rombach et al. (2022)."""

    heads: int
    layers: int = 1
    linear_projection: bool = False
    norm_groups: int = 32
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], context: Float[Array, "B M E"], context_mask: Bool[Array, "B M"] | None
    ) -> Float[Array, "B H W C"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        channels = x.shape[-1]

        def project(name, h, **init):
            if self.linear_projection:
                return nn.Dense(channels, name=name, **init, **types)(h)
            return Conv(channels, (1, 1), name=name, **init, **types)(h)

        h = GroupNorm(self.norm_groups, 1e-6, name="norm", **types)(x)
        h = project("proj_in", h).reshape(x.shape[0], -1, channels)
        for i in range(self.layers):
            h = ContextLayer(self.heads, name=f"transformer_blocks_{i}", **types)(h, context, context_mask)
        return x + project("proj_out", h.reshape(x.shape), kernel_init=nn.initializers.zeros_init())
