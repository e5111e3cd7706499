"""Inception-v3 (Szegedy et al., 2015) in the variant whose features the Fréchet inception distance compares.

It is the graph "inception-2015-12-05" of TensorFlow, as libraries of PyTorch rebuild it. It differs from the network of
the paper, and from torchvision's, in that average pooling leaves the padding out of the mean, the last block pools by
the maximum, and there are 1008 logits. Other weights, or other pooling, give other distances.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxgen.core.checks import check_floating
from jaxgen.nn.conv_layer import Conv

LOGITS = 1008
SIDE = 299  # pixels, of the images that the network is defined for
SMALLEST = 75  # pixels, below which nothing is left to pool
EPS = 1e-3  # beside the variance


class InceptionFeatures(NamedTuple):
    """What `InceptionV3` returns; the pools are means over positions, named by their number of channels."""

    pool64: Float[Array, "B 64"]
    pool192: Float[Array, "B 192"]
    pool768: Float[Array, "B 768"]
    pool2048: Float[Array, "B 2048"]  # the features of FID and KID
    logits_unbiased: Float[Array, "B 1008"]  # without the last layer's bias: those of the inception score
    logits: Float[Array, "B 1008"]


class Step(NamedTuple):
    """A convolution with its normalization and ReLU: at stride 1 padded to the size of its input, at 2 not padded."""

    name: str
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


class Norm(nn.Module):
    """Batch normalization by the statistics of training, which are parameters here: nothing updates them."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        ones, zeros, shape = nn.initializers.ones_init(), nn.initializers.zeros_init(), x.shape[-1:]
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        mean, var = self.param("mean", zeros, shape), self.param("var", ones, shape)
        factor = scale * lax.rsqrt(var + EPS)
        return x * factor[None, None, None] + (bias - mean * factor)[None, None, None]


