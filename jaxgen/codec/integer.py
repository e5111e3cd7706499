"""Arithmetic with one result on every machine: whole numbers in int32, and products that are exact in float32.

A product of whole numbers is exact in float32, in any order and with any number of threads, as long as no partial sum
passes 2^24: so it runs at the speed of any other product. All else is elementwise, or a sum that cannot overflow.

After Balle, Johnston & Minnen, "Integer networks for data compression with latent-variable models", 2019, who have the
same aim with other means.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

WEIGHT = 127  # the largest weight
ACTIVATION = (1 << 13) - 1  # the largest input of `product`
_LOW = 7
FRACTION = 15  # bits of a multiplier
LARGEST_ROWS = 1024  # of a matrix: 1024 * 127 * 127 < 2^24, and all products stay below 2^30


def product(a: Int[Array, "... K"], weights: Int[Array, "K M"]) -> Int[Array, "... M"]:
    """a @ weights.

    Args:
        a: numbers up to `ACTIVATION`. They go in two halves of 7 bits, whose sums stay below 2^24.
        weights: up to `WEIGHT`, with at most `LARGEST_ROWS` rows.
    """
    halves = jnp.stack([a >> _LOW, a & (1 << _LOW) - 1]).astype(jnp.float32)
    high, low = jnp.matmul(halves, weights.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST).astype(jnp.int32)
    return (high << _LOW) + low


def scale(x: Int[Array, "..."], multiplier: Int[Array, "..."], shift: int) -> Int[Array, "..."]:
    """round(x multiplier / 2^shift), halves upwards.

    Args:
        x: numbers below 2^30.
        multiplier: below 2^15, of either sign.
        shift: from 15.
    """
    half = 1 << FRACTION - 1 if shift == FRACTION else 0  # with more shifts than that the last one rounds
    whole = (x >> FRACTION) * multiplier + (((x & (1 << FRACTION) - 1) * multiplier + half) >> FRACTION)
    return round_shift(whole, shift - FRACTION)


def round_shift(x: Int[Array, "..."], shift: int) -> Int[Array, "..."]:
    """round(x / 2^shift), halves upwards."""
    return x if shift == 0 else (x + (1 << shift - 1)) >> shift


def square_root(x: Int[Array, "..."]) -> Int[Array, "..."]:
    """floor(sqrt(x)) of numbers from 0 to 2^30: a guess in floating point, put right in whole numbers."""
    root = jnp.sqrt(x.astype(jnp.float32)).astype(jnp.int32)
    for _ in range(2):
        root = jnp.where(root * root > x, root - 1, root)
    for _ in range(2):
        root = jnp.where((root + 1) * (root + 1) <= x, root + 1, root)
    return root


def normalize(x: Int[Array, "... D"], fraction: int) -> Int[Array, "... D"]:
    """(x - mean) / std over the last axis, of 2^-fraction.

    Args:
        x: numbers below 2^20, with D up to 1024. Of larger differences the low bits are left out.
        fraction: up to 15.
    """
    size = x.shape[-1]
    precision = 10 if size > 256 else 11  # so that the sum of squares stays below 2^31
    centred = x - _divide(_sum(x), size)
    most = jnp.max(jnp.abs(centred), -1, keepdims=True)
    shift = jnp.maximum(0, 32 - jax.lax.clz(most) - precision)
    centred = centred >> shift
    variance = _sum(centred * centred) // size
    root = jnp.maximum(square_root(variance << 8), 1)  # the std, of 2^-4
    return _divide(centred << 4 + fraction, root)


def softmax(scores: Int[Array, "... M"], exponentials: Int[Array, "T"], fraction: int) -> Int[Array, "... M"]:
    """exp(scores / grid) over their sum, of 2^-fraction; rounded down, so that the sum is at most 2^fraction.

    Args:
        scores: whole numbers below 2^30; what is to have no share is far below the others.
        exponentials: round(2^b exp(-i / grid)), which ends in 0; b + fraction up to 30.
        fraction: see above.
    """
    below = jnp.max(scores, -1, keepdims=True) - scores
    shares = exponentials[jnp.minimum(below, len(exponentials) - 1)]
    return (shares << fraction) // _sum(shares)


def to_multiplier(values: np.ndarray) -> tuple[np.ndarray, int]:
    """(multiplier, shift) of real numbers for `scale`, one shift from 15 to 45 for all.

    The largest one takes 15 bits, fewer below 2^-31.

    Raises:
        ValueError: a number from 1.
    """
    most = max(float(np.abs(values).max(initial=0)), 2.0**-31)
    shift = FRACTION - int(np.floor(np.log2(most))) - 1
    if shift < FRACTION:
        raise ValueError(f"numbers up to {most} have no multiplier: the network's ranges are out of proportion")
    return np.clip(np.rint(values * 2.0**shift), -(1 << FRACTION) + 1, (1 << FRACTION) - 1).astype(np.int32), shift


def _sum(x):
    """Over the last axis, in the type of x: with `jax_enable_x64` it would become a wider one."""
    return jnp.sum(x, -1, keepdims=True, dtype=x.dtype)


def _divide(x, divisor):
    """Rounded towards 0."""
    return jax.lax.div(x, jnp.broadcast_to(jnp.asarray(divisor, x.dtype), x.shape))
