"""A data set: examples by position, held in memory as arrays or read at random from records."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from jaxgen.data.kinds import Caption, Class, Image, Kind, Text, check_classes, check_strings
from jaxgen.data.spec import Spec

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
        return len(next(iter(self.arrays.values())))

    def take(self, indices: np.ndarray) -> Batch:
        """Gathers one batch with one indexing per array."""
        return {name: array[indices] for name, array in self.arrays.items()}


@dataclass(frozen=True, eq=False)
class RecordSource:
    """Examples read one by one from a TFDS data source, then brought to one shape by `decode`."""

    records: Sequence[Any]
    decode: Callable[[Any], dict[str, Any]]  # record -> {entry name: value, ...}

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

    `dataset[i]` has the entries of `spec` and "id", for example `{"image": uint8 [H, W, C], "label": int32, "caption":
    str, "id": int32}`. The id is the position within the split, so it names an example in every run.
    """

    name: str
    split: str
    spec: Spec
    source: Source

    @property
    def example(self) -> str:
        """The name of the entry that models are trained on."""
        return self.spec.example

    @property
    def example_shape(self) -> tuple[int, ...]:
        """The shape of that entry in one example, such as (H, W, C) of an image."""
        return self.spec.example_shape

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or None."""
        return self.spec.num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, or None."""
        return self.spec.class_names

    @classmethod
    def from_spec(
        cls, spec: Spec | Mapping[str, Kind], arrays: Mapping[str, Any], *, name: str = "arrays", split: str = "train"
    ) -> "Dataset":
        """Makes a data set of examples that are in memory already.

        Args:
            spec: what the entries are.
            arrays: `[N, *shape]` for each entry of the spec, in its kind's dtype.
            name: shown in messages.
            split: shown in messages.

        Returns:
            The `Dataset`.

        Raises:
            ValueError: an entry of the spec is missing or one is not in it, the lengths differ, or an array is not what
                its kind says; names the first offender.

        Example:
            >>> from jaxgen.data.kinds import Video
            >>> videos = np.zeros((5, 4, 8, 8, 3), np.uint8)
            >>> Dataset.from_spec({"video": Video((4, 8, 8, 3))}, {"video": videos}).example_shape
            (4, 8, 8, 3)
        """
        spec = Spec(spec)
        for entry in [*spec, *arrays]:
            if entry not in arrays or entry not in spec:
                raise ValueError(f"arrays must have the entries {list(spec)} of the spec, got {list(arrays)}: "
                                 f"{entry!r} is {'missing' if entry in spec else 'not in the spec'}")
        columns = {spec.example: spec[spec.example].check(spec.example, arrays[spec.example])}
        count = len(columns[spec.example])
        for entry, kind in spec.items():
            _check_length(entry, arrays[entry], count)
            columns[entry] = kind.check(entry, arrays[entry])
        return cls(name, split, spec, ArraySource({**columns, "id": np.arange(count, dtype=np.int32)}))

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
        """Makes a data set of images that are in memory already; `from_spec` does it for other kinds.

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
        spec, arrays = {"image": Image(images.shape[1:])}, {"image": images}
        if captions is not None:
            arrays["caption"] = check_strings("captions", captions)
        if labels is not None or class_names is not None:
            kind = Class(names=class_names)
        if labels is not None:
            _check_length("label", labels, len(images))
            arrays["label"] = check_classes("labels", np.asarray(labels), kind)
            if kind.count is None and len(images):
                kind = Class(int(arrays["label"].max()) + 1)
            spec["label"] = kind
        if captions is not None:
            spec["caption"] = Caption()
        return cls.from_spec(spec, arrays, name=name, split=split)

    def map(self, function: Callable[[Batch], Batch], *, spec: Spec | Mapping[str, Kind] | None = None) -> "Dataset":
        """The set after a function of its batches: at once where it is held in memory, else as they are read.

        Args:
            function: batch -> batch of as many examples, for example one that adds tokens of the captions. It must
                depend on nothing but the batch.
            spec: of the result; None to infer it: known entries keep their kind with the new shape, those left out
                leave the spec, new whole numbers `[B, L]` are a `Text`, and other new entries stay without a kind.
        """
        if isinstance(self.source, ArraySource):
            source = ArraySource(function(self.source.arrays))
            result = source.arrays
        else:
            source = MappedSource(self.source, function)
            result = source.take(np.arange(1)) if spec is None else {}
        return replace(self, source=source, spec=_inferred(self.spec, result) if spec is None else Spec(spec))

    @property
    def in_memory(self) -> bool:
        """Whether the decoded examples are held in memory."""
        return isinstance(self.source, ArraySource)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Batch:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise self._out_of_range("index", position)
        batch = self.take(np.array([position]))
        return {name: str(array[0]) if array.dtype.kind == "U" else array[0] for name, array in batch.items()}

    def take(self, indices: np.ndarray) -> Batch:
        """Some examples as one batch: `{entry name: [B, ...], ..., "id": int32 [B]}`.

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
            raise self._out_of_range("indices", outside[0])
        positions = positions.astype(np.int64)
        positions = np.where(positions < 0, positions + len(self), positions)
        return {**self.source.take(positions), "id": positions.astype(np.int32)}

    def _out_of_range(self, argument: str, index: int) -> IndexError:
        return IndexError(f"{argument} must lie within {-len(self)} .. {len(self) - 1} for the {len(self)} examples of "
                          f"{self.name}/{self.split}, got {index}")

    def spread(self, count: int) -> Batch:
        """`count` examples from all over the set, or the whole set if it has fewer."""
        return self.take(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))

    def examples(self) -> np.ndarray:
        """All that models are trained on, such as images, uint8 `[N, H, W, C]`.

        A set too large for memory is read whole: use `take` there.
        """
        return self._column(self.example)

    def labels(self) -> np.ndarray | None:
        """All labels, int32 `[N]`, or None if the set has none."""
        name = next((name for name, kind in self.spec.items() if isinstance(kind, Class)), None)
        return None if name is None else self._column(name)

    def _column(self, name: str) -> np.ndarray | None:
        if isinstance(self.source, ArraySource):
            return self.source.arrays.get(name)
        return self.take(np.arange(len(self))).get(name)


def _check_length(name: str, array: Any, count: int) -> None:
    shape = np.shape(array)
    if not shape or shape[0] != count:
        raise ValueError(f"{name}: expected {count} entries, one for each example, got {np.size(array)} in the shape "
                         f"{list(shape)}")


def _inferred(spec: Spec, batch: Batch) -> Spec:
    """The spec of a batch that a function made of one of `spec`."""
    result = {name: kind.like(batch[name]) for name, kind in spec.items() if name in batch}
    for name, array in batch.items():
        if name not in spec and np.ndim(array) == 2 and array.dtype.kind in "iu":
            result[name] = Text(array.shape[1])
    return Spec(result)
