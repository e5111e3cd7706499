"""Convolutional encoder and decoder in the manner of VQGAN (Esser, Rombach & Ommer, 2021).

Level i works at 1 / (patch_size * 2^i) of the image's height and width with channels * multipliers[i] features.
`patch_size` > 1 folds pixels into channels before the first convolution and out after the last one: the
costly full-resolution layers go, which is what makes small images train in minutes on a CPU.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxgen.nn.blocks import AttentionBlock, Downsample, ResBlock, Upsample, depth_to_space, space_to_depth
from jaxgen.nn.checks import check_attributes
from jaxgen.nn.conv_layer import Conv
from jaxgen.nn.norm import Norm


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    features: int
    attention: bool
    heads: int
    norm: str
    norm_groups: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        block = {"norm": self.norm, "norm_groups": self.norm_groups, **types}
        x = ResBlock(self.features, name="block1", **block)(x)
        if self.attention:
            x = AttentionBlock(self.heads, self.norm, self.norm_groups, name="attention", **types)(x)
        return ResBlock(self.features, name="block2", **block)(x)


class Encoder(nn.Module):
    """Image to latents: [B, H, W, C] -> [B, H / f, W / f, latent_channels], f = patch_size * 2^(levels - 1).

    Attributes:
        latent_channels: channels of the result.
        channels: features of the first level.
        multipliers: features of each level over `channels`; its length is the number of levels.
        num_res_blocks: residual blocks per level.
        attention_levels: the levels whose residual blocks are each followed by attention.
        middle_attention: attention between the two blocks at the lowest resolution.
        heads: attention heads.
        norm: "group" or "none".
        norm_groups: at most this many groups per normalisation.
        patch_size: pixels folded into channels before the first convolution.
        z_channels: channels of the last 3x3 convolution, where a 1x1 one ("quant_conv") takes them to the latents, as
            in VQGAN and in latent diffusion's autoencoders; None for no 1x1 convolution.
        dtype: computing dtype (for example bfloat16); None computes in the parameters' dtype.
        param_dtype: dtype of the parameters.
    """

    latent_channels: int
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = ()
    middle_attention: bool = True
    heads: int = 1
    norm: str = "group"
    norm_groups: int = 32
    patch_size: int = 1
    z_channels: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self, num_res_blocks=0, attention_levels=0)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w latent_channels"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        block = {"norm": self.norm, "norm_groups": self.norm_groups, **types}
        if self.patch_size > 1:
            x = space_to_depth(x, self.patch_size)
        x = Conv(self.channels * self.multipliers[0], (3, 3), name="conv_in", **types)(x)
        for level, multiplier in enumerate(self.multipliers):
            features = self.channels * multiplier
            for i in range(self.num_res_blocks):
                x = ResBlock(features, name=f"down{level}_block{i}", **block)(x)
                if level in self.attention_levels:
                    x = AttentionBlock(self.heads, self.norm, self.norm_groups,
                                       name=f"down{level}_attention{i}", **types)(x)
            if level < len(self.multipliers) - 1:
                x = Downsample(features, name=f"down{level}_downsample", **types)(x)
        x = Middle(x.shape[-1], self.middle_attention, self.heads, name="middle", **block)(x)
        x = nn.swish(Norm(self.norm, self.norm_groups, name="norm_out", **types)(x))
        if self.z_channels is None:
            return Conv(self.latent_channels, (3, 3), name="conv_out", **types)(x)
        x = Conv(self.z_channels, (3, 3), name="conv_out", **types)(x)
        return Conv(self.latent_channels, (1, 1), name="quant_conv", **types)(x)


class Decoder(nn.Module):
    """Latents to image: [B, h, w, D] -> [B, h * f, w * f, image_channels]; the encoder's mirror image.

    Attributes:
        image_channels: channels of the result.
        num_res_blocks: residual blocks per level (VQGAN's decoder has one more than its encoder).
        z_channels: channels to which a 1x1 convolution ("post_quant_conv") takes the latents first; None for none.
        The others are those of `Encoder`; `multipliers` is given from high to low resolution, as there.
    """

    image_channels: int
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 3
    attention_levels: tuple[int, ...] = ()
    middle_attention: bool = True
    heads: int = 1
    norm: str = "group"
    norm_groups: int = 32
    patch_size: int = 1
    z_channels: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self, num_res_blocks=0, attention_levels=0)
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Float[Array, "B h w D"]) -> Float[Array, "B H W image_channels"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        block = {"norm": self.norm, "norm_groups": self.norm_groups, **types}
        if self.z_channels is not None:
            z = Conv(self.z_channels, (1, 1), name="post_quant_conv", **types)(z)
        x = Conv(self.channels * self.multipliers[-1], (3, 3), name="conv_in", **types)(z)
        x = Middle(x.shape[-1], self.middle_attention, self.heads, name="middle", **block)(x)
        for level in reversed(range(len(self.multipliers))):
            features = self.channels * self.multipliers[level]
            for i in range(self.num_res_blocks):
                x = ResBlock(features, name=f"up{level}_block{i}", **block)(x)
                if level in self.attention_levels:
                    x = AttentionBlock(self.heads, self.norm, self.norm_groups,
                                       name=f"up{level}_attention{i}", **types)(x)
            if level > 0:
                x = Upsample(features, name=f"up{level}_upsample", **types)(x)
        x = nn.swish(Norm(self.norm, self.norm_groups, name="norm_out", **types)(x))
        x = Conv(self.image_channels * self.patch_size**2, (3, 3), name="conv_out", **types)(x)
        return depth_to_space(x, self.patch_size) if self.patch_size > 1 else x
