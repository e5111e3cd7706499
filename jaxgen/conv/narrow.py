"""Convolutions from or to a few channels as one matrix product with few copies.

A matrix product wants rows of dozens of numbers; a window of 3x3 pixels of 3 channels has 27, and gathering them copies
three floats at a time. So a row here holds the windows of TILE neighbouring outputs, which overlap: with two outputs
and 3x3 taps, 36 numbers where separate windows have 54. The kernel is laid out once per output, shifted by a pixel
each, with zeros between. The way back to few channels is a product first and sums of shifted results after it.
"""

import jax.numpy as jnp
from jax import Array, lax

TILE = 2


def _pad(x: Array, before: tuple[int, int], size: tuple[int, int]) -> Array:
    """`[B, H, W, C]` to `[B, *size, C]` with `before` zeros at top and left; negative amounts crop."""
    config = [(0, 0, 0), *((low, m - n - low, 0) for low, m, n in zip(before, size, x.shape[1:3])), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _windows(x: Array, pads, size: tuple[int, int], kernel: tuple[int, int]) -> Array:
    """The inputs of TILE neighbouring outputs: `[B, H, W, C]` to `[B, h, tiles, kh * (TILE + kw - 1) * C]`."""
    (kh, kw), (height, width), (batch, *_, channels) = kernel, size, x.shape
    tiles = -(-width // TILE)
    x = _pad(x, (pads[0][0], pads[1][0]), (height + kh - 1, (tiles + 1) * TILE))
    x = x.reshape(batch, height + kh - 1, tiles + 1, TILE * channels)
    x = jnp.concatenate([x[:, :, :-1], x[:, :, 1:, : (kw - 1) * channels]], -1)
    return jnp.concatenate([x[:, u : u + height] for u in range(kh)], -1)


def from_few(x: Array, kernel: Array, pads, size: tuple[int, int]) -> Array:
    """The convolution of `[B, H, W, C]` with few C; `kernel` is at most TILE + 1 wide.

    Args:
        x: images.
        kernel: `[kh, kw, C, O]`.
        pads: zeros ((top, bottom), (left, right)); only top and left are read.
        size: height and width of the result.

    Returns:
        `[B, *size, O]`.
    """
    kh, kw, channels, features = kernel.shape
    shifted = [jnp.pad(kernel, ((0, 0), (t, TILE - 1 - t), (0, 0), (0, 0))) for t in range(TILE)]
    matrix = jnp.stack(shifted, 3).reshape(kh * (TILE + kw - 1) * channels, TILE * features)
    y = _windows(x, pads, size, (kh, kw)) @ matrix
    return y.reshape(x.shape[0], size[0], -1, features)[:, :, : size[1]]


def kernel_gradient(x: Array, dy: Array, pads, kernel: tuple[int, int]) -> Array:
    """The gradient of `from_few` with respect to its kernel, `[kh, kw, C, O]`."""
    (kh, kw), channels, (batch, height, width, features) = kernel, x.shape[3], dy.shape
    windows = _windows(x, pads, (height, width), kernel)
    dy = _pad(dy, (0, 0), (height, windows.shape[2] * TILE)).reshape(batch, height, -1, TILE * features)
    dk = lax.dot_general(windows, dy, (((0, 1, 2), (0, 1, 2)), ((), ())))
    dk = dk.reshape(kh, TILE + kw - 1, channels, TILE, features)
    return sum(dk[:, t : t + kw, :, t] for t in range(TILE))


def to_few(x: Array, kernel: Array, pads, size: tuple[int, int]) -> Array:
    """The convolution `[B, H, W, C]` to `[B, *size, O]` with few O; arguments as those of `from_few`."""
    kh, kw, channels, features = kernel.shape
    taps = x @ jnp.moveaxis(kernel, 2, 0).reshape(channels, -1)
    taps = taps.reshape(*x.shape[:3], kh, kw, features)
    (top, _), (left, _) = pads
    return sum(_pad(taps[:, :, :, u, v], (top - u, left - v), size) for u in range(kh) for v in range(kw))
