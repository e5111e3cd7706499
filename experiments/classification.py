"""A trained classifier on held-out pictures, and the perceptual distance of its features."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from experiments.runs import load_run
from jaxgen import data, losses
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables
from jaxgen.models import Classifier


class Examiner:
    """Measures a classifier; its program is compiled once for all calls."""

    def __init__(self, model: Classifier):
        def measure(variables, batch):
            logits = model.logits(variables, data.to_float(batch["image"]))
            values = {"accuracy": jnp.argmax(logits, axis=1) == batch["label"],
                      "cross_entropy": losses.cross_entropy(logits, batch["label"])}
            return {name: jnp.sum(jnp.where(batch["mask"], value, 0.0)) for name, value in values.items()}

        self._measure = jax.jit(measure, compiler_options=compiler_options())

    def measure(self, variables: Variables, dataset: data.Dataset, batch_size: int = 100) -> dict[str, float]:
        """"accuracy" and "cross_entropy" [nats], means over a whole data set with labels."""
        totals = {"accuracy": 0.0, "cross_entropy": 0.0}
        for batch in data.evaluation_batches(dataset, min(batch_size, len(dataset))):
            found = self._measure(variables, {name: batch[name] for name in ("image", "label", "mask")})
            totals = {name: total + float(found[name]) for name, total in totals.items()}
        return {name: total / len(dataset) for name, total in totals.items()}


def load_feature_distance(
    workdir: str | Path, image_shape: Sequence[int]
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`(x, x_r) -> [B]`: the distance of LPIPS between the features of a trained classifier, all channels alike.

    For pictures that ImageNet has nothing like, such as digits: a term of a loss like `partial(losses.lpips, params)`.
    It is a tree whose leaves are the classifier's variables.

    Args:
        workdir: a run of `experiments.classifier`.
        image_shape: [H, W, C] of the pictures to compare.

    Raises:
        ValueError: it is another kind of run, or was trained on pictures of another shape.
    """
    loaded, variables = load_run(workdir)
    if not isinstance(loaded.model, Classifier):
        raise ValueError(f"the run in {workdir} trained a {loaded.config['model']['name']!r}: give one of "
                         "experiments.classifier")
    trained_on = tuple(loaded.config["image_shape"])
    if trained_on != tuple(image_shape):
        raise ValueError(f"the classifier in {workdir} was trained on pictures of {trained_on}, but these are "
                         f"{tuple(image_shape)}: train one on these")
    return Partial(losses.feature_distance, Partial(loaded.model.features, variables))
