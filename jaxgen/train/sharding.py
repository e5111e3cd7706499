"""Where arrays live: a mesh of devices with the axes ("data", "fsdp") and the rules that place a state on it.

With several processes a mesh spans the devices of all of them. An array on it is made by every process at the same
time, each of which fills its own devices; what is asked of several processes here must be called by each of them.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgen.train.state import Adversary, TrainState

PyTree = Any
AXES = ("data", "fsdp")


def make_mesh(data: int | None = None, fsdp: int = 1, *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of data x fsdp devices.

    Args:
        data: devices along "data", which hold copies of the parameters; None for all that are left.
        fsdp: devices along "fsdp", which share the parameters between them.
        devices: None for all; the first data x fsdp of them are used.

    Returns:
        A mesh with the axes ("data", "fsdp").

    Raises:
        ValueError: there are too few devices, or they cannot be divided.
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or (data is not None and data < 1):
        raise ValueError(f"data={data} and fsdp={fsdp} must be at least 1")
    if data is None:
        if len(devices) % fsdp:
            raise ValueError(f"fsdp={fsdp} does not divide the {len(devices)} devices: give data= or another fsdp=")
        data = len(devices) // fsdp
    if data * fsdp > len(devices):
        raise ValueError(f"data={data} x fsdp={fsdp} needs {data * fsdp} devices, but there are {len(devices)}")
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices[: data * fsdp])


def fsdp_sharding(tree: PyTree, mesh: Mesh, *, min_size: int = 2**16) -> PyTree:
    """For each array, its longest dimension that the "fsdp" axis divides is shared over that axis.

    Args:
        tree: arrays, or anything with a shape.
        mesh: of `make_mesh`.
        min_size: arrays with fewer elements are copied to all devices; sharing them costs more than it saves.

    Returns:
        The tree of `NamedSharding`.
    """
    parts = mesh.shape["fsdp"]

    def rule(leaf):
        shape = np.shape(leaf)
        dims = [d for d in range(len(shape)) if shape[d] % parts == 0 and shape[d] > 0]
        if parts == 1 or math.prod(shape) < min_size or not dims:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(dims, key=lambda d: shape[d])
        return NamedSharding(mesh, PartitionSpec(*([None] * longest), "fsdp"))

    return jax.tree.map(rule, tree)


def state_sharding(state: TrainState, mesh: Mesh, *, min_size: int = 2**16) -> TrainState:
    """Parameters, their average and the optimizers' states by `fsdp_sharding`; all else on every device."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def copied(tree):
        return jax.tree.map(lambda _: everywhere, tree)

    def shared(tree):
        return fsdp_sharding(tree, mesh, min_size=min_size)

    adversary = state.adversary
    if adversary is not None:
        adversary = Adversary(shared(adversary.params), shared(adversary.opt_state), copied(adversary.state))
    return TrainState(
        step=everywhere, params=shared(state.params), opt_state=shared(state.opt_state),
        model_state=copied(state.model_state), ema_params=shared(state.ema_params), adversary=adversary,
    )


def shard_state(state: TrainState, mesh: Mesh, *, min_size: int = 2**16) -> TrainState:
    """The state placed on the mesh by `state_sharding`; see `place`."""
    return place(state, state_sharding(state, mesh, min_size=min_size))


def place(tree: PyTree, targets: PyTree) -> PyTree:
    """The arrays where their shardings say, also on devices of other processes.

    Args:
        tree: NumPy arrays, arrays on devices of this process, which each process has whole, or global arrays.
        targets: a tree of `NamedSharding` over one set of devices.

    Raises:
        ValueError: an array that each process has whole is not the same in all of them.
    """
    if all(target.is_fully_addressable for target in jax.tree.leaves(targets)):
        return jax.device_put(tree, targets)
    check_same(tree)

    def put(leaf, target):
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return jax.device_put(leaf, target)
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, target, lambda index: value[index])

    return jax.tree.map(put, tree, targets)


def gather(tree: PyTree) -> PyTree:
    """The arrays whole on devices of this process, whatever processes they are shared between.

    Args:
        tree: arrays; what lies on this process's devices already is left alone.
    """
    leaves, structure = jax.tree.flatten(tree)
    shared = [i for i, leaf in enumerate(leaves) if not (_is_local(leaf) or leaf.is_fully_replicated)]
    if shared:
        everywhere = NamedSharding(leaves[shared[0]].sharding.mesh, PartitionSpec())
        copies = jax.jit(_identity, out_shardings=everywhere)([leaves[i] for i in shared])
        leaves = [*leaves]
        for i, copy in zip(shared, copies, strict=True):
            leaves[i] = copy
    return structure.unflatten(leaf if _is_local(leaf) else leaf.addressable_data(0) for leaf in leaves)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples, the first dimension, are divided over all devices of the mesh."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def shard_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """The batch placed on the mesh, its first dimension divided over all devices.

    Args:
        batch: a tree of arrays [B, ...]; with several processes, arrays that are not global are this process's part.
        mesh: of `make_mesh`.

    Returns:
        The same tree of `jax.Array`; arrays that are there already are left alone.

    Raises:
        ValueError: the devices do not divide B.
        TypeError: an entry is not a numeric array.
    """
    target = batch_sharding(mesh)

    def divide(path, leaf):
        if isinstance(leaf, jax.Array) and leaf.ndim and leaf.sharding.is_equivalent_to(target, leaf.ndim):
            return leaf
        leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        if leaf.dtype.kind in "OUST":
            name = jax.tree_util.keystr(path)
            raise TypeError(f"batch{name} holds {leaf.dtype}, which no device can hold: drop it or tokenize it first")
        if _is_local(leaf) and not target.is_fully_addressable:
            check_divisible(leaf, len(mesh.local_devices), f"this process's devices of mesh {dict(mesh.shape)}")
            return jax.make_array_from_process_local_data(target, np.asarray(leaf))
        check_divisible(leaf, mesh.size, f"devices of mesh {dict(mesh.shape)}")
        return jax.device_put(leaf, target)

    return jax.tree_util.tree_map_with_path(divide, batch)


def check_divisible(leaf: Any, devices: int, what: str) -> None:
    """Raises ValueError unless `devices` divides the first dimension."""
    size = leaf.shape[0] if leaf.ndim else None
    if size is None or size % devices:
        lower, upper = (size or 0) // devices * devices, ((size or 0) // devices + 1) * devices
        fix = f"{lower} or {upper}" if lower else str(upper)
        raise ValueError(
            f"a batch of {size} examples does not divide over the {devices} {what}: set the batch size to {fix} "
            f"(a multiple of {devices}), drop the last incomplete batch, or use fewer devices"
        )


def check_same(tree: PyTree) -> None:
    """Raises ValueError where processes hold different values, which would train on as different models."""
    local = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if _is_local(leaf)]
    sums = np.array([zlib.crc32(np.asarray(leaf).tobytes()) for _, leaf in local], np.uint32)
    differing = np.flatnonzero(np.any(np.asarray(multihost_utils.process_allgather(sums)) != sums, axis=0))
    if differing.size:
        name = jax.tree_util.keystr(local[differing[0]][0], simple=True, separator="/")
        raise ValueError(
            f"the {jax.process_count()} processes hold different values of {name}: start all of them with the same "
            f"configuration, seed and weights"
        )


def _is_local(leaf: Any) -> bool:
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


def _identity(tree: PyTree) -> PyTree:
    return tree
