"""The residual, attention and resampling blocks that the convolutional models are made of.

Everything is NHWC. Normalisation statistics and softmax are float32 whatever the computing dtype.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxgen.attention import attend
from jaxgen.nn.conv_layer import Conv
from jaxgen.nn.norm import Norm


class ResBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1x1 convolution on the skip where channels change."""

    features: int
    norm: str = "group"
    norm_groups: int = 32
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W features"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = nn.swish(Norm(self.norm, self.norm_groups, name="norm1", **types)(x))
        h = Conv(self.features, (3, 3), name="conv1", **types)(h)
        h = nn.swish(Norm(self.norm, self.norm_groups, name="norm2", **types)(h))
        h = Conv(self.features, (3, 3), name="conv2", **types)(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), name="skip", **types)(x)
        return x + h


class AttentionBlock(nn.Module):
    """x + softmax(q k^T / sqrt(d)) v over all positions of the image, `heads` heads, after a norm."""

    heads: int = 1
    norm: str = "group"
    norm_groups: int = 32
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        if channels % self.heads:
            raise ValueError(f"heads={self.heads} must divide the channel count {channels}")
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = Norm(self.norm, self.norm_groups, name="norm", **types)(x).reshape(batch, height * width, channels)
        query, key, value = (
            nn.Dense(channels, name=name, **types)(h).reshape(batch, height * width, self.heads, -1)
            for name in ("query", "key", "value")
        )
        h = attend(query, key, value).reshape(batch, height * width, channels)
        h = nn.Dense(channels, name="out", **types)(h)
        return x + h.reshape(x.shape)


class Downsample(nn.Module):
    """Halves height and width by a 3x3 convolution of stride 2; odd sizes round up.

    Attributes:
        features: output channels.
        symmetric: one pixel of padding on each side; else at the bottom and right only. Published weights need the
            one that they were trained with: VQGAN's and DDPM's the second, latent diffusion's U-Net the first.
    """

    features: int
    symmetric: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w features"]:
        padding = ((1, 1), (1, 1)) if self.symmetric else tuple((0, 1 + size % 2) for size in x.shape[1:3])
        return Conv(self.features, (3, 3), strides=2, padding=padding, name="conv",
                    dtype=self.dtype, param_dtype=self.param_dtype)(x)


class Upsample(nn.Module):
    """Doubles height and width by repetition, then a 3x3 convolution."""

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W features"]:
        return Conv(self.features, (3, 3), name="conv", dtype=self.dtype, param_dtype=self.param_dtype)(repeat2(x))


def repeat2(x: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W C"]:
    """Each pixel as 2x2 pixels."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def space_to_depth(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B H/size W/size size*size*C"]:
    """Folds each `size` x `size` patch into channels, in the order (row, column, channel).

    Raises:
        ValueError: `size` does not divide height and width.
    """
    batch, height, width, channels = x.shape
    if height % size or width % size:
        raise ValueError(f"patch size {size} must divide the image's height and width, got {height}x{width}")
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // size, width // size, size * size * channels)


def depth_to_space(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B H*size W*size C/size/size"]:
    """The inverse of `space_to_depth`.

    Raises:
        ValueError: `size` squared does not divide the channels.
    """
    batch, height, width, channels = x.shape
    if channels % (size * size):
        raise ValueError(f"patch size {size} squared must divide the channel count, got {channels}")
    x = x.reshape(batch, height, width, size, size, channels // (size * size))
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * size, width * size, -1)
