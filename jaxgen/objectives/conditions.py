"""What the objectives of conditional models share: places in the global batch, and leaving conditions out."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxgen.core.checks import check_fraction
from jaxgen.objectives.batch import get_entry


def drop_conditions(
    key: Array,
    batch: Mapping[str, Array],
    condition: Mapping[str, str] | None,
    null: Callable[[int], Mapping[str, Array]] | None,
    probability: float,
    positions: Int[Array, "B"],
    total: int,
) -> dict[str, Any] | None:
    """The batch's condition, replaced by "no condition" with a probability, per example.

    Args:
        key: for which ones.
        batch: holds the entries that `condition` names.
        condition: {name in cond: entry of the batch}; None for a model without.
        null: `(count) -> cond` that stands for "no condition".
        probability: of leaving it out.
        positions, total: of `global_positions`.

    Returns:
        cond, or None.

    Raises:
        ValueError: the batch lacks an entry, there is no `null`, or the probability is none.
    """
    if not condition:
        return None
    check_fraction("drop_condition", probability)
    if null is None:
        raise ValueError(f"condition={dict(condition)} needs null, (count) -> cond that stands for no condition: for "
                         "example the model's own null")
    given = {name: get_entry(batch, source) for name, source in condition.items()}
    drop = jax.random.bernoulli(key, probability, (total,))[positions]

    def choose(value, none):
        return jnp.where(drop.reshape(-1, *(1,) * (value.ndim - 1)), none, value)

    return jax.tree.map(choose, given, dict(null(positions.shape[0])))
