"""The batch of an objective: a mapping whose entries are named."""

from collections.abc import Mapping

from jaxtyping import Array

from jaxgen.core.checks import check_alike, check_integers


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
