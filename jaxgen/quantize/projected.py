"""Quantization in another dimension: a linear map in, a quantizer, a linear map out.

    q = Q(z W_in + b_in) W_out + b_out

A low dimension keeps large codebooks in use ("factorised codes"). Reference: Yu et al. 2022, "Vector-quantized Image
Modeling with Improved VQGAN", arXiv:2110.04627.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.checks import check_count
from jaxgen.quantize.checks import check_vectors
from jaxgen.quantize.types import QuantizeOutput, Quantizer, Variables


def projected(quantizer: Quantizer, dim: int) -> Quantizer:
    """A quantizer that works in `dim` dimensions on vectors of any other number of components.

    q = Q(z W_in + b_in) W_out + b_out; losses are those of the inner quantizer, in its space.

    Args:
        quantizer: of the projected vectors.
        dim: their number of components.

    Returns:
        A `Quantizer` with params "project_in", "project_out" ("kernel", "bias" each) and "quantizer".

    Raises:
        ValueError: `dim` below 1, or what the inner quantizer refuses.

    Reference: Yu et al. 2022, arXiv:2110.04627.
    """
    check_count("dim", dim)
    inner_dim = dim

    def init(key: Array, dim: int) -> Variables:
        check_count("dim", dim)
        in_key, out_key, inner_key = jax.random.split(key, 3)
        inner = quantizer.init(inner_key, inner_dim)
        params = {
            "project_in": _dense_params(in_key, dim, inner_dim),
            "project_out": _dense_params(out_key, inner_dim, dim),
            "quantizer": inner.params,
        }
        return Variables(params, inner.state)

    def apply(variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None):
        params, state = variables
        check_vectors(z, params["project_in"]["kernel"].shape[0])
        low = _dense(params["project_in"], z.astype(jnp.float32))
        output, state = quantizer.apply(Variables(params["quantizer"], state), low, train=train, key=key)
        return QuantizeOutput(_dense(params["project_out"], output.quantized), output.indices, output.losses), state

    def lookup(variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        params, state = variables
        return _dense(params["project_out"], quantizer.lookup(Variables(params["quantizer"], state), indices))

    return Quantizer(init, apply, lookup, quantizer.num_codes)


def _dense_params(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    return {"kernel": jax.random.normal(key, (inputs, outputs)) / jnp.sqrt(inputs), "bias": jnp.zeros(outputs)}


def _dense(params: dict[str, Array], x: Float[Array, "... I"]) -> Float[Array, "... O"]:
    kernel, bias = params["kernel"].astype(jnp.float32), params["bias"].astype(jnp.float32)
    return jnp.dot(x, kernel, precision=jax.lax.Precision.HIGHEST) + bias
