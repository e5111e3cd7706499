"""Checks of arguments, and the gather that never wraps or clips an index."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def check_vectors(z: Float[Array, "... D"], dim: int) -> None:
    """Raises ValueError unless `z` holds at least one floating-point vector of `dim` components."""
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"z must hold floating-point vectors, got dtype {z.dtype}: cast it first.")
    if z.ndim == 0 or z.shape[-1] != dim:
        raise ValueError(
            f"z has shape {z.shape}, but the quantizer was initialised for {dim} components in the last axis: "
            f"pass dim={z.shape[-1] if z.ndim else 1} to init, or wrap the quantizer in projected(quantizer, {dim})."
        )
    if z.size == 0:
        raise ValueError(f"z has shape {z.shape} and so holds no vectors: quantize at least one.")


def check_indices(indices: Int[Array, "..."], num_codes: int) -> None:
    """Raises ValueError unless `indices` are integers in `[0, num_codes)`; the values of traced ones pass."""
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(f"indices must be integers, got dtype {indices.dtype}.")
    if isinstance(indices, jax.core.Tracer) or indices.size == 0:
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= num_codes:
        raise ValueError(f"indices must lie within 0 .. {num_codes - 1}, the quantizer's codes, got "
                         f"{low if low < 0 else high}")


def need_key(key: Array | None, what: str) -> Array:
    """The key, or a ValueError that says what needs it."""
    if key is None:
        raise ValueError(f"key=None, but {what} draws random numbers with train=True: pass key=jax.random.key(...).")
    return key


def gather(codebook: Float[Array, "K D"], indices: Int[Array, "..."]) -> Float[Array, "... D"]:
    """The rows `codebook[indices]`; an index outside `[0, K)` gives NaN instead of wrapping or clipping."""
    inside = jnp.where(indices < 0, codebook.shape[0], indices)
    return jnp.asarray(codebook).at[inside].get(mode="fill", fill_value=jnp.nan)
