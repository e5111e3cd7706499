"""Placing batches on devices ahead of their use, and the bridge between uint8 and float32 in [-1, 1]."""

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Float, UInt8

from jaxgen.core.checks import check_count
from jaxgen.core.mapped import device_sharding
from jaxgen.core.pixels import bytes_to_floats, floats_to_bytes
from jaxgen.data.dataset import Batch
from jaxgen.data.kinds import Kind
from jaxgen.data.spec import Spec


def to_float(images: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Brings pixels to the range that models work in: `x / 127.5 - 1`.

    Args:
        images: uint8, any shape.

    Returns:
        float32 in [-1, 1].
    """
    return bytes_to_floats(jnp.asarray(images))


def to_uint8(images: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
    """Brings model output back to pixels: `clip(round((x + 1) * 127.5), 0, 255)`; undoes `to_float` exactly.

    Args:
        images: floating point, any shape; values outside [-1, 1] are clipped.

    Returns:
        uint8.
    """
    return floats_to_bytes(jnp.asarray(images))


class DeviceBatches(Iterator[Batch]):
    """The iterator that `to_device` and `to_pmap` return.

    `get_state` belongs to the batches handed out: those under way to the device are read again after `set_state`.
    """

    def __init__(self, iterator: Iterable[Batch], place: Any, prefetch: int):
        self._iterator = iter(iterator)
        self._place = place
        self._prefetch = check_count("prefetch", prefetch, 0)
        self._queue: deque[tuple[Batch, Any]] = deque()
        self._state = self._source_state()

    def __next__(self) -> Batch:
        # One more than are handed out, so that `prefetch` batches stay under way while the caller works.
        while len(self._queue) <= self._prefetch:
            try:
                batch = next(self._iterator)
            except StopIteration:
                break
            self._queue.append((self._place(batch), self._source_state()))
        if not self._queue:
            raise StopIteration
        batch, self._state = self._queue.popleft()
        return batch

    def get_state(self) -> dict[str, Any]:
        """The source's state just after the batch that was handed out last."""
        if self._state is None:
            raise TypeError("the iterator has no get_state(): to save a position, give one from jaxgen.data.batches")
        return self._state

    def set_state(self, state: dict[str, Any]) -> None:
        """Drops what is under way and goes on from a state that `get_state` gave."""
        self._iterator.set_state(state)
        self._queue.clear()
        self._state = self._source_state()

    def _source_state(self) -> Any:
        read = getattr(self._iterator, "get_state", None)
        return read() if read else None


def _numbers(batch: Batch, spec: Spec | None) -> dict[str, np.ndarray]:
    """The entries that devices hold."""
    arrays = {name: np.asarray(value) for name, value in batch.items()
              if spec is None or name not in spec or spec[name].on_device}
    return {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}


@functools.partial(jax.jit, static_argnums=(1, 2))
def _to_model(array: Array, kind: Kind, sharding: Sharding | None) -> Array:
    values = kind.to_model(array)
    return values if sharding is None else jax.lax.with_sharding_constraint(values, sharding)


def _as_models_take(batch: dict[str, Array], spec: Spec | None) -> Batch:
    """Bytes and int16 become floats on the device, and lie as they lay."""
    kinds = spec or {}
    return {name: _to_model(array, kinds[name], array.sharding if isinstance(array.sharding, NamedSharding) else None)
            if name in kinds and kinds[name].changes(array.dtype) else array for name, array in batch.items()}


def _shards(sharding: Sharding | None) -> int:
    """Into how many parts the leading axis is cut."""
    if not isinstance(sharding, NamedSharding) or not sharding.spec or sharding.spec[0] is None:
        return 1
    axes = sharding.spec[0]
    return int(np.prod([sharding.mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes)]))


def to_device(
    iterator: Iterable[Batch], sharding: Sharding | None = None, *, spec: Spec | None = None, prefetch: int = 2
) -> DeviceBatches:
    """Places batches on devices while earlier ones are in use, as models take them.

    Images and videos travel as uint8 and become `x / 127.5 - 1` on the device. Captions stay behind.

    Args:
        iterator: over dicts of `[B, ...]` arrays, from `batches` or `evaluation_batches`; under several processes
            each gives its own block, and the arrays made are global.
        sharding: how the batch lies, such as `NamedSharding(mesh, PartitionSpec("data"))`; None: the default device.
        spec: what the entries are; None for the iterator's own. Entries without a kind are placed as they are.
        prefetch: batches under way beyond the one handed out.

    Returns:
        An iterator over dicts of `jax.Array`, with `get_state` and `set_state`.

    Raises:
        ValueError: on the first batch, if it does not divide over the devices of the sharding's leading axis.
    """
    shards, spec = _shards(sharding), spec or getattr(iterator, "spec", None)

    def put(array: np.ndarray) -> Array:
        if not isinstance(sharding, NamedSharding):
            return jax.device_put(array, sharding)
        laid = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[: array.ndim]))
        return jax.make_array_from_process_local_data(laid, array)

    def place(batch: Batch) -> Batch:
        arrays = _numbers(batch, spec)
        for name, array in arrays.items():
            count = len(array) * jax.process_count()
            if count % shards:
                raise ValueError(
                    f"batch_size={count} ({name!r}) does not divide over the {shards} devices of {sharding.spec}: "
                    f"choose a multiple of {shards}"
                )
        return _as_models_take({name: put(array) for name, array in arrays.items()}, spec)

    return DeviceBatches(iterator, place, prefetch)


def to_pmap(
    iterator: Iterable[Batch],
    devices: Sequence[jax.Device] | None = None,
    *,
    spec: Spec | None = None,
    prefetch: int = 2,
) -> DeviceBatches:
    """Places batches for `jax.pmap`: like `to_device`, with arrays `[devices, B / devices, ...]`.

    Args:
        iterator: over dicts of `[B, ...]` arrays; under several processes each gives its own block.
        devices: those of the pmap; None: `jax.local_devices()`.
        spec: what the entries are; None for the iterator's own. Entries without a kind are placed as they are.
        prefetch: batches under way beyond the one handed out.

    Returns:
        An iterator over dicts of `jax.Array` whose leading axis lies one entry to a device.

    Raises:
        ValueError: on the first batch, if it does not divide over the devices.
    """
    devices = list(devices if devices is not None else jax.local_devices())
    sharding, spec = device_sharding(devices), spec or getattr(iterator, "spec", None)

    def place(batch: Batch) -> Batch:
        placed = {}
        for name, array in _numbers(batch, spec).items():
            if len(array) % len(devices):
                raise ValueError(
                    f"batch_size={len(array)} ({name!r}) does not divide over {len(devices)} devices: "
                    f"choose a multiple of {len(devices)}"
                )
            parts = array.reshape(len(devices), len(array) // len(devices), *array.shape[1:])
            placed[name] = jax.device_put(parts, sharding)
        return _as_models_take(placed, spec)

    return DeviceBatches(iterator, place, prefetch)
