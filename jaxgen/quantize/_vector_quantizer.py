"""The quantizer of any `Codebook`: nearest code, losses, estimator. `vq` and `simvq` are its makers."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count, check_range, choose
from jaxgen.core.types import AxisName, Variables
from jaxgen.quantize.batch import Batch
from jaxgen.quantize.checks import check_indices, gather, need_key
from jaxgen.quantize.codebook import Codebook, dim_of
from jaxgen.quantize.estimators import ESTIMATORS
from jaxgen.quantize.nearest import nearest, scaled
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import prepared


def vector_quantizer(
    codebook: Codebook, *, commitment: float, estimator: str, metric: str, block_size: int | None, axis_name: AxisName
) -> Quantizer:
    """The quantizer to the nearest code of a codebook.

    q = e_k, k = argmin_k |z - e_k|, or of |z - e_k|^2 + cost_k where the codebook's codes have a cost; losses
    "commitment" |z - sg(e)|^2 and, if the codes have a gradient, "codebook".
    The arguments are those of `vq`.
    """
    check_range("commitment", commitment, 0)
    choose("estimator", estimator, ESTIMATORS)
    settings = _VectorQuantizer(codebook, commitment, estimator, metric, block_size, axis_name)
    return Quantizer(settings.init, settings.apply, settings.lookup, codebook.num_codes)


@dataclasses.dataclass(frozen=True)
class _VectorQuantizer:
    """The functions of `vector_quantizer`, whose arguments are the fields."""

    codebook: Codebook
    commitment: float
    estimator: str
    metric: str
    block_size: int | None
    axis_name: AxisName

    def init(self, key: Array, dim: int) -> Variables:
        return self.codebook.init(key, check_count("dim", dim))

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *,
        train: bool = False, key: Array | None = None, valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, dict]:
        params, state = variables
        vectors = prepared(z, dim_of(variables), valid)
        z = scaled(vectors.z, self.metric)
        flat = jax.lax.stop_gradient(z.reshape(-1, z.shape[-1]))
        batch = Batch(flat, vectors.counted.reshape(-1), self.axis_name)
        fixed = jax.lax.stop_gradient(params)
        first_key = last_key = None
        if train and self.codebook.draws:
            first_key, last_key = jax.random.split(need_key(key, "vq with k-means or revival"))
        if train:
            state = self.codebook.prepare(fixed, state, batch, first_key)
        codes = self.codebook.read(params, state)
        indices = nearest(z, codes, cost=self.codebook.cost(state), block_size=self.block_size)
        q = gather(codes, indices)
        losses = {"commitment": self.commitment * jnp.mean(jnp.square(z - jax.lax.stop_gradient(q)), axis=-1)}
        if self.codebook.has_gradient:
            losses["codebook"] = jnp.mean(jnp.square(jax.lax.stop_gradient(z) - q), axis=-1)
        if train and self.codebook.learns:
            chosen = batch.totals(indices.reshape(-1), self.codebook.num_codes)
            state = self.codebook.update(fixed, state, batch, chosen, last_key)
        return vectors.output(ESTIMATORS[self.estimator](z, q), indices, losses), state

    def lookup(self, variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        check_indices(indices, self.codebook.num_codes)
        return gather(self.codebook.read(*variables), indices)
