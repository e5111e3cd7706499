"""Exponential moving average of weights with a warm-up, so that the first weights are soon forgotten."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

PyTree = Any


def ema_rate(decay: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """min(decay, (1 + step) / (10 + step)), the decay in force at a step.

    It is 0.1 at step 0 and reaches `decay` at step (10 decay - 1) / (1 - decay): an average that starts as the
    initial weights is rid of them long before a fixed decay would be, so no division by 1 - decay^n is needed.

    Args:
        decay: the final decay, in [0, 1].
        step: updates done before this one.

    Returns:
        float32 [].
    """
    step = jnp.asarray(step, jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1 + step) / (10 + step))


def update_ema(ema_params: PyTree, params: PyTree, decay: float, step: Int[Array, ""]) -> PyTree:
    """ema <- d ema + (1 - d) params, with d = ema_rate(decay, step).

    Args:
        ema_params: the average so far.
        params: the parameters after the update, the same tree.
        decay: the final decay, in [0, 1].
        step: updates done before this one.

    Returns:
        The new average, in the dtypes of `ema_params`; integer leaves are copied from `params`.
    """
    d = ema_rate(decay, step)

    def update(average, new):
        if not jnp.issubdtype(average.dtype, jnp.inexact):
            return new
        return (d * average.astype(jnp.float32) + (1 - d) * new.astype(jnp.float32)).astype(average.dtype)

    return jax.tree.map(update, ema_params, params)
