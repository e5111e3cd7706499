"""What guidance of denoisers and of token models asks of their conditions."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.core.callables import shapes_of


def null_like(cond: Any, null_cond: Any, batch: int | None = None) -> Any:
    """`null_cond` in the shapes and dtypes of cond, whose leaves are [batch, ...] where it is given.

    Raises:
        ValueError: there is no condition to guide by, its leaves have another batch, or the two do not fit.

    Example:
        >>> null_like({"class": jnp.array([3, 5])}, {"class": 0}, 2)["class"].tolist()
        [0, 0]
    """
    leaves = jax.tree.leaves(cond)
    if not leaves:
        raise ValueError("guidance goes from the prediction without a condition to the one with it, and there is no "
                         f"condition: give cond=, for example to sample; got {cond!r}")
    if batch is not None and any(jnp.shape(leaf)[:1] != (batch,) for leaf in leaves):
        raise ValueError(f"every leaf of cond must hold one condition per sample, [{batch}, ...]; got "
                         f"{shapes_of(cond)}")
    try:
        return jax.tree.map(lambda c, n: jnp.broadcast_to(jnp.asarray(n, c.dtype), c.shape), cond, null_cond)
    except (TypeError, ValueError) as error:
        raise ValueError(f"null_cond must be a pytree like cond whose leaves broadcast to cond's leaves: {error}; got "
                         f"{shapes_of(null_cond)} for {shapes_of(cond)}") from None
