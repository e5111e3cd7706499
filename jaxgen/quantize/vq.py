"""Vector quantization with a learned codebook.

    index = argmin_k |z - e_k|,   q = e_index
    losses (means over the D components):  codebook |sg(z) - e|^2,   commitment beta |z - sg(e)|^2

The codebook follows the gradient of the codebook loss or, with `ema_decay`, moving averages of the vectors that chose
each code (see `jaxgen.quantize.codebook`).

Reference: van den Oord et al. 2017, "Neural Discrete Representation Learning", arXiv:1711.00937; cosine metric:
Yu et al. 2022, "Vector-quantized Image Modeling with Improved VQGAN", arXiv:2110.04627.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count, check_range
from jaxgen.core.errors import unknown_name
from jaxgen.core.mapped import agreed, change_if
from jaxgen.core.types import AxisName, Variables
from jaxgen.quantize.checks import check_indices, gather, need_key
from jaxgen.quantize.codebook import Batch, draw_vectors, kmeans, smoothed
from jaxgen.quantize.estimators import ESTIMATORS, check_estimator
from jaxgen.quantize.nearest import METRICS, nearest, unit
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import prepared

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
        ValueError: an argument outside its range, an unknown name, or in `apply` an `axis_name` that is not mapped.
    """
    num_codes = check_count("num_codes", num_codes)
    kmeans_iterations = check_count("kmeans_iterations", kmeans_iterations, smallest=0)
    check_range("commitment", commitment, 0)
    check_range("revive_below", revive_below, 0, 1)
    if ema_decay is not None:
        check_range("ema_decay", ema_decay, 0, 1)
    check_estimator(estimator)
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if block_size is not None:
        block_size = check_count("block_size", block_size)
    settings = _VQ(
        num_codes=num_codes, commitment=commitment, estimator=estimator, metric=metric, ema_decay=ema_decay,
        kmeans_iterations=kmeans_iterations, revive_below=revive_below, block_size=block_size, axis_name=axis_name,
    )
    return Quantizer(settings.init, settings.apply, settings.lookup, num_codes)


