"""A small convolutional classifier; its features make a perceptual distance.

    distance = jaxgen.losses.feature_distance(partial(classifier.features, variables), x, x_r)

`features` are the maps that LPIPS compares of VGG16, the last ones of each level.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxgen.core.checks import check_floating
from jaxgen.core.types import AxisName, Variables
from jaxgen.models.description import make_network
from jaxgen.nn.classifier import ConvClassifier


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A classifier of images in [-1, 1]; `variables` is `Variables(params, {})`.

    Attributes:
        network: Linen module with `__call__` and `features`.

    Raises:
        ValueError: at init, images that have fewer pixels along a side than the levels' pooling needs; images that are
            bytes.
    """

    network: ConvClassifier

    @classmethod
    def from_description(
        cls, *, num_classes: int, channels: tuple[int, ...] = (32, 64, 128), convs: int = 1, dtype: str | None = None,
        axis_name: AxisName = None,
    ) -> "Classifier":
        """The model of plain values."""
        own = {"num_classes": num_classes, "channels": channels, "convs": convs}
        return cls(network=make_network(ConvClassifier, {}, own, dtype))

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    def init(self, key: PRNGKeyArray, example_shape: tuple[int, ...]) -> Variables:
        """Fresh variables."""
        levels = len(self.network.channels)
        smallest = 2 ** (levels - 1)
        if min(example_shape[:2]) < smallest:
            raise ValueError(f"images of {example_shape[0]}x{example_shape[1]} are too small for {levels} levels: use "
                             f"at least {smallest}x{smallest}, or fewer channels=")
        return Variables(self.network.init(key, jnp.zeros((1, *example_shape)))["params"], {})

    def logits(self, variables: Variables, x: Float[Array, "B H W C"]) -> Float[Array, "B num_classes"]:
        """float32 logits."""
        check_floating("x", x)
        return self.network.apply({"params": variables.params}, x).astype(jnp.float32)

    def features(self, variables: Variables, x: Float[Array, "B H W C"]) -> list[Float[Array, "B h w c"]]:
        """Maps from fine to coarse."""
        check_floating("x", x)
        return self.network.apply({"params": variables.params}, x, method="features")
