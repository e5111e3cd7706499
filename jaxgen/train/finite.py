"""A training that is no longer finite: how it is seen, and the error that says where."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

PyTree = Any


class NonFiniteError(FloatingPointError):
    """The loss, the gradients or the parameters are no longer finite; `step`, `ids` and `last_good` say where."""

    def __init__(self, what: str, step: int, ids: list | None, last_good: int | None):
        self.step, self.ids, self.last_good = step, ids, last_good
        batch = f"the batch's ids are {ids}" if ids is not None else "the batch has no ids"
        good = "none" if last_good is None else f"step {last_good}"
        super().__init__(
            f"{what} at step {step}; {batch}; last good checkpoint: {good}. Nothing was saved since. "
            f"Go on from that checkpoint with a lower learning rate, or start again with clipped gradients"
        )


@jax.jit
def all_finite(tree: PyTree) -> jax.Array:
    """Whether no floating-point array of the tree holds NaN or infinity; True if it has none."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])) if leaves else jnp.array(True)


def batch_ids(batch: Any) -> list | None:
    """The ids of a batch's examples, those of all processes, or None if it has none."""
    if not isinstance(batch, Mapping) or "id" not in batch:
        return None
    return multihost_utils.process_allgather(batch["id"], tiled=True).ravel().tolist()
