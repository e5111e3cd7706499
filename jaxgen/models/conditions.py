"""Conditions as values: what a model's samples are asked for. Classes, text, or nothing.

A condition knows what it takes of a batch of data, what the model's description gains, how it reaches the network, how
an option of the command line becomes one, and what stands for "no condition". A cond is a dict of arrays: {},
{"classes": [B]} or {"text": [B, L]}; encoded, text becomes "context" [B, M, E] and "context_mask" [B, M].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, PRNGKeyArray

from jaxgen.core.checks import check_count, choose
from jaxgen.core.errors import unknown_name
from jaxgen.core.types import PyTree
from jaxgen.models.description import call, check_description, make_network
from jaxgen.nn.text import TextEncoder, encode_text

Cond = dict[str, Any]


class Condition(Protocol):
    """What a model is conditioned on."""

    entries: Mapping[str, str]
    """{name in cond: entry of a batch of data}."""
    network: Mapping[str, Any]
    """Arguments of the network that takes it."""
    num_classes: int
    """0 where the condition is no class."""

    @classmethod
    def describe(cls, dataset: Any, description: Mapping[str, Any]) -> dict[str, Any]:
        """The description with what the data add to it; raises ValueError where the data do not have it."""

    @classmethod
    def from_description(cls, *, dtype: Any = None, **own: Any) -> "Condition": ...

    def prepare(self, dataset: Any) -> Any:
        """The data set with the entries that the condition takes of its batches."""

    def init(self, key: PRNGKeyArray) -> dict[str, PyTree]:
        """Parameters of its own, next to the network's; {} for none."""

    def encode(self, params: PyTree, cond: Mapping[str, Array] | None) -> Cond:
        """cond as the network takes it."""

    def null(self, count: int) -> Cond:
        """cond that stands for "no condition"."""

    def of_batch(self, batch: Mapping[str, Any]) -> Cond:
        """The cond that belongs to a batch of data."""

    def parse(self, count: int, *, classes: Sequence[int | str] | None = None, prompts: Sequence[str] | None = None,
              names: Sequence[str] | None = None) -> Cond:
        """The cond of `count` samples from what a user asks for, in turn; by default all classes, or none."""


@dataclass(frozen=True)
class Unconditional:
    """No condition."""

    entries: ClassVar[Mapping[str, str]] = {}
    network: ClassVar[Mapping[str, Any]] = {}
    num_classes: ClassVar[int] = 0

    @classmethod
    def describe(cls, dataset, description):
        return dict(description)

    @classmethod
    def from_description(cls, *, dtype=None):
        return cls()

    def prepare(self, dataset):
        return dataset

    def init(self, key):
        return {}

    def encode(self, params, cond):
        return _checked(cond, ())

    def null(self, count):
        return {}

    def of_batch(self, batch):
        return {}

    def parse(self, count, *, classes=None, prompts=None, names=None):
        _refuse("nothing", "leave it out", classes=classes, text=prompts)
        return {}


@dataclass(frozen=True)
class Classes:
    """One of `count` classes; the class `count` means "no class".

    Raises:
        ValueError: count is below 1; in `encode` a class out of range, as far as it is known while tracing; in `parse`
            an unknown class or text.
    """

    count: int
    entries: ClassVar[Mapping[str, str]] = {"classes": "label"}

    def __post_init__(self):
        object.__setattr__(self, "count", check_count("count of classes", self.count))

    @property
    def num_classes(self) -> int:
        return self.count

    @property
    def network(self):
        return {"num_classes": self.count}

    @classmethod
    def describe(cls, dataset, description):
        if not dataset.num_classes:
            raise ValueError(f"conditions 'classes' need labels, and {dataset.name} has none: use 'none'")
        return {**description, "count": dataset.num_classes}

    @classmethod
    def from_description(cls, *, count: int, dtype=None):
        return cls(count)

    def prepare(self, dataset):
        return dataset

    def init(self, key):
        return {}

    def encode(self, params, cond):
        cond = _checked(cond, ("classes",))
        classes = cond.get("classes")
        if classes is not None and not isinstance(classes, jax.core.Tracer):
            self._check(np.asarray(classes))
        return cond

    def null(self, count):
        return {"classes": jnp.full((count,), self.count, jnp.int32)}

    def of_batch(self, batch):
        return {"classes": jnp.asarray(batch["label"])}

    def parse(self, count, *, classes=None, prompts=None, names=None):
        _refuse("classes", "use --classes", text=prompts)
        chosen = range(self.count) if classes is None else [_class_number(c, names) for c in classes]
        if not len(chosen):
            raise ValueError(f"classes is empty: give some of 0 to {self.count - 1}, or leave it out for all")
        self._check(np.asarray(chosen))
        return {"classes": np.resize(np.asarray(chosen, np.int32), count)}

    def _check(self, classes: np.ndarray) -> None:
        outside = classes[(classes < 0) | (classes > self.count)]
        if outside.size:
            raise ValueError(f"classes must lie within 0 .. {self.count - 1}, or be {self.count} for none, got "
                             f"{outside[0]}")


