"""What every quantizer does with its vectors before and after: which of them are numbers, and which count.

A vector is finite if all its components are below 1e15 in size: no NaN, nothing infinite, nothing whose squares could
overflow when they are summed. One that is not is quantized to NaN and has NaN losses, so that it is seen; but it enters
no codebook and no statistic, which it would spoil for good. Nor does a vector that the caller masks with `valid`: it is
quantized, and its losses are 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgen.quantize.checks import check_vectors
from jaxgen.quantize.types import QuantizeOutput

_LARGEST = 1e15


class Vectors(NamedTuple):
    """Vectors to be quantized.

    Attributes:
        z: `[..., D]` float32, with zeros for the components that are not finite.
        finite: `[...]`, which are.
        valid: `[...]`, which the caller wants to count.
    """

    z: Float[Array, "... D"]
    finite: Bool[Array, "..."]
    valid: Bool[Array, "..."]

    @property
    def counted(self) -> Bool[Array, "..."]:
        """Which vectors enter the state and statistics over the batch."""
        return self.finite & self.valid

    def output(
        self, quantized: Float[Array, "... D"], indices: Int[Array, "..."], losses: dict[str, Float[Array, "..."]]
    ) -> QuantizeOutput:
        """The output, with NaN for what is not finite, and losses of 0 for what is not valid."""
        uncounted = jnp.where(self.valid, jnp.float32(jnp.nan), 0)
        return QuantizeOutput(
            jnp.where(self.finite[..., None], quantized, jnp.nan),
            jnp.where(self.finite, indices, 0),
            {name: jnp.where(self.counted, loss.astype(jnp.float32), uncounted) for name, loss in losses.items()},
        )


def prepared(z: Float[Array, "... D"], dim: int, valid: Bool[Array, "..."] | None) -> Vectors:
    """The vectors in float32, and which count; raises ValueError unless `z` and `valid` fit `dim` and each other."""
    z = jnp.asarray(z)
    check_vectors(z, dim)
    z = z.astype(jnp.float32)
    finite = is_finite(z)
    # By component: as a select by vector, which XLA recomputes wherever z is read, it took twice the time of `lfq`.
    z = jnp.where(jnp.abs(z) < _LARGEST, z, 0)
    return Vectors(z, finite, jnp.ones_like(finite) if valid is None else checked_mask(valid, finite.shape))


def is_finite(z: Float[Array, "... D"]) -> Bool[Array, "..."]:
    """Which vectors have only components that are numbers below 1e15 in size."""
    return jnp.all(jnp.abs(z) < _LARGEST, axis=-1)


def checked_mask(valid: Array, shape: tuple[int, ...]) -> Array:
    """The mask `valid`; raises ValueError unless it is boolean and has this shape, that of the vectors."""
    valid = jnp.asarray(valid)
    if valid.dtype != bool or valid.shape != shape:
        raise ValueError(f"valid has shape {valid.shape} and dtype {valid.dtype}, but must be a boolean mask of the "
                         f"vectors, of shape {shape}: for example jnp.arange(length) < lengths[:, None].")
    return valid


def along_last(row: np.ndarray, x: Array) -> np.ndarray:
    """`row [D]` with as many axes as `x [..., D]`, where `jax_numpy_rank_promotion` forbids to leave that to NumPy."""
    return row.reshape((1,) * (x.ndim - 1) + row.shape)
