"""A mask of an example where a model works on latents or tokens: what of them may be known. True keeps."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def hide(x: Float[Array, "B ..."], keep: Bool[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Examples [B, ..., C] with the median of what is kept in place of the rest; `keep` is [B, ..., 1].

    Tokens and latents of the whole example would know what is to be filled in. Examples without channels, such as text
    [B, L] with `keep` [B, L, 1], may be whole numbers: 0 takes the place of the rest of them.

    Example:
        >>> hide(jnp.array([[[1.0], [2.0], [9.0]]]), jnp.array([[[True], [True], [False]]])).ravel().tolist()
        [1.0, 2.0, 1.5]
    """
    if keep.ndim > x.ndim:
        return hide(x[..., None], keep)[..., 0]
    if jnp.issubdtype(x.dtype, jnp.integer):
        return jnp.where(keep, x, 0)
    axes = tuple(range(1, x.ndim - 1))
    background = jnp.nanmedian(jnp.where(keep, x, jnp.nan), axis=axes, keepdims=True)
    return jnp.where(keep, x, jnp.nan_to_num(background))


def kept_positions(keep: Bool[Array, "B ..."], shape: Sequence[int]) -> Bool[Array, "B ..."]:
    """[B, h, w] True at the positions, of latents or tokens (h, w, ...), of which everything is kept.

    Example:
        >>> import numpy as np
        >>> keep = np.ones((1, 4, 4, 1), bool)
        >>> keep[0, 3, 0] = False
        >>> kept_positions(keep, (2, 2)).astype(int).tolist()
        [[[1, 1], [0, 1]]]

    Raises:
        ValueError: a side of `keep` is no multiple of the positions along it.
    """
    count, *sizes, _ = keep.shape
    if any(size % number for size, number in zip(sizes, shape)):
        raise ValueError(f"keep of {'x'.join(map(str, sizes))} does not divide into "
                         f"{'x'.join(map(str, shape[:len(sizes)]))} positions: give a mask of the examples' size")
    split = [part for size, number in zip(sizes, shape) for part in (number, size // number)]
    return keep.reshape(count, *split).all(axis=tuple(range(2, 2 * len(sizes) + 1, 2)))


def block(example_shape: Sequence[int], shape: Sequence[int]) -> str:
    """What of an example one position stands for, in words: "4x4"."""
    return "x".join(str(size // number) for size, number in zip(example_shape[:-1], shape))


def check_keeps(keep: jax.Array, shape: Sequence[int], example_shape: Sequence[int]) -> None:
    """Raises ValueError for a mask that is not boolean, and where no position is kept whole."""
    if keep.dtype != bool:
        raise ValueError(f"keep must be boolean, True where x stays, got dtype {keep.dtype}: compare it with a "
                         "threshold")
    if tuple(shape[: len(example_shape) - 1]) != tuple(example_shape[:-1]) and not kept_positions(keep, shape).any():
        raise ValueError(f"the mask keeps no whole block of {block(example_shape, shape)} pixels, which one position "
                         "of this model stands for: nothing would be kept")
