"""The Fréchet distance between Gaussians fitted to two sets of features.

It is called FID for the features of one network only, the Inception-v3 of its authors, at 50,000 images as a rule. Its
expectation falls with N, for the same model: compare values of equal N, or extrapolate.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Float

from jaxgen.core.checks import check_count
from jaxgen.metrics.moments import Moments, check_moments, covariance, moments
from jaxgen.metrics.rows import as_rows


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|² + tr(S_a + S_b - 2 (S_a S_b)^(1/2)).

    The trace of the square root is the sum of the roots of the eigenvalues of S_b^(1/2) S_a S_b^(1/2), which is
    symmetric: they are real also where N < D leaves both covariances without full rank. Those below 0 by rounding
    count as 0.

    Args:
        a, b: moments of both sets, of 2 rows at least; the distance is symmetric.

    Returns:
        At least 0, in the features' units squared.

    Raises:
        ValueError: moments of fewer than 2 rows or of different widths.

    Reference: Dowson & Landau, "The Fréchet distance between multivariate normal distributions", 1982; Heusel et al.,
    "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017, arXiv:1706.08500

    Example:
        >>> import numpy as np
        >>> from jaxgen.metrics import Moments, frechet_distance
        >>> a, b = (Moments(11, np.full(2, mean), 10 * std**2 * np.eye(2)) for mean, std in ((0.0, 1.0), (3.0, 2.0)))
        >>> round(frechet_distance(a, b), 6)  # 2 (3² + (2 - 1)²)
        20.0
    """
    check_moments(a=a, b=b)
    return frechet_to(b)(a)


def frechet_to(reference: Moments) -> Callable[[Moments | Float[Array, "N D"]], float]:
    """The distance to one reference as a function of the other set, whose matrix root is taken once.

    For many sets, such as those of a bootstrap: `bootstrap_interval(frechet_to(reference), features, centred=True)`.

    Args:
        reference: moments of 2 rows at least.

    Returns:
        `distance(features or their moments) -> float`, as `frechet_distance`.

    Raises:
        ValueError: as `frechet_distance`.
    """
    square = covariance(reference)
    values, vectors = np.linalg.eigh(square)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

    def distance(features: Moments | Float[Array, "N D"]) -> float:
        found = features if isinstance(features, Moments) else moments(features)
        check_moments(features=found, reference=reference)
        own = covariance(found)
        product = root @ own @ root
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0))
        step = found.mean - reference.mean
        return max(0.0, float(step @ step + np.trace(own) + np.trace(square) - 2 * roots.sum()))

    return distance


def frechet_distance_infinity(
    features: Float[Array, "N D"], reference: Moments, *,
    sizes: int | Sequence[int] = 15, repeats: int = 1, seed: int = 0,
) -> float:
    """The distance that infinitely many samples would have: the intercept of a line fitted to distances over 1 / n.

    Each distance is of n rows drawn without replacement. The reference stays as it is, and with it the bias of its own
    count. May fall below 0 for sets that are alike.

    Args:
        features: [N, D] of the samples.
        reference: moments of the real examples.
        sizes: the values of n, or how many, evenly from N / 10 to N. The line holds for n well above D's effective
            number of dimensions.
        repeats: draws for each size; more take out the draws' noise, not that of having N samples.
        seed: of the draws.

    Raises:
        ValueError: fewer than two different sizes, or one outside 2 .. N; else as `frechet_distance`.

    Reference: Chong & Forsyth, "Effectively unbiased FID and Inception Score and where to find them", 2020,
    arXiv:1911.07023
    """
    features = as_rows("features", features, 2)
    repeats = check_count("repeats", repeats)
    count = len(features)
    if isinstance(sizes, (int, np.integer)):
        sizes = np.linspace(max(2, count // 10), count, check_count("sizes", sizes, 2)).astype(int)
    sizes = [check_count(f"sizes[{i}]", size, 2) for i, size in enumerate(sizes)]
    if len(set(sizes)) < 2 or max(sizes) > count:
        raise ValueError(f"sizes must be 2 different numbers at least, up to the {count} rows of features; got {sizes}")
    draws, distance = np.random.default_rng(seed), frechet_to(reference)
    points = [(1 / size, distance(features[draws.choice(count, size, replace=False)]))
              for size in sizes for _ in range(repeats)]
    return float(np.polyfit(*np.transpose(points), 1)[1])
