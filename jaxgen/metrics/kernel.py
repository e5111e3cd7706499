"""Distances between sets of features by a kernel: squared maximum mean discrepancies.

    MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y)

No Gaussian is fitted, so that they serve small sets, too.
"""

import numpy as np
from jaxtyping import Array, Float

from jaxgen.core.checks import check_count, check_positive
from jaxgen.metrics.rows import as_rows, blocks, check_width, square_distances


def kernel_distance(
    x: Float[Array, "N D"],
    y: Float[Array, "M D"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    seed: int = 0,
) -> tuple[float, float]:
    """Unbiased MMD² of the kernel (gamma x·y + coef)^degree over random subsets; KID, for Inception's features.

    Its expectation does not depend on N, and is 0 for equal distributions: values below 0 occur. The products are of
    the features' dtype, the sums float64.

    Args:
        x, y: features of both sets.
        subsets: how many pairs of subsets, each drawn without replacement.
        subset_size: rows of each, up to N and M.
        degree, gamma, coef: of the kernel; gamma is 1 / D by default.
        seed: of the draws.

    Returns:
        Mean over the subsets, and their std. The std is of one subset, not the mean's error.

    Raises:
        ValueError: a set has fewer rows than `subset_size`, the widths differ, or an argument is out of range.

    Reference: Bińkowski et al., "Demystifying MMD GANs", 2018, arXiv:1801.01401

    Example:
        >>> import numpy as np
        >>> from jaxgen.metrics import kernel_distance
        >>> x = np.random.default_rng(0).normal(size=(200, 8))
        >>> mean, std = kernel_distance(x[:100], x[100:] + 1, subset_size=50)
        >>> mean > 5 * std
        True
    """
    subsets, degree = check_count("subsets", subsets), check_count("degree", degree)
    subset_size = check_count("subset_size", subset_size, 2)
    x, y = as_rows("x", x), as_rows("y", y)
    check_width(x=x, y=y)
    for argument, rows in (("x", x), ("y", y)):
        if len(rows) < subset_size:
            raise ValueError(f"subset_size={subset_size} is more than the {len(rows)} rows of {argument}: give "
                             f"subset_size={min(len(x), len(y))} at most, and say it along with the value")
    gamma = 1 / x.shape[1] if gamma is None else gamma
    check_positive("gamma", gamma)

    def kernel(a, b):
        base = (a @ b.T) * gamma + coef
        result = base
        for _ in range(degree - 1):  # NumPy's power of whole exponents above 2 is many times slower
            result = result * base
        return result

    def within(a):
        values = kernel(a, a)
        return (values.sum(dtype=np.float64) - np.trace(values, dtype=np.float64)) / (subset_size * (subset_size - 1))

    draws = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        a, b = (rows[draws.choice(len(rows), subset_size, replace=False)] for rows in (x, y))
        found.append(within(a) + within(b) - 2 * kernel(a, b).mean(dtype=np.float64))
    return float(np.mean(found)), float(np.std(found))


def gaussian_mmd(
    x: Float[Array, "N D"], y: Float[Array, "M D"], *, sigma: float = 10.0, scale: float = 1000.0
) -> float:
    """scale · MMD² of the kernel exp(-|x - y|² / (2 sigma²)), the biased estimator; CMMD, for CLIP's embeddings.

    The means include each row with itself, so that the value is never below 0, and above it for equal distributions:
    by about scale (1 - E k) (1/N + 1/M). Distances are taken in blocks: memory does not grow with N M.

    Args:
        x, y: features of both sets; CMMD's are scaled to length 1.
        sigma: in the features' units.
        scale: 1000 makes CMMD's values easy to read.

    Raises:
        ValueError: the widths differ, or sigma or scale is not above 0.

    Reference: Jayasumana et al., "Rethinking FID: towards a better evaluation metric for image generation", 2024,
    arXiv:2401.09603
    """
    check_positive("sigma", sigma)
    check_positive("scale", scale)
    x, y = as_rows("x", x), as_rows("y", y)
    check_width(x=x, y=y)
    center = x.mean(axis=0, dtype=np.float64)

    def mean_kernel(a, b):  # minus 1, which the three terms lose together, and with it float32's rounding of it
        total = 0.0
        for i in blocks(len(a)):
            for j in blocks(len(b)):
                if a is not b or i.start <= j.start:  # of one set with itself, blocks below the diagonal are its mirror
                    squares = square_distances(a[i], b[j], center)
                    times = 2 if a is b and i != j else 1
                    total += times * np.expm1(squares / (-2 * sigma**2)).sum(dtype=np.float64)
        return total / (len(a) * len(b))

    return max(0.0, float(scale * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))))
