"""How much of a codebook is in use.

    perplexity = exp(-sum_k p_k log p_k),  p_k = n_k / sum n

runs from 1 (one code does everything) to K (all codes equally often).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count
from jaxgen.core.mapped import psum
from jaxgen.core.types import AxisName
from jaxgen.quantize.checks import check_indices
from jaxgen.quantize.vectors import checked_mask


class CodebookUsage(NamedTuple):
    """Use of a codebook of K codes; of several, with leading axes "...", where `usage` was asked for levels.

    Attributes:
        perplexity: `[...]`, in codes: 1 to K, where anything was counted.
        used: `[...]`, the fraction of the codes that occur, 0 to 1.
        histogram: `[..., K]` int32, how often each code occurs. Histograms of batches add up.
    """

    perplexity: Float[Array, "..."]
    used: Float[Array, "..."]
    histogram: Int[Array, "... K"]


def usage(
    indices: Int[Array, "..."], num_codes: int, *,
    levels: int = 0, valid: Bool[Array, "..."] | None = None, axis_name: AxisName = None,
) -> CodebookUsage:
    """Perplexity, used fraction and histogram of indices.

    A residual or grouped quantizer appends an axis of levels or groups to its indices, each with a codebook of its
    own: `levels=1` gives the usage of each, where `levels=0` counts all indices as one codebook's.

    Args:
        indices: `[..., *levels]` integers; where they are traced, those out of range are not counted.
        num_codes: K, the largest number of codes where levels differ.
        levels: how many of the last axes are levels or groups.
        valid: mask of the vectors that count, of the shape of `indices` without its levels; None counts all.
        axis_name: mapped axis or axes to sum the histogram over.

    Returns:
        `CodebookUsage(perplexity [*levels], used [*levels], histogram [*levels, K])`.

    Raises:
        ValueError: `num_codes` below 1, indices that are no integers or, when concrete, out of range or empty, more
            levels than axes, or a mask that is not boolean or of another shape.

    Example:
        >>> result = usage(jnp.array([0, 0, 1, 1]), num_codes=4)
        >>> round(float(result.perplexity), 3), float(result.used), result.histogram.tolist()
        (2.0, 0.5, [2, 2, 0, 0])
    """
    num_codes, levels = check_count("num_codes", num_codes), check_count("levels", levels, smallest=0)
    indices = jnp.asarray(indices)
    check_indices(indices, num_codes)
    if indices.size == 0:
        raise ValueError(f"indices has shape {indices.shape} and so holds none: pass at least one index.")
    if levels > indices.ndim:
        raise ValueError(f"levels={levels}, but indices has shape {indices.shape}, with {indices.ndim} axes.")
    split = indices.ndim - levels
    vectors, depths = indices.shape[:split], indices.shape[split:]
    counted = jnp.ones(vectors, bool) if valid is None else checked_mask(valid, vectors)
    # A negative index would wrap; as one beyond the codes it is dropped.
    flat = jnp.where(indices < 0, num_codes, indices).reshape(math.prod(vectors), math.prod(depths))
    weights = counted.reshape(-1).astype(jnp.int32)
    histogram = jax.vmap(lambda level: jnp.zeros(num_codes, jnp.int32).at[level].add(weights))(flat.T)
    return usage_of(psum(histogram.reshape(*depths, num_codes), axis_name))


def usage_of(histogram: Int[Array, "... K"]) -> CodebookUsage:
    """The usage that a histogram shows, for histograms summed over many batches.

    perplexity = exp(-sum p log p), p = histogram / sum(histogram).

    Args:
        histogram: `[..., K]`, counts; leading axes are those of several codebooks.

    Returns:
        `CodebookUsage(perplexity [...], used [...], histogram [..., K])`.

    Example:
        >>> result = usage_of(jnp.array([3, 3, 3, 3]))
        >>> round(float(result.perplexity), 3), float(result.used)
        (4.0, 1.0)
    """
    total = jnp.sum(histogram, axis=-1, keepdims=True)
    p = histogram.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0), axis=-1)
    return CodebookUsage(jnp.exp(entropy), jnp.mean((histogram > 0).astype(jnp.float32), axis=-1), histogram)
