"""The U-Net of diffusion models, block for block that of diffusers' UNet2DModel and UNet2DConditionModel.

A level is some residual blocks, each followed by attention or not, and a change of resolution. The way up takes the
results of the way down as further channels. Ho, Jain & Abbeel (2020); Dhariwal & Nichol (2021); Rombach et al. (2022).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.errors import unknown_name
from jaxgen.nn.blocks import Downsample, depth_to_space, space_to_depth
from jaxgen.nn.checks import check_attributes
from jaxgen.nn.conv_layer import Conv
from jaxgen.nn.embeddings import GaussianFourier, sinusoidal_embedding
from jaxgen.nn.norm import GroupNorm
from jaxgen.nn.unet_blocks import ContextBlock, PixelBlock, TimeResBlock, UpsampleTo


class LevelType(NamedTuple):
    """What follows each residual block of a level, and how its resolution changes."""

    attention: str | None  # None, to all "pixels", or to them and the "context"
    resample: str  # "conv", or "resnet": a residual block that resamples


LEVELS = {
    "plain": LevelType(None, "conv"),
    "resnet": LevelType(None, "resnet"),
    "attention": LevelType("pixels", "conv"),
    "attention_resnet": LevelType("pixels", "resnet"),
    "cross_attention": LevelType("context", "conv"),
}
MIDDLES = {"attention": "pixels", "cross_attention": "context", "plain": None, "none": None}
CLASS_EMBEDDINGS = ("table", "time", "features")
TIME_EMBEDDINGS = ("sinusoidal", "fourier")


class Embedding(nn.Module):
    """Dense(swish(Dense(x))), of a time's or a class's features."""

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B F"]) -> Float[Array, "B features"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.swish(nn.Dense(self.features, name="linear_1", **types)(x))
        return nn.Dense(self.features, name="linear_2", **types)(x)


class UNet(nn.Module):
    """Noisy image and time to a prediction of the same height and width.

    Attributes:
        out_channels: channels of the result; None for the input's.
        channels: features of each level, from high to low resolution.
        layers: residual blocks per level on the way down; one more on the way up.
        down: the kind of each level, one of `LEVELS`.
        up: the same for the way up, from low to high resolution; None mirrors `down`.
        middle: "attention", "cross_attention", "plain" (only residual blocks) or "none".
        head_dim: channels per head of "attention" blocks; None for a single head.
        heads: heads of "cross_attention" blocks, one number or one per level.
        transformer_layers: transformer blocks in each "cross_attention".
        linear_projection: its projections are linear layers in place of 1x1 convolutions.
        num_classes: 0 for none, else the class table has one row more, the last, for "no class".
        class_embedding: "table", or "time" (a number embedded as the time is) or "features" ([B, E] added as they are).
        time_embedding: "sinusoidal", or "fourier": random features of log time, and the result divided by the time.
        time_scale: factor on the time before its embedding, 1000 for times in [0, 1].
        flip_sin_to_cos, frequency_shift: see `jaxgen.nn.embeddings`.
        scale_shift: the time embedding scales and shifts after the second norm of a block, else it is added before.
        symmetric_downsample: padding of the downsampling convolution, see `Downsample`.
        middle_scale: what the residual sums of the middle are divided by.
        middle_norm: a group norm before the attention of the middle.
        norm_groups, norm_epsilon: of the group norms; fewer groups where they do not divide the channels.
        patch_size: pixels folded into channels before the first convolution and out after the last one.
        dropout: share of features dropped in residual blocks while training.
        remat: recompute the residual blocks and attentions in the backward pass, for less memory.
        dtype: computing dtype (for example bfloat16); None computes in the parameters' dtype.
        param_dtype: dtype of the parameters.
    """

    out_channels: int | None = None
    channels: tuple[int, ...] = (128, 256, 256, 256)
    layers: int = 2
    down: tuple[str, ...] = ("plain", "attention", "plain", "plain")
    up: tuple[str, ...] | None = None
    middle: str = "attention"
    head_dim: int | None = None
    heads: int | tuple[int, ...] = 8
    transformer_layers: int = 1
    linear_projection: bool = False
    num_classes: int = 0
    class_embedding: str = "table"
    time_embedding: str = "sinusoidal"
    time_scale: float = 1.0
    flip_sin_to_cos: bool = True
    frequency_shift: float = 0.0
    scale_shift: bool = False
    symmetric_downsample: bool = True
    middle_scale: float = 1.0
    middle_norm: bool = True
    norm_groups: int = 32
    norm_epsilon: float = 1e-5
    patch_size: int = 1
    dropout: float = 0.0
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self, layers=0, num_classes=0)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        time: Float[Array, "B"],
        *,
        classes: Int[Array, "B"] | Float[Array, "B E"] | None = None,
        context: Float[Array, "B M E"] | None = None,
        context_mask: Bool[Array, "B M"] | None = None,
        train: bool = False,
    ) -> Float[Array, "B H W out_channels"]:
        up = tuple(reversed(self.down)) if self.up is None else self.up
        self._check(up, classes, context)
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        heads = (self.heads,) * len(self.channels) if isinstance(self.heads, int) else self.heads
        last = len(self.channels) - 1
        emb = self._embed(time, classes, types)

        def residual(x, features, name, **options):
            block = nn.remat(TimeResBlock, static_argnums=(3,)) if self.remat else TimeResBlock
            return block(features, self.norm_groups, self.norm_epsilon, self.scale_shift, dropout=self.dropout,
                         name=name, **options, **types)(x, emb, train)

        def attention(x, kind, heads, name, **options):
            if kind == "context":
                block = nn.remat(ContextBlock) if self.remat else ContextBlock
                return block(heads, self.transformer_layers, self.linear_projection, self.norm_groups,
                             name=name, **types)(x, context, context_mask)
            if kind == "pixels":
                block = nn.remat(PixelBlock) if self.remat else PixelBlock
                return block(x.shape[-1] // (self.head_dim or x.shape[-1]), norm_groups=self.norm_groups,
                             epsilon=self.norm_epsilon, name=name, **options, **types)(x)
            return x

        out_channels = (self.out_channels or x.shape[-1]) * self.patch_size**2
        x = space_to_depth(x, self.patch_size) if self.patch_size > 1 else x
        x = Conv(self.channels[0], (3, 3), name="conv_in", **types)(x)
        skips = [x]
        for i, (level, features) in enumerate(zip(self.down, self.channels)):
            for j in range(self.layers):
                x = residual(x, features, f"down_blocks_{i}_resnets_{j}")
                x = attention(x, LEVELS[level].attention, heads[i], f"down_blocks_{i}_attentions_{j}")
                skips.append(x)
            if i < last:
                name = f"down_blocks_{i}_downsamplers_0"
                if LEVELS[level].resample == "resnet":
                    x = residual(x, features, name, resample="down")
                else:
                    x = Downsample(features, self.symmetric_downsample, name=name, **types)(x)
                skips.append(x)

        if self.middle != "none":
            x = residual(x, x.shape[-1], "mid_block_resnets_0", output_scale=self.middle_scale)
            x = attention(x, MIDDLES[self.middle], heads[-1], "mid_block_attentions_0",
                       norm=self.middle_norm, output_scale=self.middle_scale)
            x = residual(x, x.shape[-1], "mid_block_resnets_1", output_scale=self.middle_scale)

        for i, (level, features) in enumerate(zip(up, reversed(self.channels))):
            for j in range(self.layers + 1):
                skip = skips.pop()
                x = residual(jnp.concatenate([x, skip], axis=-1), features, f"up_blocks_{i}_resnets_{j}")
                x = attention(x, LEVELS[level].attention, heads[-1 - i], f"up_blocks_{i}_attentions_{j}")
            if i < last:
                name = f"up_blocks_{i}_upsamplers_0"
                if LEVELS[level].resample == "resnet":
                    x = residual(x, features, name, resample="up", size=skips[-1].shape[1:3])
                else:
                    x = UpsampleTo(features, skips[-1].shape[1:3], name=name, **types)(x)

        x = nn.swish(GroupNorm(self.norm_groups, self.norm_epsilon, name="conv_norm_out", **types)(x))
        x = Conv(out_channels, (3, 3), kernel_init=nn.initializers.zeros_init(), name="conv_out", **types)(x)
        x = depth_to_space(x, self.patch_size) if self.patch_size > 1 else x
        return x / time[:, None, None, None].astype(x.dtype) if self.time_embedding == "fourier" else x

    def _check(self, up, classes, context):
        for name, value, options in (
            ("middle", self.middle, MIDDLES), ("class_embedding", self.class_embedding, CLASS_EMBEDDINGS),
            ("time_embedding", self.time_embedding, TIME_EMBEDDINGS),
            *(("level", level, LEVELS) for level in (*self.down, *up)),
        ):
            if value not in options:
                raise unknown_name(name, value, options)
        if not len(self.channels) == len(self.down) == len(up):
            raise ValueError(f"channels {self.channels}, down {self.down} and up {up} must have the same length")
        if not isinstance(self.heads, int) and len(self.heads) != len(self.channels):
            raise ValueError(f"heads={self.heads} must be one number, or one per level of channels={self.channels}")
        levels = [*zip(self.down, self.channels), *zip(up, reversed(self.channels)), (self.middle, self.channels[-1])]
        for kind, features in levels:
            if self.head_dim and kind.startswith("attention") and features % self.head_dim:
                raise ValueError(f"head_dim={self.head_dim} must divide the {features} channels of a level of {kind}")
        crossed = "cross_attention" in (*self.down, *up, self.middle)
        if crossed and context is None:
            raise ValueError("this U-Net has cross_attention and needs context [B, M, E], got None")
        if context is not None and not crossed:
            raise ValueError("context was given, but no level of this U-Net has cross_attention")
        if classes is not None and self.class_embedding == "table" and not self.num_classes:
            raise ValueError("classes were given, but this U-Net has num_classes=0")

    def _embed(self, time, classes, types):
        """[B, E] the embedding of time and class."""
        width = self.channels[0]
        fourier = GaussianFourier(width, name="time_proj") if self.time_embedding == "fourier" else None

        def features(values):
            values = values.astype(jnp.float32) * self.time_scale
            if fourier is not None:
                return fourier(values)
            return sinusoidal_embedding(values, width, flip_sin_to_cos=self.flip_sin_to_cos,
                                        downscale_freq_shift=self.frequency_shift)

        emb = Embedding(4 * width, name="time_embedding", **types)(features(time))
        if self.class_embedding == "table" and self.num_classes:
            classes = jnp.full(time.shape, self.num_classes) if classes is None else classes
            # Of unit size, as the time's features are: smaller classes go unheard for thousands of steps.
            table = nn.Embed(self.num_classes + 1, 4 * width, embedding_init=nn.initializers.normal(1.0),
                             name="class_embedding", **types)
            return emb + table(classes)
        if classes is None:
            return emb
        if self.class_embedding == "time":
            return emb + Embedding(4 * width, name="class_embedding", **types)(features(classes))
        return emb + classes
