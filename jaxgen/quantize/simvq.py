"""SimVQ: a frozen random codebook times one learned linear map, so that every code moves with every gradient.

    e_k = c_k W,   c frozen;   index = argmin_k |z - e_k|,   q = e_index
    losses (means over the D components):  codebook |sg(z) - e|^2 (into W),   commitment beta |z - sg(e)|^2

Reference: Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer",
arXiv:2411.02038.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.quantize.checks import check_count, check_indices, check_range, check_vectors, gather
from jaxgen.quantize.estimators import estimator_named
from jaxgen.quantize.nearest import nearest
from jaxgen.quantize.types import QuantizeOutput, Quantizer, Variables


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
    check_count("num_codes", num_codes)
    check_range("commitment", commitment, 0)
    if block_size is not None:
        check_count("block_size", block_size)
    estimate = estimator_named(estimator)

    def init(key: Array, dim: int) -> Variables:
        check_count("dim", dim)
        codebook = jax.random.normal(key, (num_codes, dim)) / jnp.sqrt(dim)
        return Variables({"map": jnp.eye(dim)}, {"codebook": codebook})

    def codebook_of(variables: Variables) -> Array:
        # All codes are mapped even for few indices: a code then has the same bits in every batch.
        frozen = jax.lax.stop_gradient(variables.state["codebook"])
        return jnp.dot(frozen, variables.params["map"].astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)

    def apply(variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None):
        check_vectors(z, variables.state["codebook"].shape[-1])
        z = z.astype(jnp.float32)
        codebook = codebook_of(variables)
        indices = nearest(z, codebook, block_size=block_size)
        q = gather(codebook, indices)
        losses = {
            "commitment": commitment * jnp.mean(jnp.square(z - jax.lax.stop_gradient(q)), axis=-1),
            "codebook": jnp.mean(jnp.square(jax.lax.stop_gradient(z) - q), axis=-1),
        }
        return QuantizeOutput(estimate(z, q), indices, losses), variables.state

    def lookup(variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        check_indices(indices, num_codes)
        return gather(codebook_of(variables), indices)

    return Quantizer(init, apply, lookup, num_codes)
