"""A classifier on held-out examples, and the perceptual distance of its features."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxgen import losses
from jaxgen.core.types import Variables
from jaxgen.data import Dataset
from jaxgen.evaluate.base import BATCH, Batch, Evaluator, each_example
from jaxgen.models import Classifying


def classification(model: Classifying, *, batch_size: int = BATCH, bar: bool = False) -> Evaluator:
    """"accuracy" and "cross_entropy" [nats] on a set with labels."""

    def measure(variables: Variables, batch: Batch):
        logits = model.logits(variables, batch["x"])
        return {"accuracy": jnp.argmax(logits, axis=1) == batch["label"],
                "cross_entropy": losses.cross_entropy(logits, batch["label"])}

    of_each = each_example(measure, batch_size=batch_size, bar=bar)

    def evaluate(variables: Variables, dataset: Dataset) -> dict[str, float]:
        if not dataset.num_classes:
            raise ValueError(f"a classifier is measured on labels, and {dataset.name} has none")
        return of_each(variables, dataset)

    return evaluate


def perceptual_distance(model: Classifying, variables: Variables) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`(x, x_r) -> [B]`: the distance of LPIPS between the features of a trained classifier, all channels alike.

    For images that ImageNet has nothing like, such as digits: a term of a loss like `partial(losses.lpips, params)`. It
    is a tree whose leaves are the classifier's variables.
    """
    return Partial(losses.feature_distance, Partial(model.features, variables))
