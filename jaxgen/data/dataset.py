"""A data set: examples by position, held in memory as arrays or read at random from records."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

Batch = dict[str, Any]


class Source(Protocol):
    """What a `Dataset` reads from: whole batches by position."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Batch: ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Examples held in memory: `arrays[name][i]` belongs to example i."""

    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def take(self, indices: np.ndarray) -> Batch:
        """Gathers one batch with one indexing per array."""
        return {name: array[indices] for name, array in self.arrays.items()}


@dataclass(frozen=True, eq=False)
class RecordSource:
    """Examples read one by one from a TFDS data source, then brought to one shape by `decode`."""

    records: Sequence[Any]
    decode: Callable[[Any], dict[str, Any]]  # record -> {"image": uint8 [H, W, C], ...}

    def __len__(self) -> int:
        return len(self.records)

    def take(self, indices: np.ndarray) -> Batch:
        """Reads and stacks the examples at `indices`."""
        examples = [self.decode(self.records[int(i)]) for i in indices]
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


@dataclass(frozen=True, eq=False)
class MappedSource:
    """Batches of another source after a function of each."""

    source: Source
    function: Callable[[Batch], Batch]

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: np.ndarray) -> Batch:
        return self.function(self.source.take(indices))


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set.

    `dataset[i]` is `{"image": uint8 [H, W, C], "label": int32, "id": int32, "caption": str}`; "label" and "caption"
    are there where the set has them. The id is the position within the split, so it names an example in every run.
    """

    name: str
    split: str
    image_shape: tuple[int, int, int]
    num_classes: int | None
    class_names: tuple[str, ...] | None
    source: Source

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        *,
        captions: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        split: str = "train",
    ) -> "Dataset":
        """Makes a data set of pictures that are in memory already.

        Args:
            images: `[N, H, W, C]` uint8.
            labels: `[N]` integers, or None.
            captions: N strings, or None.
            class_names: the name of each label, or None.
            name: shown in messages.
            split: shown in messages.

        Returns:
            The `Dataset`.

        Raises:
            ValueError: if the images are not uint8 `[N, H, W, C]` or the lengths differ.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 [N, H, W, C], got {images.dtype} {list(images.shape)}")
        arrays = {"image": images, "id": np.arange(len(images), dtype=np.int32)}
        if labels is not None:
            arrays["label"] = np.asarray(labels).astype(np.int32)
        if captions is not None:
            arrays["caption"] = np.asarray(captions, dtype=np.str_)
        for key, array in arrays.items():
            if len(array) != len(images):
                raise ValueError(f"{key}: expected {len(images)} entries, one for each image, got {len(array)}")
        names = tuple(class_names) if class_names is not None else None
        if names is not None:
            num_classes = len(names)
        else:
            num_classes = int(arrays["label"].max()) + 1 if labels is not None and len(images) else None
        return cls(name, split, images.shape[1:], num_classes, names, ArraySource(arrays))

    def map(self, function: Callable[[Batch], Batch]) -> "Dataset":
        """The set after a function of its batches: at once where it is held in memory, else as they are read.

        Args:
            function: batch -> batch of as many examples, for example one that adds tokens of the captions. It must
                depend on nothing but the batch.
        """
        if isinstance(self.source, ArraySource):
            return replace(self, source=ArraySource(function(self.source.arrays)))
        return replace(self, source=MappedSource(self.source, function))

    @property
    def in_memory(self) -> bool:
        """Whether the decoded examples are held in memory."""
        return isinstance(self.source, ArraySource)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Batch:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {position} is out of range for {self.name}/{self.split} with {len(self)} examples")
        batch = self.take(np.array([position % len(self)]))
        return {name: str(array[0]) if name == "caption" else array[0] for name, array in batch.items()}

    def take(self, indices: np.ndarray) -> Batch:
        """The examples at `indices` `[B]` as one batch: `{"image": uint8 [B, H, W, C], ...}`."""
        indices = np.asarray(indices)
        batch = self.source.take(indices)
        return {**batch, "id": indices.astype(np.int32)}

    def images(self) -> np.ndarray:
        """All images, uint8 `[N, H, W, C]`. A set too large for memory is read whole: use `take` there."""
        return self._column("image")

    def labels(self) -> np.ndarray | None:
        """All labels, int32 `[N]`, or None if the set has none."""
        return self._column("label")

    def _column(self, name: str) -> np.ndarray | None:
        if isinstance(self.source, ArraySource):
            return self.source.arrays.get(name)
        return self.take(np.arange(len(self))).get(name)
