"""The objective of a classifier, as one function of its parameters and a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.types import Variables
from jaxgen.losses import cross_entropy
from jaxgen.objectives.batch import get_entry, get_example

PyTree = Any




def classifier_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array | None,
    *,
    logits: Callable,
    label_smoothing: float = 0.0,
    entry: str = "image",
    label_entry: str = "label",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
    """The mean of `cross_entropy` over the batch.

    Args:
        params: parameters, differentiated by the caller.
        state: returned as it is.
        batch: {"image": [B, ...] in [-1, 1], "label": [B]}.
        key: not used.
        logits: `(Variables, x) -> [B, K]`, as `jaxgen.models.Classifier` has it.
        label_smoothing: see `cross_entropy`.
        entry, label_entry: which entries of the batch are the examples and their labels.

    Returns:
        (loss [], (metrics, state)); the metrics are the loss and the accuracy.

    Raises:
        ValueError: the batch lacks an entry, or one has another dtype or shape.
    """
    x, labels = get_example(batch, entry), get_entry(batch, label_entry)
    found = logits(Variables(params, state), x)
    loss = jnp.mean(cross_entropy(found, labels, label_smoothing=label_smoothing))
    accuracy = jnp.mean((jnp.argmax(found, axis=1) == labels).astype(jnp.float32))
    return loss, ({"loss": loss, "accuracy": accuracy}, state)
