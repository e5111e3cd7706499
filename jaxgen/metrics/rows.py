"""Sets of features [N, D] on the host: the checks, blocks and distances that metrics of distributions share."""

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxgen.core.checks import check_batch

BLOCK = 1024  # rows at a time: 1024 x 2048 distances in float32 take 8 MB


def as_rows(argument: str, x: Float[Array, "N D"], smallest: int = 1) -> Float[np.ndarray, "N D"]:
    """`x` as a NumPy array of float32 or float64; one that is sharded over the devices of this process is gathered.

    Raises:
        ValueError: it is traced, lies on other processes' devices, is no [N, D] of floating-point numbers, has fewer
            rows than `smallest`, or holds a number that is not finite; names the row.
    """
    if isinstance(x, jax.core.Tracer):
        raise ValueError(f"{argument} is traced, but is measured on the host: compute features inside jax.jit and "
                         "call this with its result")
    if not getattr(x, "is_fully_addressable", True):
        raise ValueError(f"{argument} lies on the devices of several processes: give each process's own rows to "
                         "`moments` and `merge` the results, or gather it by "
                         "jax.experimental.multihost_utils.process_allgather(..., tiled=True)")
    check_batch(argument, x)
    if np.ndim(x) != 2 or not np.size(x):
        raise ValueError(f"{argument} must be features [N, D], got shape {np.shape(x)}: reshape or pool those of each "
                         "example to one vector")
    if len(x) < smallest:
        raise ValueError(f"{argument} must have {smallest} rows at least, got {len(x)}")
    x = np.asarray(x)
    x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
    for block in blocks(len(x)):
        wrong = np.flatnonzero(~np.isfinite(x[block]).all(axis=1))
        if wrong.size:
            row = block.start + wrong[0]
            raise ValueError(f"{argument} must be finite, got NaN or an infinite number in row {row}")
    return x


def check_width(**features: np.ndarray) -> None:
    """Refuses features of different networks, as far as their widths tell."""
    widths = [x.shape[1] for x in features.values()]
    if len(set(widths)) > 1:
        raise ValueError(f"{', '.join(features)} must be features of one network, got {widths} numbers per row")


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover `range(count)`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def square_distances(
    x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "M D"], center: Float[np.ndarray, "D"]
) -> Float[np.ndarray, "N M"]:
    """|x_i - y_j|² by one matrix product, in the inputs' dtype.

    Args:
        x, y: features.
        center: any point near them; it is subtracted first, for the product's rounding grows with their lengths.
    """
    x, y = x - center.astype(x.dtype), y - center.astype(y.dtype)
    result = x @ y.T
    result *= -2
    result += _square_lengths(x)[:, None].astype(result.dtype)
    result += _square_lengths(y)[None].astype(result.dtype)
    return np.maximum(result, 0, out=result)


def _square_lengths(x: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", x, x, dtype=np.float64)
