"""Checks of arguments that every part shares; each error names the argument, the value and the fix."""

import operator

import jax
import jax.numpy as jnp
import numpy as np


def concrete(value) -> np.ndarray | None:
    """The value as a NumPy array, or None when it is traced by `jit`, `grad` or `vmap`."""
    if isinstance(value, jax.core.Tracer):
        return None
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return None


def check_floating(argument: str, x) -> None:
    """Raises ValueError unless `x` holds floating-point numbers: bytes of an image are not its values in [-1, 1]."""
    dtype = jnp.result_type(x)
    if jnp.issubdtype(dtype, jnp.floating):
        return
    fix = "convert images with jaxgen.data.to_float" if dtype == jnp.uint8 else f"cast it, {argument}.astype('float32')"
    raise ValueError(f"{argument} must hold floating-point numbers (images lie in [-1, 1]), got dtype {dtype}: {fix}")


def check_count(argument: str, value, smallest: int = 1) -> int:
    """The whole number as an `int`, of Python's kind or NumPy's; raises ValueError if it is none or too small."""
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < smallest:
        raise ValueError(f"{argument} must be an integer of at least {smallest}, got {value!r}")
    return number


def check_finite(argument: str, value) -> None:
    """Raises ValueError if a number, or one of an array, is NaN or infinite; the values of traced ones pass."""
    values = concrete(value)
    if values is None:
        return
    values = values.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        at = f" at position {np.unravel_index(wrong[0], values.shape)}" if values.ndim else ""
        raise ValueError(f"{argument} must be finite, got {values.flat[wrong[0]]}{at}")


def check_integers(argument: str, values, count: int | None = None) -> None:
    """Refuses what are no whole numbers, and those outside 0 .. count - 1 where a count is given."""
    dtype = values.dtype if hasattr(values, "dtype") else np.asarray(values).dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"{argument} must be whole numbers, got dtype {dtype}: cast it to int32")
    numbers = concrete(values)
    if count is None or numbers is None:
        return
    wrong = numbers[(numbers < 0) | (numbers >= count)]
    if wrong.size:
        raise ValueError(f"{argument} must lie within 0 .. {count - 1}, got {wrong[0]}")
