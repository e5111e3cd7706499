"""Residual quantization: each level quantizes what the levels before it left over.

    r_1 = z,   q_i = Q_i(r_i),   r_{i+1} = r_i - q_i,   q = sum_i q_i
    losses: the mean over the levels; level i's commitment is beta |z - sg(q_1 + ... + q_i)|^2

The derivative of q is that of the composition, each level with its own estimator: with straight-through levels it is
the identity, whatever the depth. The losses see z less a constant, so that each level's commitment reaches z in full.
The two derivatives differ, hence the custom rule below.

Reference: Lee et al. 2022, "Autoregressive Image Generation using Residual Quantization", arXiv:2203.01941.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgen.checks import check_count
from jaxgen.quantize.checks import check_indices
from jaxgen.quantize.types import QuantizeOutput, Quantizer, Variables


def residual(quantizer: Quantizer, depth: int) -> Quantizer:
    """A quantizer applied `depth` times, each time to what is left; every level has its own variables.

    q = sum_i q_i, q_i = Q_i(z - sum_{j<i} q_j).

    Args:
        quantizer: of each level.
        depth: levels.

    Returns:
        A `Quantizer` whose indices have a last axis of `depth`, whose losses are means over the levels, and whose
        variables carry a leading axis of `depth`. `num_codes` is that of one level.

    Raises:
        ValueError: `depth` below 1, or indices without a last axis of `depth`.

    Reference: Lee et al. 2022, arXiv:2203.01941.
    """
    check_count("depth", depth)

    def init(key: Array, dim: int) -> Variables:
        return jax.vmap(lambda level_key: quantizer.init(level_key, dim))(jax.random.split(key, depth))

    def apply(variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None):
        level = _level(quantizer, train)
        z = z.astype(jnp.float32) if jnp.issubdtype(z.dtype, jnp.floating) else z
        keys = None if key is None else jax.random.split(key, depth)

        def step(total, variables_and_key):
            (params, state), level_key = variables_and_key
            left = z - jax.lax.stop_gradient(total)
            output, state = level(params, z - total, left, state, level_key)
            return total + output.quantized, (output.indices, output.losses, state)

        quantized, (indices, losses, state) = jax.lax.scan(step, jnp.zeros_like(z), (variables, keys))
        losses = jax.tree.map(lambda loss: jnp.mean(loss, axis=0), losses)
        return QuantizeOutput(quantized, jnp.moveaxis(indices, 0, -1), losses), state

    def lookup(variables: Variables, indices: Int[Array, "... depth"]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        if indices.ndim == 0 or indices.shape[-1] != depth:
            raise ValueError(f"indices has shape {indices.shape}, but a residual quantizer of depth {depth} needs "
                             f"[..., {depth}].")
        check_indices(indices, quantizer.num_codes)
        levels = (variables, jnp.moveaxis(indices, -1, 0))
        code = jax.eval_shape(lambda level: quantizer.lookup(*level), jax.tree.map(lambda x: x[0], levels))
        zero = jnp.zeros_like(indices, code.dtype, shape=code.shape)
        return jax.lax.scan(lambda total, level: (total + quantizer.lookup(*level), None), zero, levels)[0]

    return Quantizer(init, apply, lookup, quantizer.num_codes)


def _level(quantizer: Quantizer, train: bool) -> Callable:
    """`(params, z, left, state, key) -> (output, state)`; `z` and `left` are equal in value.

    The derivative of `output.quantized` is taken along `z`, that of `output.losses` along `left`.
    """

    @jax.custom_jvp
    def level(params, z, left, state, key):
        return quantizer.apply(Variables(params, state), z, train=train, key=key)

    @level.defjvp
    def level_jvp(primals, tangents):
        params, z, _, state, key = primals
        params_dot, z_dot, left_dot, _, _ = tangents

        def differentiable(params, z):
            output, new_state = quantizer.apply(Variables(params, state), z, train=train, key=key)
            return (output.quantized, output.losses), (output.indices, new_state)

        (quantized, losses), linear, (indices, new_state) = jax.linearize(differentiable, params, z, has_aux=True)
        output_dot = QuantizeOutput(linear(params_dot, z_dot)[0], _no_tangent(indices), linear(params_dot, left_dot)[1])
        output = QuantizeOutput(quantized, indices, losses)
        return (output, new_state), (output_dot, jax.tree.map(_no_tangent, new_state))

    return level


def _no_tangent(x: Array) -> Array | np.ndarray:
    return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(x.shape, jax.dtypes.float0)