class ConvNorm(nn.Module):
    """Convolution without bias, normalization, ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w features"]:
        x = Conv(self.features, self.kernel, self.stride, self.padding, use_bias=False, name="conv")(x)
        return nn.relu(Norm(name="bn")(x))


class Mixed(nn.Module):
    """Branches side by side, whose channels are joined in order, that of the pooling last.

    Attributes:
        branches: each a chain of steps; where a step is a pair, both take its input and their channels are joined.
        pooling: "average" or "maximum" over 3x3 pixels at stride 1, followed by a convolution; "reduce", the maximum at
            stride 2 and nothing else.
        pool_features: of the convolution after the pooling.
    """

    branches: tuple[tuple[Step | tuple[Step, Step], ...], ...]
    pooling: str
    pool_features: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w c"]:
        results = []
        for branch in self.branches:
            y = x
            for step in branch:
                steps = (step,) if isinstance(step, Step) else step
                y = jnp.concatenate([
                    ConvNorm(one.features, one.kernel, one.stride, "SAME" if one.stride == 1 else "VALID",
                             name=one.name)(y) for one in steps], axis=-1)
            results.append(y)
        pooled = POOLINGS[self.pooling](x)
        if self.pool_features:
            pooled = ConvNorm(self.pool_features, (1, 1), name="branch_pool")(pooled)
        return jnp.concatenate([*results, pooled], axis=-1)


class InceptionV3(nn.Module):
    """Images [B, 299, 299, 3] in [-1, 1], which is (bytes - 128) / 128, to `InceptionFeatures`; all in float32.

    Its parameters are named as in the published state dict: see `jaxgen.interop.load_inception`.

    Raises:
        ValueError: images of fewer than 75 pixels along a side, of other than 3 channels, or bytes.

    Reference: Szegedy et al., "Rethinking the Inception architecture for computer vision", 2015, arXiv:1512.00567;
    Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017,
    arXiv:1706.08500
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"]) -> InceptionFeatures:
        check_floating("x", x)
        if x.ndim != 4 or x.shape[3] != 3 or min(x.shape[1:3]) < SMALLEST:
            raise ValueError(f"x must be [B, {SIDE}, {SIDE}, 3], or no smaller than {SMALLEST} along a side, got "
                             f"{x.shape}: resize bytes by jaxgen.evaluate.inception_features")
        x = ConvNorm(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
        x = ConvNorm(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
        x = ConvNorm(64, (3, 3), name="Conv2d_2b_3x3")(x)
        x = _reduce(x)
        pool64 = _mean(x)
        x = ConvNorm(80, (1, 1), name="Conv2d_3b_1x1")(x)
        x = ConvNorm(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
        x = _reduce(x)
        pool192 = _mean(x)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = Mixed(*BLOCKS[name], name=name)(x)
        pool768 = _mean(x)
        for name in ("Mixed_7a", "Mixed_7b", "Mixed_7c"):
            x = Mixed(*BLOCKS[name], name=name)(x)
        pool2048 = _mean(x)
        kernel, bias = _Head(name="fc")(pool2048.shape[-1])
        unbiased = jnp.matmul(pool2048, kernel, precision=lax.Precision.HIGHEST)
        return InceptionFeatures(pool64, pool192, pool768, pool2048, unbiased, unbiased + bias[None])


class _Head(nn.Module):
    """The parameters of the last layer, which is wanted with and without its bias."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[Float[Array, "C 1008"], Float[Array, "1008"]]:
        return (self.param("kernel", nn.initializers.lecun_normal(), (channels, LOGITS)),
                self.param("bias", nn.initializers.zeros_init(), (LOGITS,)))


def _average(x: Array) -> Array:
    """At the border the mean is of the pixels that are there."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _maximum(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def _reduce(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2), "VALID")


def _mean(x: Array) -> Array:
    return jnp.mean(x, axis=(1, 2))


POOLINGS = {"average": _average, "maximum": _maximum, "reduce": _reduce}


def _block_35(pool_features: int) -> tuple:
    """Of the blocks that work at 35x35 pixels."""
    return ((
        (Step("branch1x1", 64),),
        (Step("branch5x5_1", 48), Step("branch5x5_2", 64, (5, 5))),
        (Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, (3, 3)), Step("branch3x3dbl_3", 96, (3, 3))),
    ), "average", pool_features)


def _block_17(inner: int) -> tuple:
    """Of those at 17x17, whose 7x7 convolutions are split into rows and columns."""
    row, column = (1, 7), (7, 1)
    return ((
        (Step("branch1x1", 192),),
        (Step("branch7x7_1", inner), Step("branch7x7_2", inner, row), Step("branch7x7_3", 192, column)),
        (Step("branch7x7dbl_1", inner), Step("branch7x7dbl_2", inner, column), Step("branch7x7dbl_3", inner, row),
         Step("branch7x7dbl_4", inner, column), Step("branch7x7dbl_5", 192, row)),
    ), "average", 192)


def _block_8(pooling: str) -> tuple:
    """Of those at 8x8."""
    return ((
        (Step("branch1x1", 320),),
        (Step("branch3x3_1", 384), (Step("branch3x3_2a", 384, (1, 3)), Step("branch3x3_2b", 384, (3, 1)))),
        (Step("branch3x3dbl_1", 448), Step("branch3x3dbl_2", 384, (3, 3)),
         (Step("branch3x3dbl_3a", 384, (1, 3)), Step("branch3x3dbl_3b", 384, (3, 1)))),
    ), pooling, 192)


# The attributes of each `Mixed`, by the published name.
BLOCKS = {
    "Mixed_5b": _block_35(32), "Mixed_5c": _block_35(64), "Mixed_5d": _block_35(64),
    "Mixed_6a": ((
        (Step("branch3x3", 384, (3, 3), 2),),
        (Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, (3, 3)), Step("branch3x3dbl_3", 96, (3, 3), 2)),
    ), "reduce"),
    "Mixed_6b": _block_17(128), "Mixed_6c": _block_17(160), "Mixed_6d": _block_17(160), "Mixed_6e": _block_17(192),
    "Mixed_7a": ((
        (Step("branch3x3_1", 192), Step("branch3x3_2", 320, (3, 3), 2)),
        (Step("branch7x7x3_1", 192), Step("branch7x7x3_2", 192, (1, 7)), Step("branch7x7x3_3", 192, (7, 1)),
         Step("branch7x7x3_4", 192, (3, 3), 2)),
    ), "reduce"),
    "Mixed_7b": _block_8("average"), "Mixed_7c": _block_8("maximum"),
}
