"""Perceptual distances: images compared by a network's features. One number per example, in float32.

    params = jaxgen.interop.load_lpips(net="vgg")
    distance = lpips(params, x, x_r)                                     # colour images in [-1, 1]
    distance = feature_distance(lambda x: classifier(x).hidden, x, x_r)  # images unlike those of ImageNet

The parameters are an argument like any other; a gradient with respect to the images only leaves them unchanged.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxgen.conv import conv
from jaxgen.core.checks import check_alike

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPS = 1e-10  # under the root, whose slope at a position without any feature would be infinite


class ConvParams(NamedTuple):
    """One convolution's parameters."""

    kernel: Float[Array, "kh kw Cin Cout"]
    bias: Float[Array, "Cout"]


class LpipsParams(NamedTuple):
    """LPIPS's parameters. The number of convolutions says which network they are of: 13 of VGG16, 5 of AlexNet."""

    convs: tuple[ConvParams, ...]
    weights: tuple[Float[Array, "C"], ...]  # of each tap's channels, at least 0


class Network(NamedTuple):
    """What a chain of convolutions with ReLUs does besides its parameters; convolutions are counted from 0."""

    strides: tuple[int, ...]
    paddings: tuple[int, ...]  # pixels on every side
    pool: int  # side of the window of max pooling, whose stride is 2
    pooled: tuple[int, ...]  # the convolutions before which it stands
    taps: tuple[int, ...]  # the convolutions after whose ReLU the features are compared
    smallest: int  # side of an image in pixels


NETWORKS = {
    "vgg": Network((1,) * 13, (1,) * 13, 2, (2, 4, 7, 10), (1, 3, 6, 9, 12), 16),
    "alex": Network((4, 1, 1, 1, 1), (2, 2, 1, 1, 1), 3, (1, 2), (0, 1, 2, 3, 4), 31),
}


def lpips(params: LpipsParams, x: Float[Array, "B H W 3"], y: Float[Array, "B H W 3"]) -> Float[Array, "B"]:
    """Learned perceptual image patch similarity, version 0.1: 0 for equal images, larger for less similar ones.

    sum over taps of mean over positions of sum_c w_c (u_c(x) - u_c(y))²,  u = f / sqrt(sum_c f_c² + 1e-10)

    with f the features after a tap's ReLU, of images (x - shift) / scale. Its authors use AlexNet to measure and VGG16
    as a loss.

    Args:
        params: of VGG16 or AlexNet, which their number says. Their dtype is the network's; the normalization and the
            sums are float32 at least.
        x, y: images in [-1, 1], red, green, blue.

    Returns:
        [B] float32.

    Raises:
        ValueError: the shapes differ or are not [B, H, W, 3], the images are too small for the network (VGG16 takes
            16x16, AlexNet 31x31) or whole numbers, or the parameters are neither network's.

    Reference: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018,
    arXiv:1801.03924
    """
    return feature_distance(lambda images: lpips_features(params, images), x, y, weights=params.weights)


def lpips_features(params: LpipsParams, x: Float[Array, "B H W 3"]) -> tuple[Float[Array, "B h w C"], ...]:
    """The features that `lpips` compares: five taps, from fine to coarse.

    VGG16 (Simonyan & Zisserman, 2014) after relu1_2, 2_2, 3_3, 4_3, 5_3: sides H, H/2, H/4, H/8, H/16 with 64, 128,
    256, 512, 512 channels. AlexNet (Krizhevsky, 2014) after each of its five convolutions.

    Args, raises: those of `lpips`.
    """
    network = _network(params)
    check_alike(x=x)
    if x.ndim != 4 or x.shape[3] != 3:
        raise ValueError(f"x and y must be [B, H, W, 3], got {x.shape}; grey images have to be repeated over three "
                         "channels, or compared with feature_distance")
    if min(x.shape[1:3]) < network.smallest:
        height, width = x.shape[1:3]
        raise ValueError(f"images of {height}x{width} are too small: with {len(params.convs)} convolutions "
                         f"they must be {network.smallest}x{network.smallest} at least")
    dtype = params.convs[0].kernel.dtype
    wide = jnp.promote_types(dtype, jnp.float32)
    shift, scale = (jnp.array(values, wide)[None, None, None] for values in (SHIFT, SCALE))
    x = ((x.astype(wide) - shift) / scale).astype(dtype)
    taps = []
    for i, (layer, stride, padding) in enumerate(zip(params.convs, network.strides, network.paddings)):
        if i in network.pooled:
            window = (1, network.pool, network.pool, 1)
            x = lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 2, 2, 1), "VALID")
        x = jax.nn.relu(conv(x, layer.kernel, strides=stride, padding=padding) + layer.bias[None, None, None])
        if i in network.taps:
            taps.append(x)
    return tuple(taps)


