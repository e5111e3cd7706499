"""Quantization in another dimension: a linear map in, a quantizer, a linear map out.

    q = Q(z W_in + b_in) W_out + b_out

A low dimension keeps large codebooks in use ("factorised codes"). Reference: Yu et al. 2022, "Vector-quantized Image
Modeling with Improved VQGAN", arXiv:2110.04627.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count
from jaxgen.core.types import Variables
from jaxgen.quantize.apply import apply_quantizer
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import prepared


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

    Example:
        >>> from jaxgen.quantize import fsq
        >>> quantizer = projected(fsq([5, 5]), dim=2)
        >>> variables = quantizer.init(jax.random.key(0), 64)
        >>> output, _ = quantizer.apply(variables, jnp.ones((3, 64)))
        >>> output.quantized.shape, output.indices.shape, quantizer.num_codes
        ((3, 64), (3,), 25)
    """
    settings = _Projected(quantizer, check_count("dim", dim))
    return Quantizer(settings.init, settings.apply, settings.lookup, quantizer.num_codes)


@dataclasses.dataclass(frozen=True)
class _Projected:
    """The functions of `projected`, whose arguments are the fields."""

    quantizer: Quantizer
    dim: int

    def init(self, key: Array, dim: int) -> Variables:
        dim = check_count("dim", dim)
        in_key, out_key, inner_key = jax.random.split(key, 3)
        inner = self.quantizer.init(inner_key, self.dim)
        params = {
            "project_in": _dense_params(in_key, dim, self.dim),
            "project_out": _dense_params(out_key, self.dim, dim),
            "quantizer": inner.params,
        }
        return Variables(params, inner.state)

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *,
        train: bool = False, key: Array | None = None, valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, Any]:
        params, state = variables
        z, finite, _ = prepared(z, params["project_in"]["kernel"].shape[0], valid)
        # A NaN goes around the maps, not through: there it would meet all of their gradient, even where it is masked.
        low = _where(finite, _dense(params["project_in"], z), jnp.nan)
        inner = Variables(params["quantizer"], state)
        output, state = apply_quantizer(self.quantizer, inner, low, train=train, key=key, valid=valid)
        quantized = _dense(params["project_out"], _where(finite, output.quantized, 0))
        return output._replace(quantized=_where(finite, quantized, jnp.nan)), state

    def lookup(self, variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        params, state = variables
        return _dense(params["project_out"], self.quantizer.lookup(Variables(params["quantizer"], state), indices))


def _dense_params(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    kernel = jax.random.normal(key, (inputs, outputs), jnp.float32) / inputs**0.5
    return {"kernel": kernel, "bias": jnp.zeros(outputs, jnp.float32)}


def _dense(params: dict[str, Array], x: Float[Array, "... I"]) -> Float[Array, "... O"]:
    kernel, bias = params["kernel"].astype(jnp.float32), params["bias"].astype(jnp.float32)
    product = jnp.dot(x, kernel, precision=jax.lax.Precision.HIGHEST)
    return product + jnp.broadcast_to(bias, product.shape)


def _where(vectors: Bool[Array, "..."], x: Float[Array, "... D"], other: float) -> Float[Array, "... D"]:
    return jnp.where(vectors[..., None], x, other)
