"""Which formulation a convolution takes on CPU, and the loops that keep its pieces in the cache."""

from collections.abc import Callable
from math import gcd

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgen.models.conv import winograd

FORWARD_BYTES = 10 << 20
GRADIENT_BYTES = 5 << 20
WINOGRAD_CHANNELS = 16


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def chunk_size(batch: int, bytes_per_image: int, budget: int) -> int:
    """Images per step: the most that fit the budget, in multiples of eight where the batch is one.

    A batch divided over up to eight devices then stays where it is, each step taking as many from each.
    """
    least = gcd(batch, 8)
    return max([d for d in _divisors(batch) if d % least == 0 and d * bytes_per_image <= budget], default=least)


def vary_like(x: Array, *others: Array) -> Array:
    """`x`, marked inside shard_map as varying over the mesh axes that `others` vary over."""
    axes = frozenset().union(*(jax.typeof(o).mat.varying for o in others)) - jax.typeof(x).mat.varying
    return lax.pcast(x, tuple(axes), to="varying") if axes else x


def _zeros(shape: tuple[int, ...], like: Array) -> Array:
    return vary_like(jnp.zeros(shape, jnp.float32), like)


def _as_float32(function: Callable, *args: Array) -> Array:
    return function(*(a.astype(jnp.float32) for a in args)).astype(args[0].dtype)


def _chunks(x: Array, chunk: int) -> Array:
    """`[B, ...]` as `[chunk, steps, ...]`: step i takes images i, i + steps, i + 2 steps, and so on."""
    return x.reshape(chunk, x.shape[0] // chunk, *x.shape[1:])


def _pick(x: Array, step) -> Array:
    return lax.dynamic_index_in_dim(x, step, 1, keepdims=False)


def _transformed_bytes(size: tuple[int, int], channels: int) -> int:
    rows, columns = winograd.tile_counts(size)
    return 4 * winograd.WINDOW**2 * rows * columns * channels


def _winograd_conv(x: Array, kernel: Array, geometry) -> Array:
    size, channels = geometry.output(), x.shape[3] + kernel.shape[3]
    batch, features = x.shape[0], kernel.shape[3]
    chunk = chunk_size(batch, _transformed_bytes(size, channels), FORWARD_BYTES)
    u = winograd.transform_kernel(kernel)
    if chunk == batch:
        return winograd.forward(x, u, geometry.pads, size)
    chunks = _chunks(x, chunk)

    def step(i, y):
        part = winograd.forward(_pick(chunks, i), u, geometry.pads, size)
        return lax.dynamic_update_index_in_dim(y, part, i, 1)

    y = _zeros((*chunks.shape[:2], *size, features), x)
    return lax.fori_loop(0, chunks.shape[1], step, y).reshape(batch, *size, features)


def _winograd_kernel_gradient(x: Array, dy: Array, geometry) -> Array:
    batch, channels = x.shape[0], x.shape[3] + dy.shape[3]
    chunk = chunk_size(batch, _transformed_bytes(dy.shape[1:3], channels), GRADIENT_BYTES)
    if chunk == batch:
        return winograd.transpose_kernel_transform(winograd.kernel_gradient(x, dy, geometry.pads))
    xs, dys = _chunks(x, chunk), _chunks(dy, chunk)

    def step(i, du):
        return du + winograd.kernel_gradient(_pick(xs, i), _pick(dys, i), geometry.pads)

    du = _zeros((winograd.WINDOW**2, x.shape[3], dy.shape[3]), x)
    return winograd.transpose_kernel_transform(lax.fori_loop(0, xs.shape[1], step, du))


def _is_dot(geometry) -> bool:
    return geometry.plain and geometry.kernel == (1, 1) and geometry.pads == ((0, 0), (0, 0))


def _takes_winograd(x: Array, features: int, geometry) -> bool:
    return (
        geometry.plain
        and geometry.kernel == (3, 3)
        and min(x.shape[3], features) >= WINOGRAD_CHANNELS
        and x.dtype in (jnp.float32, jnp.bfloat16)
    )


def conv(native: Callable, x: Array, kernel: Array, *, geometry) -> Array:
    """`conv_p` on CPU."""
    if _is_dot(geometry):
        return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
    if _takes_winograd(x, kernel.shape[3], geometry):
        return _as_float32(lambda x, kernel: _winograd_conv(x, kernel, geometry), x, kernel)
    return native(x, kernel, geometry=geometry)


def kernel_gradient(native: Callable, x: Array, dy: Array, *, geometry) -> Array:
    """`kernel_gradient_p` on CPU."""
    if _is_dot(geometry):
        return lax.dot_general(x, dy, (((0, 1, 2), (0, 1, 2)), ((), ())))[None, None]
    if _takes_winograd(x, dy.shape[3], geometry):
        return _as_float32(lambda x, dy: _winograd_kernel_gradient(x, dy, geometry), x, dy)
    return native(x, dy, geometry=geometry)
