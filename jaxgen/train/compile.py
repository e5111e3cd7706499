"""A pure step made fast on many devices: `jax.jit` over a mesh, or `jax.pmap`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.core.cpu import compiler_options
from jaxgen.core.mapped import device_sharding, is_divided
from jaxgen.train.sharding import (
    batch_sharding,
    check_divisible,
    check_same,
    make_mesh,
    place,
    shard_batch,
    state_sharding,
)
from jaxgen.train.state import TrainState

PyTree = Any


def compile_step(
    step: Callable, mesh: Mesh | None = None, *, min_size: int = 2**16, donate: bool = True
) -> Callable[[TrainState, PyTree], tuple[TrainState, dict]]:
    """`jax.jit` of a step: the batch divided over all devices, large parameters shared over "fsdp".

    Args:
        step: of `make_train_step`, without axis_name: under jit the batch is one array whatever holds it.
        mesh: of `make_mesh`; None for all devices along "data".
        min_size: arrays of the state with fewer elements are copied to all devices (`fsdp_sharding`).
        donate: the state's memory is reused for the new state; the old one cannot be read afterwards.

    Returns:
        step(state, batch) -> (state, metrics). It places what is not in its place yet: NumPy batches, a fresh or
        restored state. With several processes each calls it with the same state and its part of the batch.
        `step.lower(state, batch)` is `jax.jit`'s, for `memory_estimate`.

    Raises:
        ValueError: the step has an axis_name; or, when it runs, the devices do not divide the batch.
    """
    if getattr(step, "axis_name", None) is not None:
        raise ValueError(
            f"compile_step got a step with axis_name={step.axis_name!r}: build it with axis_name=None, or use pmap_step"
        )
    mesh = make_mesh() if mesh is None else mesh
    compiled = {}  # by tree structure and shapes: a step may meet another state, after a change of model for example

    def prepare(state, batch):
        batch = shard_batch(batch, mesh)
        state = _each_its_own(state) if donate else state
        leaves, structure = jax.tree.flatten(state)
        signature = structure, tuple(map(np.shape, leaves))
        if signature not in compiled:
            targets = state_sharding(state, mesh, min_size=min_size)
            compiled[signature] = targets, jax.tree.leaves(targets), jax.jit(
                step,
                in_shardings=(targets, batch_sharding(mesh)),
                out_shardings=(targets, NamedSharding(mesh, PartitionSpec())),
                donate_argnums=(0,) if donate else (),
                compiler_options=compiler_options(mesh.devices.flat[0].platform),
            )
        targets, flat_targets, function = compiled[signature]
        if not all(map(_is_at, leaves, flat_targets)):
            state = place(state, targets)
        return function, state, batch

    def run(state, batch):
        function, state, batch = prepare(state, batch)
        return _one_at_a_time(function(state, batch), list(mesh.devices.flat))

    def lower(state, batch):
        function, state, batch = prepare(state, batch)
        return function.lower(state, batch)

    run.lower = lower
    return run


def pmap_step(
    step: Callable, *, axis_name: str | None = None, devices: Sequence[jax.Device] | None = None, donate: bool = True
) -> Callable[[TrainState, PyTree], tuple[TrainState, dict]]:
    """`jax.pmap` of a step: each device holds a copy of the state and a part of the batch.

    Args:
        step: of `make_train_step(..., axis_name=axis_name)`.
        axis_name: the axis over which the step averages; None to take it from the step.
        devices: None for all, those of other processes included.
        donate: as in `compile_step`.

    Returns:
        step(state, batch) -> (state, metrics): the state has a leading dimension of devices (`replicate`,
        `unreplicate`), the batch is [devices, B / devices, ...] of `jaxgen.data.to_pmap`, taken without a copy, or
        [B, ...] as for `compile_step`; the metrics are scalars. With several processes the leading dimension counts
        this process's devices, the batch is its part, and averages are over all. `step.lower` as in `compile_step`.

    Raises:
        ValueError: the step has no axis_name; or, when it runs, the devices do not divide the batch, or it
            lies on others.
    """
    axis_name = axis_name or getattr(step, "axis_name", None)
    if axis_name is None:
        raise ValueError("pmap_step needs a step that averages over devices: make_train_step(..., axis_name='data')")
    # Process by process, as the batch is divided.
    devices = sorted(jax.devices() if devices is None else devices, key=lambda device: device.process_index)
    mapped = jax.pmap(step, axis_name=axis_name, devices=devices, donate_argnums=(0,) if donate else ())
    local = sum(device.process_index == jax.process_index() for device in devices)
    # Where the step's results lie. A state that lies elsewhere, if only by an axis's name, would be compiled for apart.
    home = NamedSharding(Mesh(np.array(devices), (axis_name,)), PartitionSpec(axis_name))

    def settle(state):
        if local < len(devices) or all(_is_at(leaf, home) for leaf in jax.tree.leaves(state)):
            return state
        return jax.device_put(state, home)

    placed = device_sharding([device for device in devices if device.process_index == jax.process_index()])

    def split(leaf):
        leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        if is_divided(leaf):
            if not leaf.sharding.is_equivalent_to(placed, leaf.ndim):
                raise ValueError(f"the batch lies on {leaf.sharding.mesh.devices.tolist()}, but the step runs on "
                                 f"{placed.mesh.devices.tolist()}: give `to_pmap` the step's devices, in their order")
            return leaf
        check_divisible(leaf, local, "devices" if local == len(devices) else "devices of this process")
        return leaf.reshape(local, leaf.shape[0] // local, *leaf.shape[1:])

    def run(state, batch):
        state = settle(_each_its_own(state) if donate else state)
        state, metrics = _one_at_a_time(mapped(state, jax.tree.map(split, batch)), devices)
        return state, _first(metrics)

    run.lower = lambda state, batch: mapped.lower(settle(state), jax.tree.map(split, batch))
    return run


def replicate(tree: PyTree, devices: Sequence[jax.Device] | None = None) -> PyTree:
    """A copy per device with a leading dimension of devices, the form `jax.pmap` takes.

    Args:
        tree: arrays.
        devices: None for all; those of other processes are left to them.

    Raises:
        ValueError: the processes do not hold the same values.
    """
    everywhere = devices or jax.devices()
    devices = [device for device in everywhere if device.process_index == jax.process_index()]
    if len(devices) < len(everywhere):
        check_same(tree)
    sharding = device_sharding(devices)

    def copy(leaf):
        leaf = np.asarray(leaf)
        return jax.device_put(np.broadcast_to(leaf, (len(devices), *leaf.shape)), sharding)

    return jax.tree.map(copy, tree)


def unreplicate(tree: PyTree) -> PyTree:
    """The first device's copy, without the leading dimension; with several processes, a global array that each has."""
    first = _first(tree)
    if jax.process_count() == 1:
        return first
    devices = {device.process_index: device for device in reversed(jax.devices())}
    everywhere = NamedSharding(Mesh(np.array(list(devices.values())), ("processes",)), PartitionSpec())
    mine = devices[jax.process_index()]

    def join(leaf):
        return jax.make_array_from_single_device_arrays(leaf.shape, everywhere, [jax.device_put(leaf, mine)])

    return jax.tree.map(join, first)


