"""Finite scalar quantization: each component is rounded to a few levels; the codebook is their grid.

    half = (L - 1)(1 - 1e-3)/2;   offset = 1/2 if L is even else 0;   shift = tan(offset / half)
    bounded = tanh(z + shift) half - offset;   q = round(bounded) / (L // 2)
    index = sum_i (q_i (L_i // 2) + L_i // 2) basis_i,   basis = (1, L_1, L_1 L_2, ...)

Reference: Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple", arXiv:2309.15505.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count
from jaxgen.core.types import Variables
from jaxgen.quantize.checks import check_indices, check_vectors
from jaxgen.quantize.estimators import straight_through
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import along_last, prepared


def fsq(levels: Sequence[int]) -> Quantizer:
    """Finite scalar quantization; no parameters, no losses, no codebook to collapse.

    q = round(tanh(z + shift) half - offset) / (L // 2), with the gradient of the unrounded value.

    Args:
        levels: how many values each component takes, for example `[8, 5, 5, 5]` for 1,000 codes. The vectors must
            have `len(levels)` components: `projected(fsq(levels), len(levels))` maps others.

    Returns:
        A `Quantizer` of `prod(levels)` codes with components in [-1, 1].

    Raises:
        ValueError: no levels, a level below 2, more codes than int32 holds, or another `dim` than `len(levels)`.

    Reference: Mentzer et al. 2023, arXiv:2309.15505.

    Example:
        >>> import jax.numpy as jnp
        >>> quantizer = fsq([8, 5, 5, 5])
        >>> variables = quantizer.init(None, 4)
        >>> output, _ = quantizer.apply(variables, jnp.zeros((2, 3, 4)))
        >>> quantizer.num_codes, output.indices.shape, output.losses
        (1000, (2, 3), {})
    """
    settings = _FSQ(_checked(levels))
    return Quantizer(settings.init, settings.apply, settings.lookup, math.prod(settings.levels))


@dataclasses.dataclass(frozen=True)
class _FSQ:
    """The functions of `fsq`."""

    levels: tuple[int, ...]

    def init(self, key: Array, dim: int) -> Variables:
        if dim != len(self.levels):
            raise ValueError(
                f"dim={dim}, but fsq with levels {list(self.levels)} quantizes {len(self.levels)} components: "
                f"use projected(fsq(levels), {len(self.levels)})."
            )
        return Variables(params={}, state={})

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *,
        train: bool = False, key: Array | None = None, valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, dict]:
        vectors = prepared(z, len(self.levels), valid)
        sizes = np.asarray(self.levels)
        half = (sizes - 1) * (1 - 1e-3) / 2
        offset = np.where(sizes % 2 == 0, 0.5, 0.0)
        rows = half, offset, np.tan(offset / half), sizes // 2
        half, offset, shift, width = (along_last(np.float32(row), vectors.z) for row in rows)
        bounded = jnp.tanh(vectors.z + shift) * half - offset
        indices = _indices_of_digits(jnp.round(jax.lax.stop_gradient(bounded)) + width, self.levels)
        quantized = straight_through(bounded / width, _codes(indices, self.levels))
        return vectors.output(quantized, indices, {}), variables.state

    def lookup(self, variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices, num_codes = jnp.asarray(indices), math.prod(self.levels)
        check_indices(indices, num_codes)
        outside = (indices < 0) | (indices >= num_codes)
        return jnp.where(outside[..., None], jnp.nan, _codes(indices, self.levels))


def fsq_indices(codes: Float[Array, "... D"], levels: Sequence[int]) -> Int[Array, "..."]:
    """The indices of FSQ codes, the inverse of `lookup`.

    index = sum_i round(q_i (L_i // 2) + L_i // 2) basis_i. The rounding stands before the integer cast, because
    `q (L // 2)` falls just short of its integer for many L.

    Args:
        codes: `[..., len(levels)]`, values of the grid, in float32 or bfloat16.
        levels: the quantizer's levels.

    Returns:
        indices `[...]`, int32.

    Raises:
        ValueError: levels that `fsq` refuses, or codes with another number of components.

    Example:
        >>> quantizer = fsq([3, 3])
        >>> codes = quantizer.lookup(quantizer.init(None, 2), jnp.array([0, 4, 8]))
        >>> codes.tolist()
        [[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]
        >>> fsq_indices(codes, [3, 3]).tolist()
        [0, 4, 8]
    """
    levels = _checked(levels)
    check_vectors(codes, len(levels))
    width = along_last(np.float32(np.asarray(levels) // 2), codes)
    return _indices_of_digits(jnp.round(codes.astype(jnp.float32) * width + width), levels)


def _checked(levels: Sequence[int]) -> tuple[int, ...]:
    levels = tuple(check_count("each of levels", level, smallest=2) for level in levels)
    if not levels:
        raise ValueError("levels is empty: give the number of values of each component, for example [8, 5, 5, 5].")
    if math.prod(levels) > 2**31 - 1:
        raise ValueError(f"levels {list(levels)} make {math.prod(levels)} codes, more than an int32 index holds: "
                         "use fewer levels, or grouped(fsq(...), groups).")
    return levels


def _basis(levels: tuple[int, ...]) -> np.ndarray:
    return np.cumprod((1, *levels[:-1])).astype(np.int32)


def _indices_of_digits(digits: Array, levels: tuple[int, ...]) -> Array:
    return jnp.sum(digits.astype(jnp.int32) * along_last(_basis(levels), digits), axis=-1, dtype=jnp.int32)


def _codes(indices: Array, levels: tuple[int, ...]) -> Array:
    """Codes out of a table, because a division that the compiler rewrites does not always give the same bits."""
    table = np.zeros((len(levels), max(levels)), np.float32)
    for row, level in zip(table, levels, strict=True):
        row[:level] = (np.arange(level) - level // 2) / (level // 2)
    indices = indices[..., None].astype(jnp.int32)
    digits = indices // along_last(_basis(levels), indices) % along_last(np.asarray(levels, np.int32), indices)
    return jnp.asarray(table)[np.arange(len(levels)), digits]
