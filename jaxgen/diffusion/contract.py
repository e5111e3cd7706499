"""What everything that calls a denoiser or a solver asks of it; the words are those of the package's docstring."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgen.core.callables import check_call
from jaxgen.core.checks import check_floating, concrete

BoundDenoiser = Callable[[Array, Array], Array]
"""(x [B, ...], sigma []) -> x0_hat [B, ...]; a `Denoiser` whose cond is bound."""
CONTRACT = "a denoiser is (x [B, ...], sigma [] or [B], cond) -> x0_hat [B, ...]; see help(jaxgen.diffusion)"


def checked(denoiser: Callable) -> Callable:
    """The denoiser, whose arguments are counted now and whose result is checked to be one array where it is called."""
    if not callable(denoiser):
        raise ValueError(f"denoiser must be a function, got {type(denoiser).__name__}: {CONTRACT}")
    check_call("denoiser", denoiser, f"with three arguments in this order, even where cond is None: {CONTRACT}",
               "x", "sigma", "cond")

    def call(x: Array, sigma: Array, cond: Any = None) -> Array:
        result = denoiser(x, sigma, cond)
        _check_array(result, "the denoiser", "x0_hat")
        return result

    return call


def bind(denoiser: Callable, cond: Any) -> BoundDenoiser:
    """`(x, sigma) -> x0_hat` in x's dtype, of a denoiser that keeps to the contract.

    Raises:
        ValueError: now, for what cannot be called with three arguments; when called, for a result that is no x0_hat, or
            a denoiser that fails for a scalar sigma only. Its other errors pass as they are.
    """
    call = checked(denoiser)

    def bound(x: Array, sigma: Array) -> Array:
        try:
            result = call(x, sigma, cond)
        except Exception as error:
            if jnp.ndim(sigma) == 0 and _takes_vectors_only(call, x, sigma, cond):
                raise ValueError(
                    "the denoiser fails for a scalar sigma, which samplers give it, and not for a vector: hand it "
                    f"jnp.broadcast_to(sigma, x.shape[:1]) instead; {CONTRACT}") from error
            raise
        check_prediction(result, x, "the denoiser", "x0_hat")
        return result.astype(x.dtype)

    return bound


def _takes_vectors_only(denoiser: Callable, x: Array, sigma: Array, cond: Any) -> bool:
    try:
        jax.eval_shape(lambda x: denoiser(x, jnp.broadcast_to(sigma, x.shape[:1]), cond), x)
    except Exception:
        return False
    return True


def _check_array(result: Any, who: str, what: str) -> None:
    if not (hasattr(result, "shape") and hasattr(result, "dtype")):
        fix = f"return its first entry, if that is {what}" if isinstance(result, (tuple, list)) else "return that array"
        raise ValueError(f"{who} must return one array, {what}, got {type(result).__name__}: {fix}")


def check_prediction(result: Any, x: Array, who: str, what: str) -> None:
    """Refuses what is not one floating-point array of x's shape."""
    _check_array(result, who, what)
    if result.shape != x.shape:
        twice = x.ndim > 1 and result.shape == (*x.shape[:-1], 2 * x.shape[-1])
        raise ValueError(f"{who} must return {what} of x's shape {x.shape}, got {result.shape}"
                         f"{': of a network that learns its variance too, keep the first half' * twice}")
    check_floating(f"what {who} returns", result)


def check_solver(solver: Any) -> None:
    """Refuses a solver's name, and a solver that was not made yet."""
    if hasattr(solver, "init") and hasattr(solver, "step") and not isinstance(solver, type):
        return
    if isinstance(solver, str):
        fix = f"make it with jaxgen.diffusion.get_solver({solver!r})"
    elif callable(solver):
        name = getattr(solver, "__name__", type(solver).__name__)
        fix = f"call it first, {name}()"
    else:
        fix = "make one, such as jaxgen.diffusion.heun()"
    raise ValueError(f"solver must be a Solver, got {solver!r}: {fix}")


def check_start(x: Array, sigma: Any) -> None:
    """Refuses standard normal noise where sampling starts at a level of 8 or more, as far as values are known.

    There x = x0 + sigma eps varies eight times as much, at least. At least 64 numbers whose mean and std are 0 and 1 to
    within three standard errors are noise that was not scaled. Zeros, constants, small tests, noise of a lower
    temperature and what `invert` makes of images of little contrast pass, as long as their std is not 1 by chance.
    """
    level = concrete(sigma)
    if level is None or isinstance(x, jax.core.Tracer) or not getattr(x, "is_fully_addressable", True):
        return
    if level < 8 or x.size < 64:
        return
    values = np.asarray(x, np.float32)
    error = 3 / values.size**0.5
    if abs(values.mean()) < error and abs(values.std() - 1) < error / 2**0.5:
        raise ValueError(
            f"x is noise of std {values.std():.3g}, but at the first noise level, sigmas[0] = {float(level):.4g}, it "
            "has at least that std: start from prior_sample(key, shape, sigmas[0]), which is sigmas[0] times standard "
            "normal noise, or from data with sdedit (`integrate` takes x as it is)")


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
