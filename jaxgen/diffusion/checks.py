"""Checks of concrete arguments; a traced value passes, because its number is not known yet."""

import jax
import numpy as np
from jax import Array

from jaxgen.checks import check_finite, check_floating, check_integers, concrete


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


def check_sigmas(sigmas, *, name: str = "sigmas") -> None:
    """Refuses a grid that is not [n + 1] strictly decreasing, finite, non-negative noise levels."""
    if np.ndim(sigmas) != 1 or np.shape(sigmas)[0] < 2:
        raise ValueError(f"{name} must be a vector of at least two noise levels, got shape {np.shape(sigmas)}")
    values = concrete(sigmas)
    if values is None:
        return
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"{name} must be finite and non-negative, got {values}")
    wrong = np.flatnonzero(np.diff(values) >= 0)
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"{name} must decrease strictly from noise to data, but {name}[{i}] = {values[i]} is followed by "
            f"{name}[{i + 1}] = {values[i + 1]}; see jaxgen.diffusion.karras_sigmas for a grid that fits"
        )


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


def numbered(sample_ids, batch: int) -> Array:
    """The samples' ids [B], 0 .. B - 1 where None is given; refuses another number of them, and fractions."""
    if sample_ids is None:
        return jax.numpy.arange(batch)
    check_integers("sample_ids", sample_ids)
    if np.shape(sample_ids) != (batch,):
        raise ValueError(f"sample_ids must name each of the {batch} samples, shape ({batch},); got "
                         f"{np.shape(sample_ids)}")
    return jax.numpy.asarray(sample_ids)


def sample_keys(key: Array, sample_ids, batch: int) -> Array:
    """[B] the key of each sample, fold_in(key, its id), which neither the batch nor the devices change."""
    check_key(key)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(numbered(sample_ids, batch))


def check_keep_mask(mask, shape: tuple[int, ...], *, of: str = "known") -> None:
    """Refuses a mask that is not boolean or does not broadcast to `shape`."""
    dtype = jax.numpy.asarray(mask).dtype
    if dtype != np.bool_:
        raise ValueError(f"mask must be boolean (True keeps `{of}`), got dtype {dtype}; compare it with a threshold")
    try:
        fits = np.broadcast_shapes(np.shape(mask), shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits or np.ndim(mask) != len(shape):
        raise ValueError(
            f"mask of shape {np.shape(mask)} does not fit `{of}` of shape {tuple(shape)}: give the same number of "
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
