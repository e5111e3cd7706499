"""What loops need to run inside `jax.shard_map`."""

from typing import Any

import jax

PyTree = Any


def vary_as(tree: PyTree, *others: PyTree) -> PyTree:
    """The arrays of `tree`, typed as varying over every mapped axis over which an array of `others` varies.

    `shard_map` types what a loop starts from and what it ends in, and wants the same type: a start that all devices
    share (zeros, masks everywhere) must be said to vary where what is added to it does. Outside of it nothing changes.
    """
    axes = frozenset().union(*(_axes(a) for a in jax.tree.leaves(others) if hasattr(a, "dtype")))

    def vary(a):
        missing = tuple(sorted(axes - _axes(a)))
        return jax.lax.pcast(a, missing, to="varying") if missing else a

    return jax.tree.map(vary, tree)


def _axes(a) -> frozenset[str]:
    return jax.typeof(a).manual_axis_type.varying
