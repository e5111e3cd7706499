"""Calls of compiled functions in a few sizes of batches only."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

BATCH = 64


def filled(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def in_batches(function: Callable[[Any], Any], x: Any, size: int = BATCH) -> Any:
    """A function of each example, called with batches of powers of two: the last ones are filled up.

    Args:
        function: of a tree of arrays with the batch as first axis, to such a tree.
        x: a tree of arrays with the examples as first axis, at least one.
        size: of a batch at most, a power of two.
    """
    count, parts = len(jax.tree.leaves(x)[0]), []
    for start in range(0, count, size):
        end = min(start + size, count)
        places = np.minimum(np.arange(filled(end - start)) + start, end - 1)
        result = function(jax.tree.map(lambda leaf, places=places: leaf[places], x))
        parts.append(jax.tree.map(lambda leaf, length=end - start: np.asarray(leaf)[:length], result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
