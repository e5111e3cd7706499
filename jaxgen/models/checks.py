"""Checks of what networks and models are made with: zero features are an error before anything divides by them."""

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, get_args

from flax import linen as nn

from jaxgen.checks import check_count, check_finite

COUNTS = tuple[int, ...]


def check_counts(argument: str, values: Any, smallest: int = 1, *, length: int | None = None) -> tuple[int, ...]:
    """A list of whole numbers as a tuple of `int`.

    Raises:
        ValueError: it is none, is empty, has another length than `length`, or has an entry below `smallest`.
    """
    if not isinstance(values, tuple | list) or not values or len(values) != (length or len(values)):
        entries = "one entry or more" if length is None else f"{length} entries"
        raise ValueError(f"{argument} must be a list of {entries}, got {values!r}")
    return tuple(check_count(f"{argument}[{i}]", value, smallest) for i, value in enumerate(values))


def check_attributes(network: nn.Module, **smallest: int) -> None:
    """Checks the numbers among a network's attributes; for its `__post_init__`, before flax's.

    Whole numbers, those annotated `int` or `tuple[int, ...]`, become Python's, and lists tuples, so that equal networks
    are equal to `jit`; they must be 1 or more. Those annotated `float` must be finite.

    Args:
        network: whose attributes it has or will have.
        **smallest: by attribute, where that is not 1.

    Raises:
        ValueError: names attribute, network and value.
    """
    for field in dataclasses.fields(network):
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        value, argument = getattr(network, field.name), f"{field.name} of {type(network).__name__}"
        if value is None and NoneType in kinds:
            continue
        if COUNTS in kinds and (int not in kinds or isinstance(value, tuple | list)):
            if field.default != () or value != ():
                value = check_counts(argument, value, smallest.get(field.name, 1))
            setattr(network, field.name, value)
        elif int in kinds:
            setattr(network, field.name, check_count(argument, value, smallest.get(field.name, 1)))
        elif float in kinds:
            if value is None or isinstance(value, str | bool):
                raise ValueError(f"{argument} must be a number, got {value!r}")
            check_finite(argument, value)


def check_description(argument: str, description: Any) -> dict[str, Any]:
    """What a part of a model is described by, {"name": ..., its own arguments}, as a dict.

    Raises:
        ValueError: it is no mapping, or has no name.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("name"), str):
        raise ValueError(f"{argument} must be a description {{'name': ..., its own arguments}}, got {description!r}")
    return dict(description)
