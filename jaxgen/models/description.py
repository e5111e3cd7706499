"""Descriptions of models and of their parts: plain values with a name, as a run's config.json holds them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from jaxgen.core.errors import unknown_name


def check_description(argument: str, description: Any) -> dict[str, Any]:
    """What a part of a model is described by, {"name": ..., its own arguments}, as a dict.

    Raises:
        ValueError: it is no mapping, or has no name.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("name"), str):
        raise ValueError(f"{argument} must be a description {{'name': ..., its own arguments}}, got {description!r}")
    return dict(description)


def call(what: str, function: Callable, arguments: Mapping[str, Any]) -> Any:
    """The function of arguments by name, lists as tuples.

    Raises:
        ValueError: an argument that it does not take, with the nearest one, or one that is missing.
    """
    parameters = inspect.signature(function).parameters
    takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for argument in arguments:
        if argument not in parameters and not takes_more:
            raise unknown_name(f"argument of {what}", argument, parameters)
    missing = [name for name, p in parameters.items()
               if p.default is p.empty and p.kind is not p.VAR_KEYWORD and name not in arguments]
    if missing:
        raise ValueError(f"{what} needs {', '.join(map(repr, missing))}, got only {sorted(arguments)}")
    return function(**{name: tuple(v) if isinstance(v, list) else v for name, v in arguments.items()})


def make_network(
    module: Callable, defaults: Mapping[str, Any], own: Mapping[str, Any] | None, dtype: str | None
) -> Any:
    """A Linen module of its description; types may be names such as "bfloat16".

    Raises:
        ValueError: see `call`; or the description is no mapping.
    """
    if own is not None and not isinstance(own, Mapping):
        raise ValueError(f"arguments of {module.__name__} must be a mapping {{name: value}}, got {own!r}")
    arguments = {"dtype": dtype, **defaults, **(own or {})}
    types = {name: to_dtype(name, arguments[name]) for name in ("dtype", "param_dtype")
             if arguments.get(name) is not None}
    return call(module.__name__, module, {**arguments, **types})


def to_dtype(argument: str, value: Any) -> Any:
    """A type of its name, or None."""
    if value is None:
        return None
    try:
        return jnp.dtype(value)
    except TypeError as error:
        raise ValueError(f"{argument} must name a type such as 'bfloat16', got {value!r}") from error
