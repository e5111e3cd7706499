"""What a contract asks of a function that a caller wrote: what it takes, and the types of what it gives back.

All of it is known while tracing, so that it costs nothing at run time.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def name_of(function: Callable) -> str:
    """The name of a function as it was defined, for messages: `ternary.<locals>.apply`."""
    function = getattr(function, "func", function)  # of a partial one
    return getattr(function, "__qualname__", type(function).__qualname__)


def check_call(argument: str, function: Callable, how: str, *values: Any, **options: Any) -> None:
    """Refuses a function that cannot be called with these values and options.

    Args:
        argument: what the function is, for the error.
        function: the caller's.
        how: the calls that the contract makes, for the error.
        values, options: of such a call.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables of C have none
        return
    try:
        signature.bind(*values, **options)
    except TypeError:
        raise ValueError(f"{argument} takes {signature}, and is called {how}") from None


def shapes_of(tree: Any) -> str:
    """A pytree with the types of its arrays, for messages: `Carry(x=float32[4, 3], memory=())`."""

    def describe(leaf):
        dtype = _dtype(leaf)
        return type(leaf).__name__ if dtype is None else f"{dtype}{list(np.shape(leaf))}"

    return str(jax.tree.map(describe, tree)).replace("'", "")


def keeps_types(before: Any, after: Any) -> bool:
    """Whether a pytree has the structure, shapes and dtypes of the one before it, so that a loop can carry it.

    A number of Python's own, or what was computed of such ones only, takes any dtype, as in `jax.lax.scan`.
    """

    def fits(old, new):
        weak = getattr(old, "weak_type", not hasattr(old, "dtype"))
        return np.shape(old) == np.shape(new) and (weak or _dtype(old) == _dtype(new))

    same = jax.tree.structure(before) == jax.tree.structure(after)
    return same and all(map(fits, jax.tree.leaves(before), jax.tree.leaves(after)))


def _dtype(leaf: Any) -> Any:
    """The dtype that JAX gives a leaf; None of what is no array."""
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.extended):
        return leaf.dtype  # of keys
    try:
        return jnp.result_type(leaf)
    except TypeError:
        return None
