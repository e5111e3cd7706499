"""How far a measured number may lie from what it measures."""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from jaxtyping import Array

from jaxgen.core.checks import check_count


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: Array,
    resamples: int = 1000,
    level: float = 0.95,
    paired: bool = False,
    centred: bool = False,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval in which a statistic of resampled rows falls, by its quantiles.

    Rows that occur twice in a resampled set raise distances such as Fréchet's, by about their bias at N: give
    `centred=True`, and the interval is about the value of the given rows. It is then that of the value at this N, not
    of its limit for large N.

    Not for what compares rows of the set with each other (`kernel_distance`, the radii of
    `precision_recall_density_coverage`, nearest neighbours): a row would meet its copy. `kernel_distance` has a std of
    its own, and shares of independent examples have `binomial_interval`.

    Args:
        statistic: takes as many arrays, gives a number. `frechet_to(reference)` for a Fréchet distance: it takes the
            reference's matrix root once.
        arrays: [N, ...], [M, ...], ...
        resamples: sets drawn with replacement, each of its array's size; 1000 for quantiles, 100 for a first look.
        level: probability of the interval.
        paired: the same rows of all arrays; else each is resampled by itself.
        centred: shifts the resampled values by their mean's distance from the value of the given rows.
        seed: of the draws.

    Returns:
        (low, high).

    Raises:
        ValueError: no array or one without rows, arrays of different lengths with `paired`, `level` outside (0, 1), or
            a statistic that is not finite.

    Reference: Efron, "Bootstrap methods: another look at the jackknife", 1979

    Example:
        >>> import numpy as np
        >>> from jaxgen.metrics import bootstrap_interval
        >>> low, high = bootstrap_interval(np.mean, np.random.default_rng(0).normal(size=400))
        >>> low < 0 < high
        True
    """
    resamples = check_count("resamples", resamples, 2)
    _check_level(level)
    lengths = [len(array) if np.ndim(array) else 0 for array in arrays]
    if not arrays or 0 in lengths:
        raise ValueError(f"arrays must have rows, [N, ...], got shapes {[np.shape(array) for array in arrays]}")
    if paired and len(set(lengths)) > 1:
        raise ValueError(f"paired arrays must have equally many rows, got {lengths}")
    draws, arrays = np.random.default_rng(seed), [np.asarray(array) for array in arrays]

    def resampled():
        rows = [draws.integers(length, size=length) for length in lengths[: 1 if paired else None]]
        return [array[chosen] for array, chosen in zip(arrays, rows * len(arrays) if paired else rows)]

    values = np.array([float(statistic(*resampled())) for _ in range(resamples)])
    if centred:
        values += float(statistic(*arrays)) - values.mean()
    if not np.isfinite(values).all():
        raise ValueError(f"statistic must be finite, got {values[~np.isfinite(values)][0]} of resampled rows")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def binomial_interval(successes: int, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a probability, from how many of independent trials succeeded.

    (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n),   p = successes / n

    Args:
        successes: 0 to `count`.
        count: n, 1 at least.
        level: probability of the interval; it sets z.

    Raises:
        ValueError: an argument is out of range.

    Reference: Wilson, "Probable inference, the law of succession, and statistical inference", 1927

    Example:
        >>> from jaxgen.metrics import binomial_interval
        >>> tuple(round(end, 3) for end in binomial_interval(8, 10))
        (0.49, 0.943)
    """
    count, successes = check_count("count", count), check_count("successes", successes, 0)
    _check_level(level)
    if successes > count:
        raise ValueError(f"successes={successes} is more than count={count}")
    z, p = NormalDist().inv_cdf((1 + level) / 2), successes / count
    middle = p + z**2 / (2 * count)
    half = z * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    low, high = ((middle + sign * half) / (1 + z**2 / count) for sign in (-1, 1))
    # Exact at the ends, where rounding would leave a trace.
    return 0.0 if successes == 0 else low, 1.0 if successes == count else high


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be a probability between 0 and 1, got {level}")
