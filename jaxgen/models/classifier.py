"""A small convolutional classifier as a tuple of pure functions; its features make a perceptual distance.

In the manner of VGG (Simonyan & Zisserman, 2014): 3x3 convolutions with ReLU, max pooling between the levels, one
linear layer on top. `features` are the maps that LPIPS compares of VGG16, the last ones of each level:

    distance = jaxgen.losses.feature_distance(partial(classifier.features, variables), x, x_r)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxgen.core.checks import check_floating
from jaxgen.core.types import Variables
from jaxgen.nn.classifier import ConvClassifier


class Classifier(NamedTuple):
    """A classifier as pure functions; `variables` is `Variables(params, {})`, pictures are in [-1, 1]."""

    init: Callable  # (key, image_shape [H, W, C]) -> Variables
    logits: Callable  # (variables, x [B, H, W, C]) -> [B, num_classes] float32
    features: Callable  # (variables, x) -> list of [B, h, w, channels], from fine to coarse
    num_classes: int




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
