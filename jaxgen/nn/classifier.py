"""A small convolutional classifier, in the manner of VGG (Simonyan & Zisserman, 2014)."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxgen.nn.checks import check_attributes
from jaxgen.nn.conv_layer import Conv


class ConvClassifier(nn.Module):
    """Image to logits and features; the image size is fixed at init by the linear layer.

    Attributes:
        num_classes: of the data.
        channels: of each level; level i works at 1 / 2^i of the image's height and width.
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
