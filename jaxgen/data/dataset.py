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
        # Where none is wanted, one is read all the same for the names and the shapes.
        examples = [self.decode(self.records[int(i)]) for i in (indices if len(indices) else [0])]
        return {name: np.stack([example[name] for example in examples])[: len(indices)] for name in examples[0]}


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
            labels: `[N]` whole numbers from 0 on, or None. Whole numbers in floating point count as such, since nothing
                is lost.
            captions: N strings, or None.
            class_names: the name of each label, all different, or None.
            name: shown in messages.
            split: shown in messages.

        Returns:
            The `Dataset`.

        Raises:
            ValueError: if the images are not uint8 `[N, H, W, C]`, the lengths differ, a label is no class, a caption
                no string, or two classes have one name; names the first one.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 [N, H, W, C], got {images.dtype} {list(images.shape)}")
        arrays = {"image": images, "id": np.arange(len(images), dtype=np.int32)}
        if labels is not None:
            arrays["label"] = np.asarray(labels)
        if captions is not None:
            arrays["caption"] = _strings("captions", captions)
        for key, array in arrays.items():
            if not array.ndim or len(array) != len(images):
                raise ValueError(f"{key}: expected {len(images)} entries, one for each image, got {array.size} in the "
                                 f"shape {list(array.shape)}")
        names = tuple(map(str, _strings("class_names", class_names))) if class_names is not None else None
        if names is not None and len(set(names)) < len(names):
            twice = next(i for i, one in enumerate(names) if one in names[:i])
            raise ValueError(f"class_names[{twice}] is {names[twice]!r} again: give each class a name of its own")
        if labels is not None:
            arrays["label"] = _classes(arrays["label"], names)
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
            raise self._out_of_range(position)
        batch = self.take(np.array([position]))
        return {name: str(array[0]) if name == "caption" else array[0] for name, array in batch.items()}

    def take(self, indices: np.ndarray) -> Batch:
        """Some examples as one batch: `{"image": uint8 [B, H, W, C], "id": int32 [B], ...}`.

        Args:
            indices: `[B]` integers, of which negative ones count from the end, in any order and as often as wanted; or
                `[N]` booleans, one for each example.

        Raises:
            ValueError: other arrays.
            IndexError: an index out of range; names the first one.
        """
        positions = np.asarray(indices)
        if positions.dtype == np.bool_ and positions.shape == (len(self),):
            positions = np.flatnonzero(positions)
        if not positions.size:
            positions = positions.astype(np.int64)
        if positions.ndim != 1 or positions.dtype.kind not in "iu":
            raise ValueError(f"indices must be integers [B], or booleans [{len(self)}], one for each example; got "
                             f"{positions.dtype} {list(positions.shape)}")
        outside = positions[(positions < -len(self)) | (positions >= len(self))]
        if outside.size:
            raise self._out_of_range(outside[0])
        positions = positions.astype(np.int64)
        positions = np.where(positions < 0, positions + len(self), positions)
        return {**self.source.take(positions), "id": positions.astype(np.int32)}

    def _out_of_range(self, index: int) -> IndexError:
        return IndexError(f"index {index} is out of range for {self.name}/{self.split} with {len(self)} examples")

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


def _strings(argument: str, values: Sequence[str]) -> np.ndarray:
    """`[N]` strings; raises ValueError for the first value that is none."""
    if isinstance(values, str):
        raise ValueError(f"{argument} must be a sequence of strings, got the one string {values!r}")
    values = list(values)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"{argument}[{i}] must be a string, got {value!r}")
    return np.asarray(values, dtype=np.str_)


def _classes(labels: np.ndarray, names: tuple[str, ...] | None) -> np.ndarray:
    """`[N]` int32 labels; raises ValueError for the first one that is no whole number from 0 to the last class."""
    if labels.ndim != 1:
        hint = " (labels[:, 0], or labels.argmax(axis=1) of one-hot ones)" if labels.ndim == 2 else ""
        raise ValueError(f"labels must be [N], one number for each image{hint}, got shape {list(labels.shape)}")
    if labels.dtype.kind not in "iufb":
        raise ValueError(f"labels must be whole numbers, got dtype {labels.dtype}: give the classes numbers from 0 on, "
                         "and their names as class_names")
    if labels.dtype.kind == "f":
        labels = labels.astype(np.float64)  # half precision does not reach the last number
    last = (len(names) if names is not None else 2**31) - 1
    wrong = np.flatnonzero(~((labels >= 0) & (labels <= last) & (labels == np.floor(labels))))
    if wrong.size:
        last = f"{last}, the last of the class_names" if names is not None else last
        raise ValueError(f"labels[{wrong[0]}] is {labels[wrong[0]]}, but labels must be whole numbers from 0 to {last}")
    return labels.astype(np.int32)
