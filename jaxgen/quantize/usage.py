"""How much of a codebook is in use.

    perplexity = exp(-sum_k p_k log p_k),  p_k = n_k / sum n

runs from 1 (one code does everything) to K (all codes equally often).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.checks import check_count
from jaxgen.quantize.checks import check_indices


class CodebookUsage(NamedTuple):
    """Use of a codebook of K codes.

    Attributes:
        perplexity: `[]`, in codes: 1 to K.
        used: `[]`, the fraction of the codes that occur, 0 to 1.
        histogram: `[K]` int32, how often each code occurs. Histograms of batches add up.
    """

    perplexity: Float[Array, ""]
    used: Float[Array, ""]
    histogram: Int[Array, "K"]


def usage(
    indices: Int[Array, "..."], num_codes: int, *, axis_name: str | tuple[str, ...] | None = None
) -> CodebookUsage:
    """Perplexity, used fraction and histogram of indices.

    Args:
        indices: `[...]` int32. For a residual quantizer, pass one level at a time to see one codebook at a time.
        num_codes: K.
        axis_name: mapped axis or axes to sum the histogram over.

    Returns:
        `CodebookUsage(perplexity [], used [], histogram [K])`.

    Raises:
        ValueError: `num_codes` below 1, indices that are no integers or, when concrete, out of range or empty.
    """
    check_count("num_codes", num_codes)
    indices = jnp.asarray(indices)
    check_indices(indices, num_codes)
    if indices.size == 0:
        raise ValueError(f"indices has shape {indices.shape} and so holds none: pass at least one index.")
    histogram = jnp.zeros(num_codes, jnp.int32).at[indices.reshape(-1)].add(1)
    return usage_of(histogram if axis_name is None else jax.lax.psum(histogram, axis_name))


def usage_of(histogram: Int[Array, "K"]) -> CodebookUsage:
    """The usage that a histogram shows, for histograms summed over many batches.

    perplexity = exp(-sum p log p), p = histogram / sum(histogram).

    Args:
        histogram: `[K]`, counts.

    Returns:
        `CodebookUsage(perplexity [], used [], histogram [K])`.
    """
    p = histogram / jnp.maximum(jnp.sum(histogram), 1)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0))
    return CodebookUsage(jnp.exp(entropy), jnp.mean(histogram > 0), histogram)