def _first(tree: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(tree)
    first = [leaf.addressable_data(0) for leaf in leaves]
    return structure.unflatten(_reshape(first, tuple(leaf.shape[1:] for leaf in leaves)))


@functools.partial(jax.jit, static_argnums=1)
def _reshape(leaves: list[jax.Array], shapes: tuple) -> list[jax.Array]:
    return [leaf.reshape(shape) for leaf, shape in zip(leaves, shapes, strict=True)]


def _each_its_own(state: PyTree) -> PyTree:
    """The state with copies in place of arrays that stand in it twice, whose memory could not be donated."""
    leaves, structure = jax.tree.flatten(state)
    if len(set(map(id, leaves))) == len(leaves):
        return state
    seen = set()
    for i, leaf in enumerate(leaves):
        leaves[i] = jnp.copy(leaf) if id(leaf) in seen else leaf
        seen.add(id(leaf))
    return structure.unflatten(leaves)


def _is_at(leaf: Any, target: NamedSharding) -> bool:
    return isinstance(leaf, jax.Array) and leaf.sharding == target


def _one_at_a_time(outputs: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    # Virtual CPU devices share one thread pool: collectives of two programs in flight can wait for each other for ever.
    if len(devices) > 1 and devices[0].platform == "cpu":
        jax.block_until_ready(outputs)
    return outputs
