"""Count, mean and scatter of features, in one pass over batches of any size.

    found = moments(first_batch)
    found = merge(found, moments(next_batch))        # exact: odd batches, any order, any split over devices

They are NumPy arrays of float64 on the host. A distance between two sets is a small difference of large traces, and
float32, the widest type of some accelerators, would leave it few digits. Bringing the features of a batch to the host
moves [batch, D] numbers, fewer than the [D, D] of a scatter for batches below D. An array that is sharded over the
devices of a process is gathered; with several processes each counts its own rows and the moments are merged.
"""

from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from jaxgen.metrics.rows import as_rows, blocks


class Moments(NamedTuple):
    """What a Gaussian fitted to N features takes.

    Those of published statistics (mean, covariance, of N images) are `Moments(N, mean, covariance * (N - 1))`.

    Attributes:
        count: N.
        mean: [D] float64.
        scatter: [D, D] float64, sum (x - mean)(x - mean)^T.
    """

    count: int
    mean: Float[np.ndarray, "D"]
    scatter: Float[np.ndarray, "D D"]


def moments(features: Float[Array, "N D"]) -> Moments:
    """Count, mean and scatter of features.

    Args:
        features: [N, D], of NumPy or JAX, also sharded; rows that pad a batch have to be cut off before.

    Raises:
        ValueError: features that are no finite floating-point numbers [N, D], are traced, or lie on the devices of
            several processes.

    Example:
        >>> import numpy as np
        >>> from jaxgen.metrics import covariance, merge, moments
        >>> x = np.array([[0.0], [1.0], [5.0]])
        >>> found = merge(moments(x[:1]), moments(x[1:]))
        >>> found.count, found.mean.tolist(), covariance(found).tolist()
        (3, [2.0], [[7.0]])
    """
    features = as_rows("features", features)
    return reduce(merge, (_of_block(features[block].astype(np.float64)) for block in blocks(len(features))))


def _of_block(x: np.ndarray) -> Moments:
    mean = x.mean(axis=0)
    x = x - mean
    return Moments(len(x), mean, x.T @ x)


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two disjoint sets, exact up to float64's rounding.

    Raises:
        ValueError: they are of features of different widths.

    Reference: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979
    """
    check_moments(a=a, b=b)
    count, step = a.count + b.count, b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(step, step) * (a.count * b.count / count)
    return Moments(count, a.mean + step * (b.count / count), scatter)


def covariance(moments: Moments) -> Float[np.ndarray, "D D"]:
    """scatter / (N - 1).

    Raises:
        ValueError: fewer than 2 rows were counted.
    """
    check_moments(moments=moments)
    if moments.count < 2:
        raise ValueError(f"moments must be of 2 rows at least for a covariance, got {moments.count}")
    return moments.scatter / (moments.count - 1)


def check_moments(**values: Moments) -> None:
    """Refuses what are no `Moments`, or ones of different widths."""
    for argument, value in values.items():
        if not isinstance(value, Moments):
            raise ValueError(f"{argument} must be Moments, got {type(value).__name__}: call jaxgen.metrics.moments")
        if np.shape(value.scatter) != np.shape(value.mean) * 2:
            raise ValueError(f"{argument} must have a mean [D] and a scatter [D, D], got shapes "
                             f"{np.shape(value.mean)} and {np.shape(value.scatter)}")
    widths = [len(value.mean) for value in values.values()]
    if len(set(widths)) > 1:
        raise ValueError(f"{' and '.join(values)} must be of features of one network, got {widths} numbers per row")
