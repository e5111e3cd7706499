"""The batch of an objective: a mapping whose entries are named."""

from collections.abc import Mapping

from jaxtyping import Array


def entry(batch: Mapping[str, Array], name: str) -> Array:
    """The batch's entry of that name.

    Raises:
        ValueError: there is none; says which there are.
    """
    if name not in batch:
        raise ValueError(f"batch must have an entry {name!r}, got {sorted(batch)}")
    return batch[name]