@dataclasses.dataclass(frozen=True)
class _VQ:
    """The functions of `vq`, whose arguments are the fields."""

    num_codes: int
    commitment: float
    estimator: str
    metric: str
    ema_decay: float | None
    kmeans_iterations: int
    revive_below: float
    block_size: int | None
    axis_name: AxisName

    @property
    def ema(self) -> bool:
        return self.ema_decay is not None

    def init(self, key: Array, dim: int) -> Variables:
        dim = check_count("dim", dim)
        codebook = self.scaled(jax.random.normal(key, (self.num_codes, dim), jnp.float32) / dim**0.5)
        state = {}
        if self.ema:
            # A copy, since a buffer that stands twice cannot be donated.
            counts = jnp.ones(self.num_codes, jnp.float32)
            state |= {"codebook": codebook, "counts": counts, "sums": jnp.copy(codebook)}
        elif self.kmeans_iterations or self.revive_below:
            state["offset"] = jnp.zeros_like(codebook)
        if self.kmeans_iterations:
            state["initialized"] = jnp.zeros((), bool)
        if self.revive_below:
            state["usage"] = jnp.full(self.num_codes, 1 / self.num_codes, jnp.float32)
        return Variables({} if self.ema else {"codebook": codebook}, state)

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *,
        train: bool = False, key: Array | None = None, valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, dict]:
        params, state = variables
        vectors = prepared(z, (state if self.ema else params)["codebook"].shape[-1], valid)
        z = self.scaled(vectors.z)
        flat = jax.lax.stop_gradient(z.reshape(-1, z.shape[-1]))
        batch = Batch(flat, vectors.counted.reshape(-1), self.axis_name)
        fixed = jax.lax.stop_gradient(params)
        init_key = revive_key = None
        if train and (self.kmeans_iterations or self.revive_below):
            init_key, revive_key = jax.random.split(need_key(key, "vq with k-means or revival"))
        if train and self.kmeans_iterations:
            state = change_if(
                ~state["initialized"] & (batch.size() > 0),
                lambda state: self.initialised(fixed, state, batch, init_key), state,
            )
        codebook = self.codebook(params, state)
        indices = nearest(z, codebook, block_size=self.block_size)
        q = gather(codebook, indices)
        losses = {"commitment": self.commitment * jnp.mean(jnp.square(z - jax.lax.stop_gradient(q)), axis=-1)}
        if not self.ema:
            losses["codebook"] = jnp.mean(jnp.square(jax.lax.stop_gradient(z) - q), axis=-1)
        if train and (self.ema or self.revive_below):
            state = self.updated(fixed, state, batch, indices.reshape(-1), revive_key)
        return vectors.output(ESTIMATORS[self.estimator](z, q), indices, losses), state

    def lookup(self, variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        check_indices(indices, self.num_codes)
        return gather(self.codebook(*variables), indices)

    def scaled(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return unit(x) if self.metric == "cosine" else x

    def codebook(self, params: dict, state: dict) -> Float[Array, "K D"]:
        if self.ema:
            return state["codebook"].astype(jnp.float32)
        codebook = params["codebook"].astype(jnp.float32)
        return self.scaled(codebook + state["offset"].astype(jnp.float32) if "offset" in state else codebook)

    def placed(self, params: dict, state: dict, values: Array, where: Array, counts: Array | None) -> dict:
        """The state in which the codes `where` have the given values, with sums that agree with `counts`."""
        where = where[:, None]
        if not self.ema:
            offset = values - agreed(params["codebook"].astype(jnp.float32), self.axis_name)
            return state | {"offset": jnp.where(where, offset, state["offset"])}
        sums = jnp.where(where, values * smoothed(counts)[:, None], state["sums"])
        return state | {"codebook": jnp.where(where, values, state["codebook"]), "counts": counts, "sums": sums}

    def initialised(self, params: dict, state: dict, batch: Batch, key: Array) -> dict:
        """The state in which k-means has set the codebook."""
        centres, counts = kmeans(
            key, batch, agreed(self.codebook(params, state), self.axis_name),
            iterations=self.kmeans_iterations, metric=self.metric, block_size=self.block_size,
        )
        everywhere = jnp.ones(self.num_codes, bool)
        return self.placed(params, state, centres, everywhere, counts) | {"initialized": jnp.ones((), bool)}

    def updated(self, params: dict, state: dict, batch: Batch, indices: Int[Array, "n"], key: Array | None) -> dict:
        """The state after a batch: moving averages, and codes that were revived. An empty batch changes nothing."""
        hits, hit_sums = batch.totals(indices, self.num_codes)
        total = jnp.sum(hits)
        before = state

        def average(old: Array, new: Array) -> Array:
            decay = self.ema_decay if self.ema else _USAGE_DECAY
            return jnp.where(total > 0, decay * old + (1 - decay) * new, old)

        if self.ema:
            counts, sums = average(state["counts"], hits), average(state["sums"], hit_sums)
            moved = self.scaled(sums / smoothed(counts)[:, None])
            codebook = jnp.where(hits[:, None] > 0, moved, state["codebook"])
            state = state | {"codebook": codebook, "counts": counts, "sums": sums}
        if self.revive_below:
            state = state | {"usage": average(state["usage"], hits / jnp.maximum(total, 1))}
        state = jax.tree.map(lambda new, old: new.astype(old.dtype), state, before)
        return self.revived(params, state, batch, key) if self.revive_below else state

    def revived(self, params: dict, state: dict, batch: Batch, key: Array) -> dict:
        """The state in which codes that are used too little have become vectors of the batch."""
        dead = state["usage"] * self.num_codes < self.revive_below

        def replaced(state: dict) -> dict:
            vectors, served = draw_vectors(key, batch, dead)
            counts = jnp.where(served, jnp.mean(state["counts"]), state["counts"]) if self.ema else None
            usage = jnp.where(served, 1 / self.num_codes, state["usage"])
            return self.placed(params, state, vectors, served, counts) | {"usage": usage}

        return change_if(jnp.any(dead), replaced, state)
