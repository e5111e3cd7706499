"""Sums and positions over the mapped axes of `pmap` and `shard_map`, and types that agree under `shard_map`."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxgen.core.types import AxisName, PyTree


def device_sharding(devices: Sequence[jax.Device]) -> NamedSharding:
    """How arrays [devices, ...] lie that `jax.pmap` takes as they are: one entry of the first axis to a device."""
    return NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec("devices"))


def is_divided(array: Any) -> bool:
    """Whether the array lies as `device_sharding` says, on whatever devices."""
    sharding = getattr(array, "sharding", None)
    return isinstance(sharding, NamedSharding) and sharding.mesh.axis_names == ("devices",)


def check_axis(axis_name: AxisName) -> None:
    """Raises ValueError if `axis_name` is not None and no enclosing `pmap` or `shard_map` has that axis."""
    if axis_name is None:
        return
    try:
        jax.lax.axis_size(axis_name)
    except NameError as error:
        raise ValueError(
            f"axis_name={axis_name!r}, but nothing is mapped over it here: call this under jax.pmap(..., axis_name=...)"
            " or jax.shard_map with that axis, or use axis_name=None, which under jit serves sharded arrays too"
        ) from error


def psum(x: Array, axis_name: AxisName) -> Array:
    """The sum over the mapped axes; `x` itself without any. Raises ValueError for an axis that is not mapped."""
    check_axis(axis_name)
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def first_position(count: int, axis_name: AxisName) -> Array | int:
    """Where this device's `count` vectors begin in the global batch, if every device has as many."""
    check_axis(axis_name)
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * count


def sum_before(x: Array, axis_name: AxisName) -> Array | int:
    """The sum of `x []` over the devices before this one."""
    if axis_name is None:
        return 0
    devices, number = jnp.arange(jax.lax.axis_size(axis_name)), jax.lax.axis_index(axis_name)
    each = psum(jnp.where(devices == number, x, 0), axis_name)
    return jnp.sum(jnp.where(devices < number, each, 0))


def varying_axes(*trees: PyTree) -> frozenset[Hashable]:
    """The mesh axes over which an array of the trees varies inside `shard_map`; none outside of it."""
    # Traced arrays are a jax.Array too; nothing else varies, and not all of it (text, say) has a type of JAX's.
    leaves = (leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)))
    return frozenset().union(*(jax.typeof(leaf).mat.varying for leaf in leaves))


def vary(tree: PyTree, axes: frozenset[Hashable]) -> PyTree:
    """The arrays of `tree`, marked inside `shard_map` as varying over these mesh axes as well."""

    def mark(leaf):
        new = tuple(sorted(axes - varying_axes(leaf), key=str))
        return jax.lax.pcast(leaf, new, to="varying") if new else leaf

    return jax.tree.map(mark, tree)


def vary_like(tree: PyTree, *others: PyTree) -> PyTree:
    """The arrays of `tree`, marked as varying over every mesh axis over which an array of `others` varies.

    `shard_map` types what a loop starts from and what it ends in, and wants the same type: a start that all devices
    share (zeros, masks everywhere) must be said to vary where what is added to it does. Outside of it nothing changes.
    """
    return vary(tree, varying_axes(others))


def types_after(change: Callable[[Any], Any], tree: PyTree) -> PyTree:
    """The types of `change(tree)`, for the mesh axes that they name.

    Only types inside `shard_map` (and `pmap`) name any. Elsewhere `tree` itself says as much, and nothing is traced.
    """
    return jax.eval_shape(change, tree) if jax.sharding.get_abstract_mesh().manual_axes else tree


def agreed(x: Array, axis_name: AxisName) -> Array:
    """`x`, which is the same on every device though it may be marked as varying over `axis_name`, without the mark."""
    names = (axis_name,) if isinstance(axis_name, str) else axis_name or ()
    axes = tuple(name for name in names if name in varying_axes(x))
    return jax.lax.pmax(x, axes) if axes else x


def change_if(condition: Array, change: Callable[[Any], Any], state: Any) -> Any:
    """`change(state)` where the condition holds, else `state`: a `cond` whose branches have the types of `state`.

    Under `shard_map` both branches must say over which axes they vary as well.
    """
    axes = varying_axes(types_after(change, state), state)

    def changed(state):
        return vary(jax.tree.map(lambda new, old: new.astype(old.dtype), change(state), state), axes)

    return jax.lax.cond(condition, changed, lambda state: state, vary(state, axes))
