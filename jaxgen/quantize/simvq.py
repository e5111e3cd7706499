"""SimVQ: a frozen random codebook times one learned linear map, so that every code moves with every gradient.

    e_k = c_k W,   c frozen;   index = argmin_k |z - e_k|,   q = e_index
    losses (means over the D components):  codebook |sg(z) - e|^2 (into W),   commitment beta |z - sg(e)|^2

Reference: Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer",
arXiv:2411.02038.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count, check_range
from jaxgen.core.types import Variables
from jaxgen.quantize.checks import check_indices, gather
from jaxgen.quantize.estimators import ESTIMATORS, check_estimator
from jaxgen.quantize.nearest import nearest
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import prepared


def simvq(
    num_codes: int,
    *,
    commitment: float = 0.25,
    estimator: str = "straight_through",
    block_size: int | None = None,
) -> Quantizer:
    """Vector quantization whose codebook is a frozen one times a learned map.

    q = c_k W, k = argmin_k |z - c_k W|; `lookup` applies the map.

    Args:
        num_codes: K.
        commitment: beta, the weight of the loss that draws vectors to their codes.
        estimator: "straight_through" or "rotation".
        block_size: codes per block, see `nearest`.

    Returns:
        A `Quantizer` with params "map" `[D, D]`, the identity at first, and state "codebook" `[K, D]`, which never
        changes. Losses are "codebook" and "commitment".

    Raises:
        ValueError: an argument outside its range, or an unknown estimator.

    Reference: Zhu et al. 2024, arXiv:2411.02038.
    """
    num_codes = check_count("num_codes", num_codes)
    check_range("commitment", commitment, 0)
    if block_size is not None:
        block_size = check_count("block_size", block_size)
    check_estimator(estimator)
    settings = _SimVQ(num_codes=num_codes, commitment=commitment, estimator=estimator, block_size=block_size)
    return Quantizer(settings.init, settings.apply, settings.lookup, num_codes)


@dataclasses.dataclass(frozen=True)
class _SimVQ:
    """The functions of `simvq`, whose arguments are the fields."""

    num_codes: int
    commitment: float
    estimator: str
    block_size: int | None

    def init(self, key: Array, dim: int) -> Variables:
        dim = check_count("dim", dim)
        codebook = jax.random.normal(key, (self.num_codes, dim), jnp.float32) / dim**0.5
        return Variables({"map": jnp.eye(dim, dtype=jnp.float32)}, {"codebook": codebook})

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *,
        train: bool = False, key: Array | None = None, valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, dict]:
        vectors = prepared(z, variables.state["codebook"].shape[-1], valid)
        z, codebook = vectors.z, self.codebook(variables)
        indices = nearest(z, codebook, block_size=self.block_size)
        q = gather(codebook, indices)
        losses = {
            "commitment": self.commitment * jnp.mean(jnp.square(z - jax.lax.stop_gradient(q)), axis=-1),
            "codebook": jnp.mean(jnp.square(jax.lax.stop_gradient(z) - q), axis=-1),
        }
        return vectors.output(ESTIMATORS[self.estimator](z, q), indices, losses), variables.state

    def lookup(self, variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        check_indices(indices, self.num_codes)
        return gather(self.codebook(variables), indices)

    def codebook(self, variables: Variables) -> Float[Array, "K D"]:
        # All codes are mapped even for few indices: a code then has the same bits in every batch.
        frozen = jax.lax.stop_gradient(variables.state["codebook"].astype(jnp.float32))
        return jnp.dot(frozen, variables.params["map"].astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
