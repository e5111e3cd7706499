"""Keeping a codebook: moving averages, k-means, revival; the same on N devices as on one.

Exponential moving averages (van den Oord et al. 2017, arXiv:1711.00937, appendix A), with n_k vectors on code k:

    N_k <- g N_k + (1 - g) n_k;    m_k <- g m_k + (1 - g) sum_{z on k} z
    e_k = m_k / ((N_k + eps) / (sum N + K eps) sum N)          where n_k > 0; other codes keep their value exactly

Every function takes this device's vectors `[n, D]` and, in `axis_name`, the mapped axes over which the batch is
split. Draws are made by position in the global batch, so that devices that hold the same key agree on them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.quantize.nearest import nearest, unit

AxisName = str | tuple[str, ...] | None
EPSILON = 1e-5


def psum(x: Array, axis_name: AxisName) -> Array:
    """The sum over the mapped axes; `x` itself without any."""
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def first_position(count: int, axis_name: AxisName) -> Array | int:
    """Where this device's `count` vectors begin in the global batch."""
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * count


def totals(
    z: Float[Array, "n D"], indices: Int[Array, "n"], num_codes: int, axis_name: AxisName
) -> tuple[Float[Array, "K"], Float[Array, "K D"]]:
    """How many vectors of the global batch chose each code, `[K]`, and their sum, `[K, D]`."""
    counts = jnp.zeros(num_codes).at[indices].add(1.0)
    sums = jnp.zeros((num_codes, z.shape[-1])).at[indices].add(z)
    return psum(counts, axis_name), psum(sums, axis_name)


def smoothed(counts: Float[Array, "K"]) -> Float[Array, "K"]:
    """Laplace-smoothed counts `(N + eps) / (sum N + K eps) sum N`, of the same sum."""
    total = jnp.sum(counts)
    return (counts + EPSILON) / (total + counts.size * EPSILON) * total


def draw_vectors(
    key: Array, z: Float[Array, "n D"], wanted: Bool[Array, "K"], axis_name: AxisName
) -> tuple[Float[Array, "K D"], Bool[Array, "K"]]:
    """Different random vectors of the global batch for the wanted codes.

    Args:
        key: the same on every device.
        z: this device's vectors `[n, D]`.
        wanted: `[K]`, which codes want a vector.
        axis_name: mapped axes over which the batch is split.

    Returns:
        vectors `[K, D]`, and which codes got one, `[K]`: the first ones that want, at most one per vector.
    """
    count = z.shape[0]
    total = int(count if axis_name is None else count * jax.lax.psum(1, axis_name))
    rank = jnp.cumsum(wanted) - 1
    served = wanted & (rank < total)
    position = jax.random.permutation(key, total)[jnp.clip(rank, 0, total - 1)]
    local = position - first_position(count, axis_name)
    here = (local >= 0) & (local < count)
    rows = jnp.where(here[:, None], z[jnp.clip(local, 0, count - 1)], 0)
    return psum(rows, axis_name), served


def kmeans(
    key: Array,
    z: Float[Array, "n D"],
    codebook: Float[Array, "K D"],
    *,
    iterations: int,
    metric: str = "euclidean",
    block_size: int | None = None,
    axis_name: AxisName = None,
) -> tuple[Float[Array, "K D"], Float[Array, "K"]]:
    """Lloyd's algorithm from random vectors of the batch.

    e_k <- mean of the vectors nearest to e_k (scaled to unit length for the cosine metric); an empty cluster keeps
    its centre. Where the batch has fewer vectors than there are codes, the codes beyond start from `codebook`.

    Args:
        key: the same on every device.
        z: this device's vectors `[n, D]`.
        codebook: `[K, D]`.
        iterations: assignments and means to compute.
        metric: "euclidean" or "cosine".
        block_size: as in `nearest`.
        axis_name: mapped axes over which the batch is split.

    Returns:
        centres `[K, D]`, and the counts `[K]` of the last assignment.

    Reference: Lloyd 1982, "Least squares quantization in PCM".
    """
    drawn, served = draw_vectors(key, z, jnp.ones(codebook.shape[0], bool), axis_name)
    centres = jnp.where(served[:, None], drawn, codebook)

    def step(carry, _):
        centres, _ = carry
        indices = nearest(z, centres, metric=metric, block_size=block_size)
        counts, sums = totals(z, indices, centres.shape[0], axis_name)
        means = sums / jnp.maximum(counts, 1)[:, None]
        if metric == "cosine":
            means = unit(means)
        return (jnp.where(counts[:, None] > 0, means, centres), counts), None

    return jax.lax.scan(step, (centres, jnp.zeros(codebook.shape[0])), None, length=iterations)[0]
