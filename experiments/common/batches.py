"""Functions of many examples, a batch at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np

BATCH = 64


def in_batches(function: Callable[..., Any], *arrays: np.ndarray, size: int = BATCH) -> Any:
    """`function` of at most `size` examples at a time; its results, arrays or tuples of them, put together in NumPy."""
    parts = [function(*(array[start : start + size] for array in arrays)) for start in range(0, len(arrays[0]), size)]
    return tuple(map(np.concatenate, zip(*parts))) if isinstance(parts[0], tuple) else np.concatenate(parts)
