"""Splits of a set that TFDS would read otherwise than they say."""

from collections.abc import Mapping
from typing import Any


def check_split(name: str, split: str, splits: Mapping[str, Any]) -> None:
    """Refuses a split that is no string, or a part that ends before it begins, of which TFDS reads a file's end.

    Other parts without examples, unknown splits and ones that cannot be read are left to the reading.

    Args:
        name: of the set.
        split: such as "train", "train[:10%]" or "train[:100]+test".
        splits: TFDS's `builder.info.splits`.

    Raises:
        ValueError: names the split, and the splits that there are.
    """
    import tensorflow_datasets as tfds

    known = ", ".join(map(repr, splits))
    if not isinstance(split, str):
        raise ValueError(f"split must be a string, one of {known} or a part such as 'train[:10%]', got {split!r}")
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    except (ValueError, KeyError):
        return
    for part in parts:
        start, stop, _ = slice(part.from_, part.to).indices(splits[part.splitname].num_examples)
        if start > stop:
            raise ValueError(f"split {split!r} of {name!r} has a part that ends before it begins: from {start} to "
                             f"{stop} of {part.splitname!r}")
