"""The kinds of entries that examples have: shape, dtype in the set, and how models take them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from jaxgen.core.checks import check_count, check_counts, choose
from jaxgen.core.pixels import bytes_to_floats


@dataclass(frozen=True)
class Kind:
    """What one entry of an example is.

    Attributes:
        shape: of one example's entry.
        dtype: in the set.
        model_range: in which models take the values; None for what has no range.
    """

    is_example: ClassVar[bool] = False  # models are trained on it
    on_device: ClassVar[bool] = True  # captions stay on the host

    @property
    def model_range(self) -> tuple[float, float] | None:
        return None

    def to_model(self, values: Any) -> Any:
        """The values as models take them; whole numbers stay as they are."""
        return values

    def changes(self, dtype: np.dtype) -> bool:
        """Whether `to_model` changes values of that dtype."""
        return False

    def like(self, array: np.ndarray) -> "Kind":
        """This kind with the shape of the examples `array` [N, ...]."""
        return self

    def check(self, name: str, array: Any) -> np.ndarray:
        """The array `[N, *shape]` in the kind's dtype.

        Raises:
            ValueError: another dtype or shape, or a value outside the kind's range; names the first one.
        """
        array = np.asarray(array)
        if array.dtype != self.dtype or array.shape[1:] != self.shape or not array.ndim:
            sizes = ", ".join(["N", *map(str, self.shape)])
            raise ValueError(f"{name} must be {self.dtype} [{sizes}] as {self} says, got {array.dtype} "
                             f"{list(array.shape)}")
        return array

    def to_json(self) -> dict[str, Any]:
        """The kind as plain JSON, which `spec_from_json` reads."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"kind": type(self).__name__.lower(), **values}


@dataclass(frozen=True)
class _Pixels(Kind):
    shape: tuple[int, ...]

    is_example: ClassVar[bool] = True
    axes: ClassVar[str]

    def __post_init__(self):
        shape = check_counts("shape", self.shape, length=len(self.axes.split()))
        object.__setattr__(self, "shape", shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def model_range(self) -> tuple[float, float]:
        return -1.0, 1.0

    def to_model(self, values: Any) -> Any:
        """`x / 127.5 - 1` of bytes; floats are there already."""
        return bytes_to_floats(values) if self.changes(values.dtype) else values

    def changes(self, dtype: np.dtype) -> bool:
        return dtype == np.uint8

    def like(self, array: np.ndarray) -> "Kind":
        return replace(self, shape=array.shape[1:])


@dataclass(frozen=True)
class Image(_Pixels):
    """An image: uint8 [H, W, C] in the set, float32 in [-1, 1] for models."""

    axes: ClassVar[str] = "H W C"


@dataclass(frozen=True)
class Video(_Pixels):
    """A video: uint8 [frames, H, W, C] in the set, float32 in [-1, 1] for models."""

    axes: ClassVar[str] = "frames H W C"


@dataclass(frozen=True)
class Sound(Kind):
    """A sound [samples, channels] of `rate` samples a second, float32 in [-1, 1] for models.

    In the set it is int16, which becomes `x / 32768`, or float32.
    """

    shape: tuple[int, ...]
    rate: int
    format: str = "int16"

    is_example: ClassVar[bool] = True

    def __post_init__(self):
        object.__setattr__(self, "shape", check_counts("shape", self.shape, length=2))
        check_count("rate", self.rate)
        choose("format of a sound", self.format, {"int16": None, "float32": None})

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.format)

    @property
    def model_range(self) -> tuple[float, float]:
        return -1.0, 1.0

    def to_model(self, values: Any) -> Any:
        return values.astype(np.float32) * np.float32(2**-15) if self.changes(values.dtype) else values

    def changes(self, dtype: np.dtype) -> bool:
        return dtype == np.int16

    def like(self, array: np.ndarray) -> "Kind":
        return replace(self, shape=array.shape[1:], format=str(array.dtype))

    def check(self, name: str, array: Any) -> np.ndarray:
        array = super().check(name, array)
        if array.dtype.kind == "f":
            _refuse_first(name, array, ~(np.abs(array) <= 1), "a sound in floating point lies in [-1, 1]")
        return array


