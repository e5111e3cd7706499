"""Nearest neighbours in a feature space: fidelity and variety of samples, and whether they copy the training set.

Distances are Euclidean, taken in blocks: beyond the features themselves memory grows with N, not with N².
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from jaxgen.core.checks import check_count
from jaxgen.metrics.rows import BLOCK, as_rows, blocks, check_width, square_distances


class PrecisionRecallDensityCoverage(NamedTuple):
    """Shares from 0 to 1; a density is at least 0, and 1 is expected of equal distributions.

    Attributes:
        precision: of the generated, those within the k-th neighbour's distance of some real example.
        recall: of the real, those within the k-th neighbour's distance of some generated one.
        density: real examples within whose k-th neighbour's distance a generated one lies, over k, on average.
        coverage: of the real, those within whose k-th neighbour's distance some generated one lies.
    """

    precision: float
    recall: float
    density: float
    coverage: float


class Authenticity(NamedTuple):
    """How much closer samples are to the training set than held-out examples are.

    Attributes:
        closer: share of the samples that are closer to a training example than the median held-out one is. One half
            for a model that makes new examples of the same distribution, 1 for one that copies.
        ratio: median distance of the samples over that of the held-out examples; 1 and 0 for those two.
        authentic: share of the samples that are farther from their nearest training example than that one is from its
            nearest training example (Alaa et al.).
    """

    closer: float
    ratio: float
    authentic: float


def precision_recall_density_coverage(
    real: Float[Array, "N D"], generated: Float[Array, "M D"], *, k: int = 3
) -> PrecisionRecallDensityCoverage:
    """Precision and recall by Kynkäänniemi et al., density and coverage by Naeem et al.; each depends on N, M and k.

    Args:
        real, generated: features; equal numbers are usual.
        k: neighbours, without the example itself, that set the radius of its ball. 3 is usual for precision and
            recall, 5 for density and coverage.

    Raises:
        ValueError: the widths differ, or a set has fewer than k + 1 rows.

    Reference: Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", 2019,
    arXiv:1904.06991; Naeem et al., "Reliable fidelity and diversity metrics for generative models", 2020,
    arXiv:2002.09797

    Example:
        >>> import numpy as np
        >>> from jaxgen.metrics import precision_recall_density_coverage
        >>> real = np.random.default_rng(0).normal(size=(100, 4))
        >>> found = precision_recall_density_coverage(real, 0.01 * real)  # one mode only
        >>> found.precision, found.recall
        (1.0, 0.0)
    """
    k = check_count("k", k)
    real, generated = as_rows("real", real, k + 1), as_rows("generated", generated, k + 1)
    check_width(real=real, generated=generated)
    center = _center(real)
    real_radii, generated_radii = (_nearest(x, x, k, center, own=True)[0].max(axis=1) for x in (real, generated))
    precise, recalled, covered = np.zeros(len(generated), bool), np.zeros(len(real), bool), np.zeros(len(real), bool)
    hits = 0
    for i in blocks(len(generated)):
        for j in blocks(len(real), 2 * BLOCK):
            squares = square_distances(generated[i], real[j], center)
            inside = squares <= real_radii[j]
            precise[i] |= inside.any(axis=1)
            covered[j] |= inside.any(axis=0)
            hits += np.count_nonzero(inside)
            recalled[j] |= (squares <= generated_radii[i, None]).any(axis=0)
    return PrecisionRecallDensityCoverage(
        float(precise.mean()), float(recalled.mean()), float(hits / (k * len(generated))), float(covered.mean()))


def nearest_neighbours(
    x: Float[Array, "N D"], reference: Float[Array, "M D"], *, k: int = 1
) -> tuple[Float[np.ndarray, "N k"], Int[np.ndarray, "N k"]]:
    """The k nearest rows of a reference, nearest first.

    Args:
        x: features of the examples that are asked about.
        reference: features to look among, such as the training set's.
        k: how many.

    Returns:
        Distances [N, k] in float64, exactly 0 for a copy, and indices [N, k] into the reference. Which of several
        rows at equal distance are among the k is left open.

    Raises:
        ValueError: the widths differ, or the reference has fewer than k rows.

    Example:
        >>> import numpy as np
        >>> from jaxgen.metrics import nearest_neighbours
        >>> distances, indices = nearest_neighbours(np.array([[0.0], [9.0]]), np.array([[8.0], [1.0], [3.0]]), k=2)
        >>> distances.tolist(), indices.tolist()
        ([[1.0, 3.0], [1.0, 6.0]], [[1, 2], [0, 2]])
    """
    k = check_count("k", k)
    x, reference = as_rows("x", x), as_rows("reference", reference, k)
    check_width(x=x, reference=reference)
    return _exact(x, reference, _nearest(x, reference, k, _center(reference))[1])


def authenticity(
    samples: Float[Array, "N D"], train: Float[Array, "M D"], held_out: Float[Array, "K D"]
) -> Authenticity:
    """Whether samples copy the training set: distances to their nearest training examples, next to held-out ones'.

    Args:
        samples: features of what the model made.
        train: features of all that it was trained on. With a part of them copies of the rest go unseen.
        held_out: features of examples of the same distribution that it was not trained on.

    Returns:
        `Authenticity(closer, ratio, authentic)`.

    Raises:
        ValueError: the widths differ, there are fewer than 2 training examples, or half of the held-out examples or
            more are training examples.

    Reference: Alaa et al., "How faithful is your synthetic data? Sample-level metrics for evaluating and auditing
    generative models", 2022, arXiv:2102.08921

    Example:
        >>> import numpy as np
        >>> from jaxgen.metrics import authenticity
        >>> train, held_out = np.random.default_rng(0).normal(size=(2, 100, 4))
        >>> authenticity(train[:50], train, held_out)
        Authenticity(closer=1.0, ratio=0.0, authentic=0.0)
    """
    samples, train, held_out = as_rows("samples", samples), as_rows("train", train, 2), as_rows("held_out", held_out)
    check_width(samples=samples, train=train, held_out=held_out)
    center = _center(train)
    (of_samples, nearest), (of_held_out, _) = (
        _exact(x, train, _nearest(x, train, 1, center)[1]) for x in (samples, held_out))
    typical = float(np.median(of_held_out))
    if typical == 0:
        raise ValueError("held_out must not be training examples, but half of its rows or more are rows of train")
    met, position = np.unique(nearest[:, 0], return_inverse=True)
    distances, indices = _exact(train[met], train, _nearest(train[met], train, 2, center)[1])
    others = np.where(indices[:, 0] == met, distances[:, 1], distances[:, 0])[position]
    return Authenticity(float(np.mean(of_samples < typical)), float(np.median(of_samples)) / typical,
                        float(np.mean(of_samples[:, 0] > others)))


def _center(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=0, dtype=np.float64)


def _nearest(
    x: np.ndarray, reference: np.ndarray, k: int, center: np.ndarray, *, own: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Square distances [N, k], as the matrix product rounds them, and indices, in no order; `own` leaves out i = j."""
    squares, indices = np.full((len(x), k), np.inf, x.dtype), np.zeros((len(x), k), np.int64)
    for i in blocks(len(x)):
        for j in blocks(len(reference), 2 * BLOCK):
            found = square_distances(x[i], reference[j], center)
            if own:
                same = np.arange(max(i.start, j.start), min(i.stop, j.stop))
                found[same - i.start, same - j.start] = np.inf
            found = np.concatenate([squares[i], found], axis=1)
            taken = np.argpartition(found, k - 1, axis=1)[:, :k]
            squares[i] = np.take_along_axis(found, taken, axis=1)
            before = np.take_along_axis(indices[i], np.minimum(taken, k - 1), axis=1)
            indices[i] = np.where(taken < k, before, taken - k + j.start)
    return squares, indices


def _exact(x: np.ndarray, reference: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances by differences in float64, which have no rounding of large lengths, and indices, nearest first."""
    distances = np.empty(indices.shape)
    for i in blocks(len(x)):
        for column in range(indices.shape[1]):
            step = x[i].astype(np.float64) - reference[indices[i, column]]
            distances[i, column] = np.sqrt(np.einsum("nd,nd->n", step, step))
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1)
