"""Numbers of one set: of a classifier's answers, of likelihoods, and of distances within the set."""

import itertools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float

from jaxgen.core.checks import check_batch, check_count, check_counts
from jaxgen.diffusion import likelihood


def inception_score(
    logits: Float[Array, "N K"], *, splits: int = 10, seed: int | None = 0
) -> tuple[float, float]:
    """exp(mean over the set of KL(p(class | x) || mean p)): 1 to K, for answers that are sure and of many classes.

    It bears the name for the classifier of its authors only, Inception-v3 on ImageNet's classes.

    Args:
        logits: [N, K] of a classifier. Of probabilities p give `log(p)`; -inf stands for 0.
        splits: parts of the set, each scored by itself. The score grows with N / splits.
        seed: of the order in which rows come to the parts; None keeps the given one.

    Returns:
        Mean and std over the parts.

    Raises:
        ValueError: logits that are not [N, K], hold NaN or +inf, lack a finite number in a row, or are probabilities;
            more splits than rows.

    Reference: Salimans et al., "Improved techniques for training GANs", 2016, arXiv:1606.03498

    Example:
        >>> import numpy as np
        >>> from jaxgen.metrics import inception_score
        >>> inception_score(100 * np.eye(4), splits=1)
        (4.0, 0.0)
    """
    splits = check_count("splits", splits)
    check_batch("logits", logits)
    logits = np.asarray(logits).astype(np.float64)
    if logits.ndim != 2 or not logits.size:
        raise ValueError(f"logits must be [N, K], got shape {logits.shape}")
    if splits > len(logits):
        raise ValueError(f"splits={splits} is more than the {len(logits)} rows of logits")
    peak = logits.max(axis=1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ValueError("logits must have a finite greatest number in each row, got "
                         f"{peak[~np.isfinite(peak)][0]} in row {np.flatnonzero(~np.isfinite(peak[:, 0]))[0]}")
    if logits.shape[1] > 1 and (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        raise ValueError("logits are probabilities, each row with the sum 1: give their logarithm, np.log(p)")
    log_p = logits - peak
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    if seed is not None:
        log_p = log_p[np.random.default_rng(seed).permutation(len(log_p))]
    edges = [i * len(log_p) // splits for i in range(splits + 1)]
    scores = [math.exp(_divergence_from_mean(log_p[a:b])) for a, b in itertools.pairwise(edges)]
    return float(np.mean(scores)), float(np.std(scores))


def _divergence_from_mean(log_p: np.ndarray) -> float:
    p = np.exp(log_p)
    mean = p.mean(axis=0)
    terms = p * (np.where(p > 0, log_p, 0) - np.log(np.where(mean > 0, mean, 1)))
    return terms.sum(axis=1).mean()


def bits_per_dim(nats: Float[Array, "B"], shape: tuple[int, ...], *, offset: float = 0.0) -> Float[Array, "B"]:
    """nats / (d log 2) + offset, of negative log likelihoods.

    `jaxgen.diffusion.bits_per_dim`, which takes log likelihoods, for those who have a loss.

    Args:
        nats: [B], -log p of each example.
        shape: an example's, without B; d is its product.
        offset: log2 of how many original units one unit of x holds: 0 for probabilities of bytes, log2(127.5) for
            densities of x in [-1, 1].

    Raises:
        ValueError: nats that are no floating-point numbers, or a shape with an entry below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.metrics import bits_per_dim
        >>> bits_per_dim(jnp.array([16 * jnp.log(256.0)]), (4, 4, 1)).round(3).tolist()  # all bytes equally likely
        [8.0]
    """
    check_batch("nats", nats)
    return likelihood.bits_per_dim(-nats, math.prod(check_counts("shape", tuple(shape))), offset=offset)


def pairwise_diversity(
    distance: Callable[[Array, Array], Float[Array, "B"]], x: Float[Array, "N ..."], *, pairs: int, seed: int = 0,
    batch_size: int = 64,
) -> float:
    """The mean distance between two examples of a set: 0 where all are the same.

    Args:
        distance: `(x, y) -> [B]`, parameters bound, such as `jax.jit(functools.partial(lpips, params))`. It sees one
            batch size.
        x: [N, ...] the set, such as samples of one condition.
        pairs: how many pairs of different rows, drawn without replacement; all N (N - 1) / 2 if there are no more.
        seed: of the draws.
        batch_size: pairs at a time.

    Raises:
        ValueError: fewer than 2 examples, or a distance that is not one number per pair.

    Reference: Zhu et al., "Toward multimodal image-to-image translation", 2017, arXiv:1711.11586 (with LPIPS)

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.metrics import pairwise_diversity
        >>> pairwise_diversity(lambda x, y: jnp.abs(x - y)[:, 0], jnp.array([[0.0], [2.0], [4.0]]), pairs=3)
        2.6666666666666665
    """
    pairs, batch_size = check_count("pairs", pairs), check_count("batch_size", batch_size)
    check_batch("x", x, floating=False)
    count = len(x)
    if count < 2:
        raise ValueError(f"x must have 2 examples at least, got {count}")
    total = count * (count - 1) // 2
    numbers = np.arange(total) if pairs >= total else np.random.default_rng(seed).choice(total, pairs, replace=False)
    # Pair number t is (i, j) with j < i and t = i (i - 1) / 2 + j.
    first = ((1 + np.sqrt(1 + 8 * numbers)) / 2).astype(np.int64)
    second = numbers - first * (first - 1) // 2
    found = []
    for start in range(0, len(numbers), batch_size):
        batch = np.arange(start, start + batch_size) % len(numbers)  # the last one starts again, to be as large
        values = np.asarray(distance(x[first[batch]], x[second[batch]]))
        if values.shape != (batch_size,):
            raise ValueError(f"distance must give one number for each of {batch_size} pairs, got shape {values.shape}")
        found.append(values)
    return float(np.mean(np.concatenate(found)[: len(numbers)], dtype=np.float64))
