"""Checks of arguments that every part shares; each error names the argument, the value and the fix."""

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxgen.core.errors import unknown_name


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


def is_zero(value) -> bool:
    """True when the value is known to be zero while tracing, so that a term can be left out."""
    number = concrete(value)
    return number is not None and not number.any()


def check_batch(argument: str, x, *, floating: bool = True) -> None:
    """Refuses what is no batch [B, ...] of floating-point numbers, or of any without `floating`."""
    if not hasattr(x, "dtype"):
        raise ValueError(f"{argument} must be an array [B, ...], got {type(x).__name__}")
    if floating:
        check_floating(argument, x)
    if np.ndim(x) < 1:
        raise ValueError(f"{argument} must be a batch [B, ...], got a single number: give it an axis, {argument}[None]")


def check_same(argument: str, value, other_name: str, other) -> None:
    """Refuses what does not hold floating-point numbers in the shape of another array."""
    check_floating(argument, value)
    if np.shape(value) != np.shape(other):
        raise ValueError(f"{argument} must have {other_name}'s shape {np.shape(other)}, got {np.shape(value)}")


def check_key(key) -> None:
    """Refuses what is no single key: `jax.random.key(seed)`, or the older `jax.random.PRNGKey(seed)`."""
    dtype, shape = getattr(key, "dtype", None), np.shape(key)
    typed = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    if (typed and not shape) or (dtype == np.uint32 and len(shape) == 1):
        return
    if typed:
        got = f"keys of shape {shape}: give one of them"
    elif isinstance(key, (int, np.integer)):
        got = f"the integer {key}: use jax.random.key({key})"
    else:
        got = type(key).__name__ if dtype is None else f"an array of dtype {dtype} and shape {shape}"
    raise ValueError(f"key must be one key of jax.random.key(seed), got {got}")


def check_fraction(name: str, value, hint: str = "") -> None:
    """Refuses a number outside [0, 1]."""
    number = concrete(value)
    if number is not None and ((number < 0).any() or (number > 1).any() or np.isnan(number).any()):
        raise ValueError(f"{name} must be a fraction in [0, 1], got {value}{hint}")


def check_positive(name: str, value, hint: str = "") -> None:
    """Refuses a number that is not above zero, or infinite."""
    number = concrete(value)
    if number is not None and not (number > 0).all():
        raise ValueError(f"{name} must be positive, got {value}{hint}")
    check_finite(name, value)


def check_not_negative(name: str, value) -> None:
    """Refuses a number below zero, or infinite."""
    number = concrete(value)
    if number is not None and not (number >= 0).all():
        raise ValueError(f"{name} must not be below 0, got {value}")
    check_finite(name, value)


