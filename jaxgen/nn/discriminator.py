"""Discriminators: of patches (pix2pix, VQGAN) and of whole images (StyleGAN2).

Both are networks without state. Neither keeps moving averages of statistics, so that real and fake images may come
in one batch or two, gradients of gradients (R1) are those of one function, and a resumed run has nothing to lose.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from jaxgen.conv import conv
from jaxgen.core.checks import check_floating
from jaxgen.core.errors import unknown_name
from jaxgen.core.mapped import first_position, psum
from jaxgen.core.types import AxisName
from jaxgen.nn.checks import check_attributes
from jaxgen.nn.conv_layer import Conv
from jaxgen.nn.norm import Norm

PATCH_NORMS = ("group", "batch", "none")
SLOPE = 0.2


def leaky_relu(x: Array) -> Array:
    """max(x, 0.2 x)."""
    return nn.leaky_relu(x, SLOPE)


class BatchStatisticsNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * scale + bias over the batch and all positions (Ioffe & Szegedy, 2015).

    The statistics are those of the batch that is passed, always: a discriminator is only ever used while it trains,
    where batch normalisation takes these and its moving averages serve nothing.

    Attributes:
        axis_name: mapped axis or axes over which the batch is split.
    """

    axis_name: AxisName = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],), self.param_dtype)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = self._mean(wide)
        variance = self._mean(jnp.square(wide - mean))
        y = (wide - mean) * (jax.lax.rsqrt(variance + 1e-5) * scale) + bias
        return y.astype(self.dtype or jnp.result_type(x, scale, bias))

    def _mean(self, x: Array) -> Array:
        mean = jnp.mean(x, axis=(0, 1, 2))
        return mean if self.axis_name is None else jax.lax.pmean(mean, self.axis_name)


class PatchDiscriminator(nn.Module):
    """One logit per patch of the image: [B, H, W, C] -> [B, h, w, 1], h = floor(H / 2^layers) - 2.

    `layers` 4x4 convolutions of stride 2, then two of stride 1. A logit's patch has 70x70 pixels for three layers, 34
    for two, 16 for one, by the convolutions; the statistics of a norm also see beyond it.

    Attributes:
        channels: features of the first layer; each further one has twice as many, up to eight times.
        layers: convolutions of stride 2.
        norm: "group"; "batch", by the statistics of the batch that is passed, as in VQGAN, which makes an example's
            logits depend on the others'; or "none". The first and the last convolution have none.
        norm_groups: at most this many groups.
        axis_name: mapped axis of devices, for "batch": N devices then give what one gives.
        dtype: computing dtype; None computes in the parameters' dtype. Logits are float32.
        param_dtype: dtype of the parameters.

    Isola et al., "Image-to-image translation with conditional adversarial networks" (2017).
    """

    channels: int = 64
    layers: int = 3
    norm: str = "group"
    norm_groups: int = 32
    axis_name: AxisName = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self, layers=0)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w 1"]:
        if self.norm not in PATCH_NORMS:
            raise unknown_name("norm", self.norm, PATCH_NORMS)
        check_floating("x", x)
        smallest = 3 * 2**self.layers
        if min(x.shape[1:3]) < smallest:
            raise ValueError(f"images of {x.shape[1]}x{x.shape[2]} have no patch for layers={self.layers}: they need "
                             f"{smallest}x{smallest}, or fewer layers")
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        window = {"kernel_size": (4, 4), "padding": 1, "kernel_init": nn.initializers.normal(0.02), **types}
        for layer in range(self.layers + 1):
            stride = 2 if layer < self.layers else 1
            x = Conv(self.channels * min(2**layer, 8), strides=stride, name=f"conv{layer}", **window)(x)
            if layer > 0 and self.norm == "batch":
                x = BatchStatisticsNorm(self.axis_name, name=f"norm{layer}", **types)(x)
            elif layer > 0:
                x = Norm(self.norm, self.norm_groups, name=f"norm{layer}", **types)(x)
            x = leaky_relu(x)
        return Conv(1, name="conv_out", **window)(x).astype(jnp.float32)


