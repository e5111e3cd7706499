"""Checks of what networks are made with: zero features are an error before anything divides by them."""

import dataclasses
from types import NoneType, UnionType
from typing import get_args

from flax import linen as nn

from jaxgen.core.checks import check_count, check_counts, check_finite

COUNTS = tuple[int, ...]


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