def check_keep_mask(keep, shape: tuple[int, ...], *, of: str = "known") -> None:
    """Refuses a keep mask that is not boolean or does not broadcast to `shape`; True keeps."""
    dtype = jax.numpy.asarray(keep).dtype
    if dtype != np.bool_:
        raise ValueError(f"keep must be boolean (True keeps `{of}`), got dtype {dtype}; compare it with a threshold")
    try:
        fits = np.broadcast_shapes(np.shape(keep), shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits or np.ndim(keep) != len(shape):
        raise ValueError(
            f"keep of shape {np.shape(keep)} does not fit `{of}` of shape {tuple(shape)}: give the same number of "
            "axes, each equal or 1 (for images [B, H, W, 1] keeps whole pixels)"
        )


def expand_to(values: Array, like: Array, *, name: str) -> Array:
    """A scalar or a map over `like` [B, ...] as it is, [B] as [B, 1, ..., 1]; refuses what does not fit `like`."""
    values = jax.numpy.asarray(values)
    of_a_map = values.ndim == like.ndim > 1 and all(n in (1, m) for n, m in zip(values.shape, like.shape))
    if values.ndim == 0 or of_a_map:
        return values
    if values.shape not in (like.shape[:1], (1,)):
        raise ValueError(f"{name} must be one number or one per sample, shape () or {like.shape[:1]}, or a map of "
                         f"{like.ndim} axes that fits {like.shape}; got {values.shape}")
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def check_range(argument: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raises ValueError unless `low <= value < high`; a traced value passes."""
    if not isinstance(value, jax.core.Tracer) and not low <= value < high:
        raise ValueError(f"{argument} must be at least {low} and below {high}, got {value!r}")


def check_alike(**arrays: Array) -> None:
    """Refuses what are not floating-point arrays [B, ...] of one shape; others would be broadcast without a word.

    Raises:
        ValueError: names the arguments, and their dtype or shapes.
    """
    for argument, x in arrays.items():
        check_floating(argument, x)
        if jnp.ndim(x) < 1:
            raise ValueError(f"{argument} must be [B, ...], got a single number: give it an axis of examples")
    shapes = [jnp.shape(x) for x in arrays.values()]
    if len(set(shapes)) > 1:
        raise ValueError(f"{' and '.join(arrays)} must have one shape, got {' and '.join(map(str, shapes))}")


def check_counts(argument: str, values: Any, smallest: int = 1, *, length: int | None = None) -> tuple[int, ...]:
    """A list of whole numbers as a tuple of `int`.

    Raises:
        ValueError: it is none, is empty, has another length than `length`, or has an entry below `smallest`.
    """
    if not isinstance(values, tuple | list) or not values or len(values) != (length or len(values)):
        entries = "one entry or more" if length is None else f"{length} entries"
        raise ValueError(f"{argument} must be a list of {entries}, got {values!r}")
    return tuple(check_count(f"{argument}[{i}]", value, smallest) for i, value in enumerate(values))


def choose(
    argument: str, name: Any, table: Mapping[str, Any], *, elsewhere: Mapping[str, Sequence[str]] | None = None
) -> Any:
    """`table[name]`, or an error that has the nearest name.

    Args:
        argument: what the name is, for the error.
        name: the caller's choice.
        table: what there is, by name.
        elsewhere: names of other libraries, as in `jaxgen.core.errors.unknown_name`.

    Raises:
        ValueError: the table has no such name; the message has the nearest one.

    Example:
        >>> from jaxgen.core.checks import choose
        >>> choose("solver", "heun", {"euler": 1, "heun": 2})
        2
        >>> choose("solver", "huen", {"euler": 1, "heun": 2})
        Traceback (most recent call last):
        ValueError: unknown solver 'huen': expected one of 'euler', 'heun'. Did you mean 'heun'?
    """
    if not isinstance(name, str) or name not in table:
        raise unknown_name(argument, name, table, elsewhere=elsewhere)
    return table[name]


def choose_options(
    argument: str, name: str, table: Mapping[str, Callable], options: Mapping[str, Any], *, taken: Sequence[str] = ()
) -> dict[str, Any]:
    """The keyword options of the function `table[name]`, out of a configuration that may hold more.

    Options that only other functions of the table take are left out: who changes a configuration's name keeps the
    options of the function that it named before. An option that no function takes is an error.

    Args:
        argument: what the name is, for the error.
        name: a key of the table.
        table: functions by name.
        options: keyword arguments.
        taken: parameters that the caller passes itself, which are no options.

    Raises:
        ValueError: no function of the table takes one of the options; names it, and the nearest that there is.

    Example:
        >>> from jaxgen.core.checks import choose_options
        >>> table = {"constant": lambda value: value, "power": lambda base, exponent=2: base**exponent}
        >>> choose_options("curve", "power", table, {"base": 3, "value": 1})
        {'base': 3}
    """
    known = {key: [option for option in inspect.signature(function).parameters if option not in taken]
             for key, function in table.items()}
    for option in options:
        if not any(option in names for names in known.values()):
            near = known[name] or list(dict.fromkeys(option for names in known.values() for option in names))
            raise unknown_name(f"option of {argument} {name!r}:", option, near)
    return {option: value for option, value in options.items() if option in known[name]}
