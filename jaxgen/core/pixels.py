"""The rule between bytes and floats in [-1, 1], for arrays of NumPy and of JAX."""

from typing import Any

import numpy as np


def bytes_to_floats(values: Any) -> Any:
    """`(2 x - 255) / 255`: 0 .. 255 to float32 in [-1, 1].

    Args:
        values: uint8, an array of NumPy or JAX.
    """
    # (2 x - 255) / 255 has an exact numerator; XLA's own form of x / 127.5 - 1 takes 255 to 1.0000001.
    return (2.0 * values.astype(np.float32) - 255.0) * np.float32(1 / 255)


def floats_to_bytes(values: Any) -> Any:
    """`clip(round((x + 1) 127.5), 0, 255)`: floats in [-1, 1] to uint8.

    Args:
        values: floating point, an array of NumPy or JAX; values outside [-1, 1] are clipped.
    """
    return ((values.astype(np.float32) + 1.0) * 127.5).round().clip(0, 255).astype(np.uint8)
