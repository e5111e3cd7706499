"""From a data set to an endless, checkpointable stream of batches, on Grain."""

import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxgen.core.checks import check_count
from jaxgen.core.extras import extra
from jaxgen.data import augment
from jaxgen.data.dataset import Batch, Dataset
from jaxgen.data.kinds import Image, Video
from jaxgen.data.spec import Spec

# Separates the streams drawn from one seed, so that the order and the augmentation never share numbers.
ORDER, AUGMENT = 0, 1


class Batches(Iterator[Batch]):
    """The iterator that `batches` returns: `next`, `get_state`, `set_state`, `steps_per_epoch`, `spec`."""

    def __init__(self, iterator: Any, steps_per_epoch: int, settings: dict[str, int | bool], where: str, spec: Spec):
        self._iterator = iterator
        self._settings = settings
        self._where = where
        self.steps_per_epoch = steps_per_epoch
        self.spec = spec

    def __next__(self) -> Batch:
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, as a JSON-able dict; `set_state` goes on from there with the same batches."""
        return {"grain": dict(self._iterator.get_state()), "settings": dict(self._settings)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position that `get_state` gave.

        Args:
            state: what `get_state` returned, in this run or another.

        Raises:
            ValueError: if the state belongs to a stream with other settings, or over a set that had another number of
                examples, whose batches would differ.
        """
        if set(state) != {"grain", "settings"}:
            raise ValueError(f"state must be what get_state() returned, with 'grain' and 'settings', got {state!r}")
        for name, value in self._settings.items():
            saved = state["settings"].get(name)
            if saved != value and name == "size":
                raise ValueError(
                    f"the data changed: {self._where} had {saved} examples when the state was saved, and has {value} "
                    "now, so that the batches would be others: bring the data of then back, or start again with these"
                )
            if saved != value:
                raise ValueError(
                    f"state was saved by a stream with {name}={saved!r}, but this one has {name}={value!r}: "
                    f"pass {name}={saved!r} to go on with the same batches"
                )
        self._iterator.set_state(dict(state["grain"]))


def batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    epochs: int | None = None,
    flip: bool = False,
    crop: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    drop_remainder: bool = True,
) -> Batches:
    """Iterates over a data set in batches, in a new random order each epoch.

    The global batch t is `order(seed, epoch)[t * batch_size : (t + 1) * batch_size]`; process p of P gets the p-th of
    its P equal blocks. Everything random is a function of the seed and the position, so the global batch is the same
    for any number of processes, and going on from a saved state gives the same batches bit for bit.

    Args:
        dataset: from `load` or `Dataset.from_arrays`.
        batch_size: examples in the global batch, over all processes.
        seed: of order and augmentation.
        shuffle: False keeps the set's order.
        epochs: how many passes; None never ends.
        flip: mirror each image or video left and right with probability 1/2.
        crop: pad by so many pixels (reflection) and cut at a random place; 0 does nothing.
        process_index: this process, `jax.process_index()`.
        process_count: all processes, `jax.process_count()`.
        drop_remainder: leave out the examples at an epoch's end that do not fill a batch.

    Returns:
        An iterator over `{entry of the spec: [B, ...], ..., "id": int32 [B]}`, B = batch_size / P.

    Raises:
        ValueError: for an empty set, a batch larger than the set, a batch that P processes cannot share equally, or a
            setting that is no whole number or too small.
    """
    with extra("data"):
        import grain

    size = len(dataset)
    where = f"{dataset.name}/{dataset.split}"
    if size == 0:
        raise ValueError(f"dataset {where} is empty: there is nothing to make batches of")
    # JSON knows no numbers of NumPy's, and the settings are saved.
    batch_size, process_count = check_count("batch_size", batch_size), check_count("process_count", process_count)
    seed, crop, process_index = (check_count(name, value, 0) for name, value in (
        ("seed", seed), ("crop", crop), ("process_index", process_index)))
    epochs = None if epochs is None else check_count("epochs", epochs)
    shuffle, flip, drop_remainder = bool(shuffle), bool(flip), bool(drop_remainder)
    if batch_size > size and drop_remainder:
        raise ValueError(
            f"batch_size={batch_size} must lie between 1 and the {size} examples of {where}: "
            "choose a smaller batch, or drop_remainder=False"
        )
    if process_index >= process_count:
        raise ValueError(f"process_index={process_index} must lie in [0, process_count={process_count})")
    remainder = 0 if drop_remainder else size % batch_size
    for name, count in (("batch_size", batch_size), ("the last batch of an epoch", remainder)):
        if count % process_count:
            raise ValueError(
                f"{name} ({count} examples) does not divide over process_count={process_count}: "
                f"choose a batch_size that is a multiple of {process_count}, with drop_remainder=True"
            )
    _check_augmentation(dataset.spec, flip, crop)

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng([ORDER, seed, epoch]).permutation(size) if shuffle else np.arange(size)

    entry = dataset.example
    steps = size // batch_size if drop_remainder else -(-size // batch_size)

    def make(position: int, _: Any) -> Batch:
        epoch, step = divmod(position, steps)
        indices = order(epoch)[step * batch_size : (step + 1) * batch_size]
        local = len(indices) // process_count
        block = slice(process_index * local, (process_index + 1) * local)
        batch = dataset.take(indices[block])
        if flip or crop:
            draws = np.random.default_rng([AUGMENT, seed, position])
            mirrored, offsets = draws.random(len(indices)) < 0.5, draws.integers(0, 2 * crop + 1, (len(indices), 2))
            if crop:
                batch[entry] = augment.crop(batch[entry], offsets[block], crop)
            if flip:
                batch[entry] = augment.flip(batch[entry], mirrored[block])
        return batch

    # Arrays in memory are gathered faster than threads pass them on; records are decoded by several threads at a time.
    threads = 1 if dataset.in_memory else min(16, os.cpu_count() or 1)
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    stream = grain.MapDataset.range(steps).repeat(epochs).map_with_index(make).to_iter_dataset(reading)
    settings = {
        "size": size,
        "batch_size": batch_size,
        "seed": seed,
        "shuffle": shuffle,
        "flip": flip,
        "crop": crop,
        "drop_remainder": drop_remainder,
    }
    return Batches(iter(stream), steps, settings, where, dataset.spec)


def _check_augmentation(spec: Spec, flip: bool, crop: int) -> None:
    """Raises ValueError unless examples can be mirrored and cut as asked."""
    kind = spec[spec.example]
    if not flip and not crop:
        return
    if not isinstance(kind, Image | Video):
        raise ValueError(f"flip and crop change images and videos, but {spec.example!r} is a {type(kind).__name__}: "
                         "use flip=False, crop=0")
    sides = kind.shape[-3:-1]
    if crop >= min(sides):
        raise ValueError(f"crop={crop} must be less than the {type(kind).__name__.lower()}'s {sides} pixels")