@dataclass(frozen=True)
class Text(Kind):
    """A text: `length` whole numbers in 0 .. vocabulary - 1, int32; 257 is bytes plus 1, padded with 0."""

    length: int
    vocabulary: int = 257

    is_example: ClassVar[bool] = True

    def __post_init__(self):
        check_count("length", self.length)
        check_count("vocabulary", self.vocabulary)

    @property
    def shape(self) -> tuple[int]:
        return (self.length,)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    @property
    def model_range(self) -> tuple[int, int]:
        return 0, self.vocabulary - 1

    def like(self, array: np.ndarray) -> "Kind":
        return replace(self, length=array.shape[1])

    def check(self, name: str, array: Any) -> np.ndarray:
        array = np.asarray(array)
        if array.dtype.kind in "iu":
            wrong = (array < 0) | (array >= self.vocabulary)
            _refuse_first(name, array, wrong, f"a text's numbers lie within 0 .. {self.vocabulary - 1}")
            array = array.astype(np.int32)
        return super().check(name, array)


@dataclass(frozen=True)
class Class(Kind):
    """A class: one whole number in 0 .. count - 1, int32; `count` is None where it is not known."""

    count: int | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.names is not None:
            names = tuple(map(str, check_strings("class_names", self.names)))
            twice = next((i for i, one in enumerate(names) if one in names[:i]), None)
            if twice is not None:
                raise ValueError(f"class_names[{twice}] is {names[twice]!r} again: give each class a name of its own")
            object.__setattr__(self, "names", names)
            if self.count is None:
                object.__setattr__(self, "count", len(names))
            if self.count != len(names):
                raise ValueError(f"class_names has {len(names)} names for count={self.count} classes: give one each")
        if self.count is not None:
            check_count("count", self.count, 0)

    shape: ClassVar[tuple[int, ...]] = ()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    @property
    def model_range(self) -> tuple[int, int] | None:
        return None if self.count is None else (0, self.count - 1)

    def check(self, name: str, array: Any) -> np.ndarray:
        return check_classes(name, np.asarray(array), self)


@dataclass(frozen=True)
class Caption(Kind):
    """A caption: one string, which stays on the host."""

    on_device: ClassVar[bool] = False
    shape: ClassVar[tuple[int, ...]] = ()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.str_)

    def check(self, name: str, array: Any) -> np.ndarray:
        return check_strings(name, array)


KINDS = {kind.__name__.lower(): kind for kind in (Image, Video, Sound, Text, Class, Caption)}


def _refuse_first(name: str, array: np.ndarray, wrong: np.ndarray, rule: str) -> None:
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(f"{name}[{', '.join(map(str, at))}] is {array[at]}, but {rule}")


def check_strings(argument: str, values: Sequence[str]) -> np.ndarray:
    """`[N]` strings; raises ValueError for the first value that is none."""
    if isinstance(values, str):
        raise ValueError(f"{argument} must be a sequence of strings, got the one string {values!r}")
    values = list(values)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"{argument}[{i}] must be a string, got {value!r}")
    return np.asarray(values, dtype=np.str_)


def check_classes(name: str, labels: np.ndarray, kind: Class) -> np.ndarray:
    """`[N]` int32 labels; raises ValueError for the first one that is no whole number from 0 to the last class."""
    if labels.ndim != 1:
        hint = f" ({name}[:, 0], or {name}.argmax(axis=1) of one-hot ones)" if labels.ndim == 2 else ""
        raise ValueError(f"{name} must be [N], one number for each example{hint}, got shape {list(labels.shape)}")
    if labels.dtype.kind not in "iufb":
        raise ValueError(f"{name} must be whole numbers, got dtype {labels.dtype}: give the classes numbers from 0 on, "
                         "and their names as class_names")
    if labels.dtype.kind == "f":
        labels = labels.astype(np.float64)  # half precision does not reach the last number
    last = (kind.count if kind.count is not None else 2**31) - 1
    wrong = np.flatnonzero(~((labels >= 0) & (labels <= last) & (labels == np.floor(labels))))
    if wrong.size:
        last = f"{last}, the last of the class_names" if kind.names is not None else last
        raise ValueError(f"{name}[{wrong[0]}] is {labels[wrong[0]]}, but {name} must be whole numbers from 0 to {last}")
    return labels.astype(np.int32)
