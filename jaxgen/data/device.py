"""Placing batches on devices ahead of their use, and the bridge between uint8 and float32 in [-1, 1]."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Float, UInt8

from jaxgen.core.checks import check_count
from jaxgen.data.dataset import Batch


def to_float(images: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Brings pixels to the range that models work in: `x / 127.5 - 1`.

    Args:
        images: uint8, any shape.

    Returns:
        float32 in [-1, 1].
    """
    # (2 x - 255) / 255 has an exact numerator; XLA's own form of x / 127.5 - 1 takes 255 to 1.0000001.
    return (2.0 * jnp.asarray(images).astype(jnp.float32) - 255.0) * np.float32(1 / 255)


def to_uint8(images: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
    """Brings model output back to pixels: `clip(round((x + 1) * 127.5), 0, 255)`; undoes `to_float` exactly.

    Args:
        images: floating point, any shape; values outside [-1, 1] are clipped.

    Returns:
        uint8.
    """
    scaled = (jnp.asarray(images).astype(jnp.float32) + 1.0) * 127.5
    return jnp.clip(jnp.round(scaled), 0, 255).astype(jnp.uint8)


_to_float = jax.jit(to_float)


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


def _numbers(batch: Batch) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(value) for name, value in batch.items()}
    return {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}


def _with_float_image(batch: dict[str, Array]) -> Batch:
    image = batch.get("image")
    return batch if image is None or image.dtype != jnp.uint8 else {**batch, "image": _to_float(image)}


def _shards(sharding: Sharding | None) -> int:
    """Into how many parts the leading axis is cut."""
    if not isinstance(sharding, NamedSharding) or not sharding.spec or sharding.spec[0] is None:
        return 1
    axes = sharding.spec[0]
    return int(np.prod([sharding.mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes)]))


def to_device(iterator: Iterable[Batch], sharding: Sharding | None = None, *, prefetch: int = 2) -> DeviceBatches:
    """Places batches on devices while earlier ones are in use, with images as float32 in [-1, 1].

    Images travel as uint8 and become `x / 127.5 - 1` on the device. Strings ("caption") stay behind.

    Args:
        iterator: over dicts of `[B, ...]` arrays, from `batches` or `evaluation_batches`; under several processes
            each gives its own block, and the arrays made are global.
        sharding: how the batch lies, such as `NamedSharding(mesh, PartitionSpec("data"))`; None: the default device.
        prefetch: batches under way beyond the one handed out.

    Returns:
        An iterator over dicts of `jax.Array`, with `get_state` and `set_state`.

    Raises:
        ValueError: on the first batch, if it does not divide over the devices of the sharding's leading axis.
    """
    shards = _shards(sharding)

    def put(array: np.ndarray) -> Array:
        if not isinstance(sharding, NamedSharding):
            return jax.device_put(array, sharding)
        laid = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[: array.ndim]))
        return jax.make_array_from_process_local_data(laid, array)

    def place(batch: Batch) -> Batch:
        arrays = _numbers(batch)
        for name, array in arrays.items():
            count = len(array) * jax.process_count()
            if count % shards:
                raise ValueError(
                    f"batch_size={count} ({name!r}) does not divide over the {shards} devices of {sharding.spec}: "
                    f"choose a multiple of {shards}"
                )
        return _with_float_image({name: put(array) for name, array in arrays.items()})

    return DeviceBatches(iterator, place, prefetch)


def to_pmap(
    iterator: Iterable[Batch], devices: Sequence[jax.Device] | None = None, *, prefetch: int = 2
) -> DeviceBatches:
    """Places batches for `jax.pmap`: like `to_device`, with arrays `[devices, B / devices, ...]`.

    Args:
        iterator: over dicts of `[B, ...]` arrays; under several processes each gives its own block.
        devices: those of the pmap; None: `jax.local_devices()`.
        prefetch: batches under way beyond the one handed out.

    Returns:
        An iterator over dicts of `jax.Array` whose leading axis lies one entry to a device.

    Raises:
        ValueError: on the first batch, if it does not divide over the devices.
    """
    devices = list(devices if devices is not None else jax.local_devices())
    sharding = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec("devices"))

    def place(batch: Batch) -> Batch:
        placed = {}
        for name, array in _numbers(batch).items():
            if len(array) % len(devices):
                raise ValueError(
                    f"batch_size={len(array)} ({name!r}) does not divide over {len(devices)} devices: "
                    f"choose a multiple of {len(devices)}"
                )
            parts = array.reshape(len(devices), len(array) // len(devices), *array.shape[1:])
            placed[name] = jax.device_put(parts, sharding)
        return _with_float_image(placed)

    return DeviceBatches(iterator, place, prefetch)
