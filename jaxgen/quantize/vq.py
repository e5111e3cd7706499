"""Vector quantization with a learned codebook.

    index = argmin_k |z - e_k|,   q = e_index
    losses (means over the D components):  codebook |sg(z) - e|^2,   commitment beta |z - sg(e)|^2

The codebook follows the gradient of the codebook loss or, with `ema_decay`, moving averages of the vectors that chose
each code (see `jaxgen.quantize.codebook`).

Reference: van den Oord et al. 2017, "Neural Discrete Representation Learning", arXiv:1711.00937; cosine metric:
Yu et al. 2022, "Vector-quantized Image Modeling with Improved VQGAN", arXiv:2110.04627.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.errors import unknown_name
from jaxgen.quantize.checks import check_count, check_indices, check_range, check_vectors, gather, need_key
from jaxgen.quantize.codebook import AxisName, draw_vectors, kmeans, smoothed, totals
from jaxgen.quantize.estimators import estimator_named
from jaxgen.quantize.nearest import METRICS, nearest, unit
from jaxgen.quantize.types import QuantizeOutput, Quantizer, Variables

_USAGE_DECAY = 0.99


def vq(
    num_codes: int,
    *,
    commitment: float = 0.25,
    estimator: str = "straight_through",
    metric: str = "euclidean",
    ema_decay: float | None = None,
    kmeans_iterations: int = 0,
    revive_below: float = 0.0,
    block_size: int | None = None,
    axis_name: AxisName = None,
) -> Quantizer:
    """Vector quantization with a learned codebook of `num_codes` vectors.

    q = e_k, k = argmin_k |z - e_k|; losses as in the module's docstring: "commitment", and "codebook" without EMA.
    A code whose moving share of the vectors, times `num_codes`, falls below `revive_below` becomes a random vector
    of the current batch; that share is a probability, so that the batch's size plays no part.
    With k-means or revival a gradient codebook is `params["codebook"] + state["offset"]`: a revived code moves by
    its offset, and the optimizer's parameters stay the optimizer's.

    Args:
        num_codes: K.
        commitment: beta, the weight of the loss that draws vectors to their codes.
        estimator: "straight_through" or "rotation".
        metric: "euclidean", or "cosine": vectors and codes are scaled to unit length, and losses and output are those
            of the scaled ones.
        ema_decay: g in [0, 1), for example 0.99; `None` trains the codebook by gradient.
        kmeans_iterations: the first training batch sets the codebook by so many k-means iterations.
        revive_below: revive codes below this multiple of uniform use, for example 0.1; 0 revives none.
        block_size: codes per block, see `nearest`.
        axis_name: mapped axis or axes over which the batch is split, under `pmap` or `shard_map`. Under `jit` with
            sharded arrays it stays `None`.

    Returns:
        A `Quantizer`. `apply` with `train=True` needs a key for k-means and revival, the same on all devices.

    Raises:
        ValueError: an argument outside its range, or an unknown name.
    """
    check_count("num_codes", num_codes)
    check_count("kmeans_iterations", kmeans_iterations, smallest=0)
    check_range("commitment", commitment, 0)
    check_range("revive_below", revive_below, 0, 1)
    if ema_decay is not None:
        check_range("ema_decay", ema_decay, 0, 1)
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if block_size is not None:
        check_count("block_size", block_size)
    estimate = estimator_named(estimator)
    ema = ema_decay is not None
    scaled = unit if metric == "cosine" else lambda x: x

    def init(key: Array, dim: int) -> Variables:
        check_count("dim", dim)
        codebook = scaled(jax.random.normal(key, (num_codes, dim)) / jnp.sqrt(dim))
        state = {}
        if ema:
            state |= {"codebook": codebook, "counts": jnp.ones(num_codes), "sums": codebook}
        elif kmeans_iterations or revive_below:
            state["offset"] = jnp.zeros_like(codebook)
        if kmeans_iterations:
            state["initialized"] = jnp.zeros((), bool)
        if revive_below:
            state["usage"] = jnp.full(num_codes, 1 / num_codes, jnp.float32)
        return Variables({} if ema else {"codebook": codebook}, state)

    def codebook_of(params, state) -> Array:
        if ema:
            return state["codebook"]
        codebook = params["codebook"].astype(jnp.float32)
        return scaled(codebook + state["offset"] if "offset" in state else codebook)

    def placed(params, state, values: Array, where: Array, counts: Array) -> dict:
        """The state in which the codes `where` have the given values, with sums that agree with `counts`."""
        where = where[:, None]
        if not ema:
            offset = values - jax.lax.stop_gradient(params["codebook"].astype(jnp.float32))
            return state | {"offset": jnp.where(where, offset, state["offset"])}
        sums = jnp.where(where, values * smoothed(counts)[:, None], state["sums"])
        return state | {"codebook": jnp.where(where, values, state["codebook"]), "counts": counts, "sums": sums}

    def initialise(params, state, flat: Array, key: Array) -> dict:
        centres, counts = kmeans(
            key, flat, codebook_of(params, state),
            iterations=kmeans_iterations, metric=metric, block_size=block_size, axis_name=axis_name,
        )
        everywhere = jnp.ones(num_codes, bool)
        return placed(params, state, centres, everywhere, counts) | {"initialized": jnp.ones((), bool)}

    def revive(params, state, flat: Array, key: Array) -> dict:
        dead = state["usage"] * num_codes < revive_below

        def replace(state):
            vectors, served = draw_vectors(key, flat, dead, axis_name)
            counts = jnp.where(served, jnp.mean(state["counts"]), state["counts"]) if ema else None
            usage = jnp.where(served, 1 / num_codes, state["usage"])
            return placed(params, state, vectors, served, counts) | {"usage": usage}

        return jax.lax.cond(jnp.any(dead), replace, lambda state: state, state)

    def update(params, state, flat: Array, indices: Array, key: Array | None) -> dict:
        if not (ema or revive_below):
            return state
        hits, hit_sums = totals(flat, indices, num_codes, axis_name)
        if ema:
            counts = ema_decay * state["counts"] + (1 - ema_decay) * hits
            sums = ema_decay * state["sums"] + (1 - ema_decay) * hit_sums
            moved = scaled(sums / smoothed(counts)[:, None])
            codebook = jnp.where(hits[:, None] > 0, moved, state["codebook"])
            state = state | {"codebook": codebook, "counts": counts, "sums": sums}
        if revive_below:
            decay = ema_decay if ema else _USAGE_DECAY
            share = decay * state["usage"] + (1 - decay) * hits / jnp.sum(hits)
            state = revive(params, state | {"usage": share}, flat, key)
        return state

    def apply(variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None):
        params, state = variables
        check_vectors(z, codebook_of(params, state).shape[-1])
        z = scaled(z.astype(jnp.float32))
        flat = jax.lax.stop_gradient(z.reshape(-1, z.shape[-1]))
        init_key = revive_key = None
        if train and (kmeans_iterations or revive_below):
            init_key, revive_key = jax.random.split(need_key(key, "vq with k-means or revival"))
        if train and kmeans_iterations:
            state = jax.lax.cond(
                state["initialized"], lambda kept: kept, lambda kept: initialise(params, kept, flat, init_key), state
            )
        codebook = codebook_of(params, state)
        indices = nearest(z, codebook, block_size=block_size)
        q = gather(codebook, indices)
        losses = {"commitment": commitment * jnp.mean(jnp.square(z - jax.lax.stop_gradient(q)), axis=-1)}
        if not ema:
            losses["codebook"] = jnp.mean(jnp.square(jax.lax.stop_gradient(z) - q), axis=-1)
        if train:
            state = update(params, state, flat, indices.reshape(-1), revive_key)
        return QuantizeOutput(estimate(z, q), indices, losses), state

    def lookup(variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        check_indices(indices, num_codes)
        return gather(codebook_of(*variables), indices)

    return Quantizer(init, apply, lookup, num_codes)
