"""Functions of many examples, a batch at a time, in a few sizes of batches only: each is compiled once."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

BATCH = 64


def filled(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def in_batches(function: Callable[[Any], Any], x: Any, size: int = BATCH) -> Any:
    """A function of each example, called with batches of `size`, the last one filled up to a power of two at most.

    Args:
        function: of a tree of arrays with the batch as first axis, to such a tree.
        x: a tree of arrays with the examples as first axis, at least one.
        size: of a batch.

    Returns:
        Its results in NumPy.
    """
    count, parts = len(jax.tree.leaves(x)[0]), []
    for start in range(0, count, size):
        end = min(start + size, count)
        places = np.minimum(np.arange(min(filled(end - start), size)) + start, end - 1)
        result = function(jax.tree.map(lambda leaf, places=places: leaf[places], x))
        parts.append(jax.tree.map(lambda leaf, length=end - start: np.asarray(leaf)[:length], result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