def feature_distance(
    features: Callable[[Array], Array | Sequence[Array]],
    x: Float[Array, "B ..."],
    y: Float[Array, "B ..."],
    *,
    weights: Sequence[Float[Array, "C"]] | None = None,
) -> Float[Array, "B"]:
    """The distance of LPIPS between features of any network; gradients flow through both arguments.

    sum over taps of mean over positions of sum_c w_c (u_c(x) - u_c(y))²,  u = f / sqrt(sum_c f_c² + 1e-10)

    Args:
        features: `images -> [B, ..., C]` or a sequence of such, each a tap; parameters bound.
        x, y: what `features` takes.
        weights: [C] for each tap; all 1 by default, where a tap's distance is between 0 and 4.

    Returns:
        [B] float32, or wider where the features are.

    Raises:
        ValueError: the shapes differ, x or y holds whole numbers, there are no taps, one is not [B, ..., C], or there
            are not as many weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import feature_distance
        >>> x = jnp.zeros((2, 4, 4, 1))
        >>> feature_distance(lambda x: jnp.concatenate([x, 1 - x], axis=-1), x, x + 1).round(3).tolist()
        [2.0, 2.0]
    """
    check_alike(x=x, y=y)
    taps_x, taps_y = _taps(features(x), x.shape[0]), _taps(features(y), y.shape[0])
    if weights is None:
        weights = [jnp.ones(tap.shape[-1], tap.dtype) for tap in taps_x]
    if [tap.shape[-1:] for tap in taps_x] != [jnp.shape(w) for w in weights]:
        raise ValueError(f"weights must have one number for each channel of each tap, "
                         f"{[tap.shape[-1:] for tap in taps_x]}; got {[jnp.shape(w) for w in weights]}")
    total = 0.0
    for f_x, f_y, w in zip(taps_x, taps_y, weights):
        square = jnp.square(_unit(f_x) - _unit(f_y))
        w = jnp.reshape(w, (1,) * (square.ndim - 1) + (-1,))
        total += jnp.mean(jnp.sum(square * w, axis=-1), axis=tuple(range(1, square.ndim - 1)))
    return total


def _unit(f: Array) -> Array:
    f = f.astype(jnp.promote_types(f.dtype, jnp.float32))
    return f * lax.rsqrt(jnp.sum(jnp.square(f), axis=-1, keepdims=True) + EPS)


def _taps(features: Array | Sequence[Array], count: int) -> list[Array]:
    taps = list(features) if isinstance(features, (tuple, list)) else [features]
    if not taps or any(tap.ndim < 2 or tap.shape[0] != count for tap in taps):
        raise ValueError(f"features must give one array [{count}, ..., C] or several, got "
                         f"{[tap.shape for tap in taps]}")
    return taps


def _network(params: LpipsParams) -> Network:
    for network in NETWORKS.values():
        if len(params.convs) == len(network.strides) and len(params.weights) == len(network.taps):
            return network
    raise ValueError("params must be of VGG16 (13 convolutions, 5 weights) or AlexNet (5 and 5), got "
                     f"{len(params.convs)} convolutions and {len(params.weights)} weights")