def blur_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Halves height and width after a blur by [1, 3, 3, 1] / 8 in both directions; odd sizes round up.

    y[i] = (x[2i - 1] + 3 x[2i] + 3 x[2i + 1] + x[2i + 2]) / 8, with zeros outside the image. Plain striding would
    alias, which lets a discriminator hear the pixel grid.

    Zhang, "Making convolutional networks shift-invariant again" (2019); the taps are StyleGAN2's.
    """
    for axis in (1, 2):
        half = -(-x.shape[axis] // 2)
        widths = [(0, 0)] * x.ndim
        widths[axis] = (1, 1 + x.shape[axis] % 2)
        padded = jnp.pad(x, widths)
        slices = (jax.lax.slice_in_dim(padded, k, k + 2 * half - 1, 2, axis) for k in range(4))
        x = sum(tap * part for tap, part in zip((0.125, 0.375, 0.375, 0.125), slices))
    return x


def minibatch_std(
    x: Float[Array, "B H W C"], *, group_size: int | None = 4, axis_name: AxisName = None
) -> Float[Array, "B H W C+1"]:
    """Appends a channel that tells how much the examples of a group differ.

    s = mean over positions and channels of sqrt(variance over the group + 1e-8); every example of the group has it at
    every position. A generator that repeats itself is found out by it.

    Args:
        x: this device's features `[B, H, W, C]`.
        group_size: neighbours in the global batch that make a group, at most the batch; None takes the whole batch.
        axis_name: mapped axis or axes over which the batch is split. A group may lie on several devices.

    Returns:
        `[B, H, W, C + 1]` in the dtype of `x`.

    Raises:
        ValueError: `group_size` does not divide the global batch.

    Karras et al., "Progressive growing of GANs" (2018).
    """
    local = x.shape[0]
    total = int(local * psum(1, axis_name))
    size = total if group_size is None else min(group_size, total)
    if size < 1 or total % size:
        raise ValueError(f"group_size={group_size} must be a positive divisor of the global batch of {total} examples")
    group = (first_position(local, axis_name) + jnp.arange(local)) // size

    def means(values):
        sums = jax.ops.segment_sum(values, group, total // size)
        # Without a group across devices nothing has to be sent.
        return (sums if local % size == 0 else psum(sums, axis_name)) / size

    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    variance = means(jnp.square(wide - means(wide)[group]))
    spread = jnp.mean(jnp.sqrt(variance + 1e-8), axis=(1, 2, 3))[group]
    channel = jnp.broadcast_to(spread[:, None, None, None], (*x.shape[:3], 1))
    return jnp.concatenate([x, channel.astype(x.dtype)], axis=-1)


class ScaledConv(nn.Module):
    """A convolution whose kernel has variance 1 / fan-in at first, by its draw or ("equalized") by a fixed factor.

    With the factor outside the parameter, an optimizer that normalises gradients moves all layers at the same relative
    speed (Karras et al., 2018).
    """

    features: int
    kernel_size: int = 3
    use_bias: bool = True
    equalized: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W Cin"]) -> Float[Array, "B H W features"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        std = math.prod(shape[:3]) ** -0.5
        init = nn.initializers.normal(1.0 if self.equalized else std)
        kernel = self.param("kernel", init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), shape[3:], self.param_dtype) if self.use_bias else None
        kernel = kernel * std if self.equalized else kernel
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv(x, kernel)
        return y if bias is None else y + bias


class StyleDiscriminator(nn.Module):
    """One logit per image, by residual blocks that halve it: [B, H, W, C] -> [B].

    Each level but the first: h = conv(blur_pool(conv(x))), x = (h + conv1x1(blur_pool(x))) / sqrt(2); then the
    std within the minibatch, a convolution and two linear layers. Activations are sqrt(2) max(x, 0.2 x).
    The parameters are those of one image size, since a linear layer ends the network.

    Attributes:
        channels: features of the first level.
        multipliers: features of each level over `channels`; the last works at 1 / 2^(levels - 1) of the size, which
            should leave about 4x4.
        group_size: of `minibatch_std`; None for the whole batch, 0 to leave it out.
        equalized: keep the kernels' scale out of the parameters, see `ScaledConv`.
        axis_name: mapped axis of devices, over which groups may lie.
        dtype: computing dtype; None computes in the parameters' dtype. Logits are float32.
        param_dtype: dtype of the parameters.

    Karras et al., "Analyzing and improving the image quality of StyleGAN" (2020).
    """

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    group_size: int | None = 4
    equalized: bool = True
    axis_name: AxisName = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self, group_size=0)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B"]:
        check_floating("x", x)
        kwargs = {"equalized": self.equalized, "dtype": self.dtype, "param_dtype": self.param_dtype}

        def active(features, name, x, size=3):
            return math.sqrt(2) * leaky_relu(ScaledConv(features, size, name=name, **kwargs)(x))

        x = active(self.channels * self.multipliers[0], "conv_in", x, size=1)
        for level, multiplier in enumerate(self.multipliers[1:], start=1):
            h = blur_pool(active(x.shape[-1], f"down{level}_conv1", x))
            h = active(self.channels * multiplier, f"down{level}_conv2", h)
            skip = ScaledConv(h.shape[-1], 1, use_bias=False, name=f"down{level}_skip", **kwargs)(blur_pool(x))
            x = (h + skip) / math.sqrt(2)
        features = x.shape[-1]
        if self.group_size != 0:
            x = minibatch_std(x, group_size=self.group_size, axis_name=self.axis_name)
        x = active(features, "conv_out", x)
        x = active(features, "linear1", x.reshape(x.shape[0], 1, 1, -1), size=1)
        logits = ScaledConv(1, 1, name="linear2", **kwargs)(x)
        return logits.reshape(-1).astype(jnp.float32)
