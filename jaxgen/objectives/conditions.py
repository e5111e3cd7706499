"""Conditions of an objective: what of a batch they are, and leaving them out now and then."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxgen.core.checks import check_fraction
from jaxgen.objectives.batch import get_entry


class Conditions(NamedTuple):
    """What an objective takes of a batch as the network's cond, for a model that is to be guided.

    Attributes:
        entries: {name in cond: entry of the batch}, for example {"classes": "label"}.
        null: `(count) -> cond` that stands for "no condition".
        drop: the probability of "no condition" in training, which classifier-free guidance needs.

    Reference: Ho & Salimans, "Classifier-Free Diffusion Guidance", 2021, arXiv:2207.12598.
    """

    entries: Mapping[str, str]
    null: Callable[[int], Mapping[str, Array]]
    drop: float = 0.1


def drop_conditions(
    key: Array, batch: Mapping[str, Array], conditions: Conditions | None, positions: Int[Array, "B"], total: int, *,
    train: bool,
) -> dict[str, Any] | None:
    """The batch's cond, replaced by "no condition" with a probability, per example.

    Args:
        key: for which ones.
        batch: holds the entries that the conditions name.
        conditions: None for a model without.
        positions, total: see `jaxgen.core.keys.global_positions`.
        train: False leaves none out.

    Returns:
        cond, or None.

    Raises:
        ValueError: the batch lacks an entry, or the probability is none.
    """
    if conditions is None or not conditions.entries:
        return None
    check_fraction("conditions.drop", conditions.drop)
    cond = {name: get_entry(batch, source) for name, source in conditions.entries.items()}
    drop = jax.random.bernoulli(key, conditions.drop if train else 0.0, (total,))[positions]

    def choose(value, none):
        return jnp.where(drop.reshape(-1, *(1,) * (value.ndim - 1)), none, value)

    return jax.tree.map(choose, cond, dict(conditions.null(positions.shape[0])))
