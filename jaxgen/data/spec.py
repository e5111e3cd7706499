"""What an example is: named entries in order, each of a kind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxgen.core.checks import choose
from jaxgen.data.kinds import KINDS, Class, Kind


class Spec(Mapping[str, Kind]):
    """What the entries of an example are, in order: {name: kind}.

    Args:
        entries: at least one Image, Video, Sound or Text; the first of them is what models are trained on.

    Raises:
        ValueError: no such entry, or an entry named "id" or "mask", which batches add.
        TypeError: a value is no kind.

    Example:
        >>> from jaxgen.data.kinds import Video
        >>> spec = Spec({"video": Video((8, 16, 16, 3)), "label": Class(10)})
        >>> spec.example, spec.example_shape, spec.num_classes
        ('video', (8, 16, 16, 3), 10)
        >>> spec_from_json(spec.to_json()) == spec
        True
    """

    def __init__(self, entries: Mapping[str, Kind]):
        self._entries = dict(entries)
        for name, kind in self._entries.items():
            if not isinstance(kind, Kind):
                raise TypeError(f"spec[{name!r}] must be a kind such as Image((28, 28, 1)), got {kind!r}")
            if name in ("id", "mask"):
                raise ValueError(f"spec has an entry {name!r}, which batches add by themselves: give it another name")
        if not any(kind.is_example for kind in self._entries.values()):
            raise ValueError(f"spec needs an Image, Video, Sound or Text to train on, got {self._entries}")

    def __getitem__(self, name: str) -> Kind:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Spec({self._entries})"

    @property
    def example(self) -> str:
        """The entry that models are trained on: the first Image, Video, Sound or Text."""
        return next(name for name, kind in self._entries.items() if kind.is_example)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """The shape of that entry in one example."""
        return self._entries[self.example].shape

    @property
    def num_classes(self) -> int | None:
        """The number of classes of the first Class; None without one, or where it is not known."""
        return next((kind.count for kind in self._entries.values() if isinstance(kind, Class)), None)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of those classes, or None."""
        return next((kind.names for kind in self._entries.values() if isinstance(kind, Class)), None)

    def to_json(self) -> list[dict[str, Any]]:
        """The entries in order as plain JSON, which `spec_from_json` reads."""
        return [{"name": name, **kind.to_json()} for name, kind in self._entries.items()]


def spec_from_json(entries: Sequence[Mapping[str, Any]]) -> Spec:
    """The spec that `Spec.to_json` wrote.

    Raises:
        ValueError: an entry has no name or an unknown kind, or its fields are no such kind's.
    """
    result = {}
    for i, entry in enumerate(entries):
        fields = dict(entry)
        name, kind = fields.pop("name", None), choose("kind of a spec", fields.pop("kind", None), KINDS)
        if not isinstance(name, str) or name in result:
            raise ValueError(f"spec[{i}] must have a name of its own, got {name!r}")
        try:
            result[name] = kind(**{key: tuple(value) if isinstance(value, list) else value
                                   for key, value in fields.items()})
        except TypeError as error:
            raise ValueError(f"spec[{i}], {name!r}, does not describe a {kind.__name__}: {error}") from error
    return Spec(result)
