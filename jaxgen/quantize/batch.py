"""A batch of vectors, as a codebook sees it: sums by code, random vectors, k-means; the same on N devices as on one.

Draws are made by rank among the vectors of the global batch that count, so that devices that hold the same key agree
on them, and vectors that do not count might as well be missing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgen.core.mapped import psum, sum_before
from jaxgen.core.types import AxisName
from jaxgen.quantize.nearest import nearest, unit


class Batch(NamedTuple):
    """This device's part of a batch.

    Attributes:
        vectors: `[n, D]`, finite.
        counted: `[n]`, which of them count.
        axis_name: the mapped axes over which the batch is split.
    """

    vectors: Float[Array, "n D"]
    counted: Bool[Array, "n"]
    axis_name: AxisName

    def size(self) -> Array:
        """How many vectors of the global batch count, `[]`."""
        return psum(jnp.sum(self.counted), self.axis_name)

    def totals(self, indices: Array, num_codes: int) -> tuple[Float[Array, "K"], Float[Array, "K D"]]:
        """How many vectors of the global batch chose each code, `[K]`, and their sum, `[K, D]`."""
        vectors = jnp.where(self.counted[:, None], self.vectors, 0)
        counts = jnp.zeros(num_codes, jnp.float32).at[indices].add(self.counted.astype(jnp.float32))
        sums = jnp.zeros((num_codes, vectors.shape[-1]), jnp.float32).at[indices].add(vectors)
        return psum(counts, self.axis_name), psum(sums, self.axis_name)

    def squares(self, centre: Float[Array, "D"]) -> Array:
        """The sum of the squared distances to `centre` of the global batch's vectors that count, `[]`."""
        squares = jnp.sum(jnp.square(self.vectors - centre[None]), axis=-1)
        return psum(jnp.sum(jnp.where(self.counted, squares, 0)), self.axis_name)


def draw_vectors(
    key: Array, batch: Batch, wanted: Bool[Array, "K"]
) -> tuple[Float[Array, "K D"], Bool[Array, "K"]]:
    """Different random vectors of the global batch for the wanted codes.

    Args:
        key: the same on every device.
        batch: this device's part.
        wanted: `[K]`, which codes want a vector.

    Returns:
        vectors `[K, D]`, and which codes got one, `[K]`: the first ones that want, at most one per vector.
    """
    vectors, counted, axis_name = batch
    slots = vectors.shape[0] * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    size, own = batch.size(), jnp.sum(counted)
    place = jnp.cumsum(wanted) - 1
    served = wanted & (place < size)
    # The ranks below `size` in random order: the sort is stable, so that those beyond come last.
    priority = jnp.where(jnp.arange(slots) < size, jax.random.bits(key, (slots,)), jnp.uint32(2**32 - 1))
    rank = jnp.argsort(priority)[jnp.clip(place, 0, slots - 1)] - sum_before(own, axis_name)
    here = (rank >= 0) & (rank < own)
    in_order = jnp.argsort(~counted)
    rows = jnp.where(here[:, None], vectors[in_order[jnp.clip(rank, 0, vectors.shape[0] - 1)]], 0)
    return psum(rows, axis_name), served


def kmeans(
    key: Array,
    batch: Batch,
    codebook: Float[Array, "K D"],
    *,
    iterations: int,
    metric: str = "euclidean",
    block_size: int | None = None,
) -> tuple[Float[Array, "K D"], Float[Array, "K"]]:
    """Lloyd's algorithm from random vectors of the batch.

    e_k <- mean of the vectors nearest to e_k (scaled to unit length for the cosine metric); an empty cluster keeps
    its centre. Where the batch has fewer vectors than there are codes, the codes beyond start from `codebook`.

    Args:
        key: the same on every device.
        batch: this device's part.
        codebook: `[K, D]` float32.
        iterations: assignments and means to compute.
        metric: "euclidean" or "cosine".
        block_size: as in `nearest`.

    Returns:
        centres `[K, D]`, and the counts `[K]` of the last assignment.

    Reference: Lloyd 1982, "Least squares quantization in PCM".
    """
    drawn, served = draw_vectors(key, batch, jnp.ones(codebook.shape[0], bool))
    centres = jnp.where(served[:, None], drawn, codebook)

    def step(centres, _):
        indices = nearest(batch.vectors, centres, metric=metric, block_size=block_size)
        counts, sums = batch.totals(indices, centres.shape[0])
        means = sums / jnp.maximum(counts, 1)[:, None]
        if metric == "cosine":
            means = unit(means)
        return jnp.where(counts[:, None] > 0, means, centres), counts

    centres, counts = jax.lax.scan(step, centres, None, length=iterations)
    return centres, counts[-1]
