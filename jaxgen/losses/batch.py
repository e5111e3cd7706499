"""The batch of an objective, a mapping whose entries are named, and what every loss checks of its arrays."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array

from jaxgen.checks import check_floating, check_integers


def check_alike(**arrays: Array) -> None:
    """Refuses what are not floating-point arrays [B, ...] of one shape; others would be broadcast without a word.

    Raises:
        ValueError: names the arguments, and their dtype or shapes.
    """
    for argument, x in arrays.items():
        check_floating(argument, x)
        if jnp.ndim(x) < 1:
            raise ValueError(f"{argument} must be [B, ...], got a single number: give it an axis of examples")
    shapes = [jnp.shape(x) for x in arrays.values()]
    if len(set(shapes)) > 1:
        raise ValueError(f"{' and '.join(arrays)} must have one shape, got {' and '.join(map(str, shapes))}")


def get_entry(batch: Mapping[str, Array], name: str) -> Array:
    """The batch's entry of that name.

    Raises:
        ValueError: there is none; says which there are.
    """
    if name not in batch:
        raise ValueError(f"batch must have an entry {name!r}, got {sorted(batch)}")
    return batch[name]


def get_example(batch: Mapping[str, Array], name: str) -> Array:
    """The batch's entry of that name, floating-point numbers [B, ...].

    Raises:
        ValueError: there is none, or it holds bytes or other whole numbers.
    """
    x = get_entry(batch, name)
    check_alike(**{f"batch[{name!r}]": x})
    return x


def get_whole(batch: Mapping[str, Array], name: str) -> Array:
    """The batch's entry of that name, whole numbers such as tokens.

    Raises:
        ValueError: there is none, or it is of another dtype.
    """
    x = get_entry(batch, name)
    check_integers(f"batch[{name!r}]", x)
    return x
