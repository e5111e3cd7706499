"""Random keys: one for each example by its place or id, whatever the batch and the devices."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxgen.core.checks import check_integers, check_key
from jaxgen.core.mapped import first_position, psum
from jaxgen.core.types import AxisName

START_STEP = (1 << 31) - 1
"""The step number of the initial noise, which no step of a loop has: its draws never coincide with theirs."""


def numbered(sample_ids, batch: int) -> Array:
    """The samples' ids [B], 0 .. B - 1 for None; refuses another number of them, and fractions."""
    if sample_ids is None:
        return jax.numpy.arange(batch)
    check_integers("sample_ids", sample_ids)
    if np.shape(sample_ids) != (batch,):
        raise ValueError(f"sample_ids must name each of the {batch} samples, shape ({batch},); got "
                         f"{np.shape(sample_ids)}")
    return jax.numpy.asarray(sample_ids)


def sample_keys(key: Array, sample_ids, batch: int) -> Array:
    """[B] the key of each sample, fold_in(key, its id), which neither the batch nor the devices change."""
    check_key(key)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(numbered(sample_ids, batch))


def global_positions(count: int, axis_name: AxisName) -> tuple[Int[Array, "B"], int]:
    """([B] the places of this device's examples in the global batch, its size).

    Draws that depend on a key and on these places are the same for one device and for many.

    Args:
        count: examples on this device.
        axis_name: the mapped axis of devices; None where the batch is one array.
    """
    return first_position(count, axis_name) + jnp.arange(count), count * psum(1, axis_name)
