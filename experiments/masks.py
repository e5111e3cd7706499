"""A mask of pixels where a model works on codes or latents: what of them may be known."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def hide(pictures: jax.Array, mask: jax.Array) -> jax.Array:
    """Pictures [B, H, W, C] with the median of the kept pixels in place of the others; `mask` [B, H, W, 1] keeps.

    Codes and latents of the whole picture would know what is to be painted anew.
    """
    background = jnp.nanmedian(jnp.where(mask, pictures, jnp.nan), axis=(1, 2), keepdims=True)
    return jnp.where(mask, pictures, jnp.nan_to_num(background))


def kept_positions(mask: jax.Array, shape: Sequence[int]) -> jax.Array:
    """[B, h, w] True at the positions of codes or latents, shape (h, w, ...), of which all pixels are kept."""
    count, height, width, _ = mask.shape
    cells = mask.reshape(count, shape[0], height // shape[0], shape[1], width // shape[1])
    return cells.all(axis=(2, 4))
