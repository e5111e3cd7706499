"""A small convolutional classifier as a tuple of pure functions; its features make a perceptual distance.

In the manner of VGG (Simonyan & Zisserman, 2014): 3x3 convolutions with ReLU, max pooling between the levels, one
linear layer on top. `features` are the maps that LPIPS compares of VGG16, the last ones of each level:

    distance = jaxgen.losses.feature_distance(partial(classifier.features, variables), x, x_r)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxgen.checks import check_floating
from jaxgen.models.checks import check_attributes
from jaxgen.models.conv_layer import Conv
from jaxgen.quantize import Variables


class Classifier(NamedTuple):
    """A classifier as pure functions; `variables` is `Variables(params, {})`, pictures are in [-1, 1]."""

    init: Callable  # (key, image_shape [H, W, C]) -> Variables
    logits: Callable  # (variables, x [B, H, W, C]) -> [B, num_classes] float32
    features: Callable  # (variables, x) -> list of [B, h, w, channels], from fine to coarse
    num_classes: int


class ConvClassifier(nn.Module):
    """Picture to logits and features; a size of picture is fixed at init by the linear layer.

    Attributes:
        num_classes: of the data.
        channels: of each level; level i works at 1 / 2^i of the picture's height and width.
        convs: convolutions per level.
        dtype: computing dtype; None computes in the parameters' dtype.
        param_dtype: dtype of the parameters.
    """

    num_classes: int
    channels: tuple[int, ...] = (32, 64, 128)
    convs: int = 1
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self)
        super().__post_init__()

    def setup(self):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.levels = [[Conv(features, (3, 3), kernel_init=nn.initializers.he_normal(), **types)
                        for _ in range(self.convs)] for features in self.channels]
        self.head = nn.Dense(self.num_classes, **types)

    def features(self, x: Float[Array, "B H W C"]) -> list[Float[Array, "B h w c"]]:
        maps = []
        for i, level in enumerate(self.levels):
            if i:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for conv in level:
                x = nn.relu(conv(x))
            maps.append(x)
        return maps

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B num_classes"]:
        last = self.features(x)[-1]
        return self.head(last.reshape(last.shape[0], -1))


def classifier(network: ConvClassifier) -> Classifier:
    """The pure functions of a network.

    Args:
        network: Linen module with `__call__` and `features`.

    Raises:
        ValueError: at init, the pictures have fewer pixels along a side than the levels' pooling needs; images that
            are bytes.
    """

    def init(key, image_shape):
        smallest = 2 ** (len(network.channels) - 1)
        if min(image_shape[:2]) < smallest:
            raise ValueError(f"pictures of {image_shape[0]}x{image_shape[1]} are too small for {len(network.channels)} "
                             f"levels: use at least {smallest}x{smallest}, or fewer channels=")
        return Variables(network.init(key, jnp.zeros((1, *image_shape)))["params"], {})

    def logits(variables, x):
        check_floating("x", x)
        return network.apply({"params": variables.params}, x).astype(jnp.float32)

    def features(variables, x):
        check_floating("x", x)
        return network.apply({"params": variables.params}, x, method="features")

    return Classifier(init, logits, features, network.num_classes)