@dataclass(frozen=True)
class Text:
    """Text of up to `length` bytes, which an encoder that is trained with the network turns to features.

    Attributes:
        encoder: `(tokens [B, L]) -> (features [B, M, E], mask [B, M])`.
        length: L, in bytes.

    Raises:
        ValueError: length is below 1; in `parse` a caption that is longer, or classes.
    """

    encoder: nn.Module
    length: int
    entries: ClassVar[Mapping[str, str]] = {"text": "text"}
    network: ClassVar[Mapping[str, Any]] = {"context": True}
    num_classes: ClassVar[int] = 0

    def __post_init__(self):
        object.__setattr__(self, "length", check_count("length of text, the bytes that are read,", self.length))

    @classmethod
    def describe(cls, dataset, description):
        return dict(description)

    @classmethod
    def from_description(cls, *, length: int, dtype=None, **own):
        return cls(make_network(TextEncoder, {}, own, dtype), length)

    def prepare(self, dataset):
        """The set with its captions as bytes, "text" [B, length], where longer ones end."""
        if "caption" not in dataset.take(np.arange(1)):
            raise ValueError(f"a model of text needs captions, and {dataset.name} has none: use conditions 'classes' "
                             "or 'none', or a set with captions such as noto_emoji")
        return dataset.map(
            lambda batch: {**batch, "text": encode_text([str(c) for c in batch["caption"]], self.length)})

    def init(self, key):
        return {"text": self.encoder.init(key, self.null(1)["text"])["params"]}

    def encode(self, params, cond):
        cond = _checked(cond, ("text", "context", "context_mask"))
        if "text" in cond:
            cond["context"], cond["context_mask"] = self.encoder.apply({"params": params["text"]}, cond.pop("text"))
        return cond

    def null(self, count):
        return {"text": jnp.zeros((count, self.length), jnp.int32)}

    def of_batch(self, batch):
        return {"text": jnp.asarray(batch["text"])}

    def parse(self, count, *, classes=None, prompts=None, names=None):
        _refuse("text", "use --prompt", classes=classes)
        chosen = [""] if prompts is None else list(prompts)
        if not chosen:
            raise ValueError("prompts is empty: give some, or leave it out for the empty caption")
        for prompt in chosen:
            if (length := len(prompt.encode("utf-8", "surrogateescape"))) > self.length:
                raise ValueError(f"prompt {prompt!r} has {length} bytes, and this model reads {self.length}: shorten "
                                 "it")
        return {"text": encode_text(chosen, self.length)[np.arange(count) % len(chosen)]}


UNCONDITIONAL = Unconditional()
CONDITIONS = {"none": Unconditional, "classes": Classes, "text": Text}


def describe_conditions(description: Mapping[str, Any], dataset: Any) -> dict[str, Any]:
    """A condition's description, {"name": a key of `CONDITIONS`, ...}, with what a data set adds to it.

    Raises:
        ValueError: an unknown name, or data without what the condition takes.
    """
    description = check_description("conditions", description)
    return choose("conditions", description["name"], CONDITIONS).describe(dataset, description)


def build_conditions(description: Mapping[str, Any] | None, dtype: Any = None) -> Condition:
    """The condition of a description; `Unconditional()` of None."""
    own = check_description("conditions", {"name": "none"} if description is None else description)
    make = choose("conditions", name := own.pop("name"), CONDITIONS).from_description
    return call(f"conditions {name!r}", make, {"dtype": dtype, **own})


def _checked(cond: Mapping[str, Array] | None, allowed: Sequence[str]) -> Cond:
    for name in cond or {}:
        if name not in allowed:
            takes = repr(allowed[0]) if allowed else "no condition"
            raise ValueError(f"cond has {name!r}, but this model takes {takes}")
    return dict(cond or {})


def _refuse(takes: str, advice: str, **asked: Any) -> None:
    for name, value in asked.items():
        if value is not None:
            raise ValueError(f"this model is conditioned on {takes}, so it cannot be asked for {name}: {advice}")


def _class_number(asked: int | str, names: Sequence[str] | None) -> int:
    """A class of that name where there is one, else the class of that number."""
    if isinstance(asked, str) and asked in (names or ()):
        return list(names).index(asked)
    try:
        number = int(str(asked))
    except ValueError:
        number = None
    # The number after the last class stands for none.
    if names and (number is None or not 0 <= number <= len(names)):
        raise unknown_name("class", asked, names)
    if number is None:
        raise ValueError(f"class {asked!r} is not a whole number, and this run's classes have no names")
    return number
