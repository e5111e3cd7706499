"""Which formulation a convolution takes on CPU, and the loop over images that keeps its pieces in the cache.

The rule, for convolutions without stride or dilation that are large enough to gain: a 1x1 kernel is a matrix product; a
3x3 kernel is Winograd's, if there are enough channels and tiles; from or to up to four channels it is a matrix product
of windows. Convolutions whose output has fewer pixels than the kernel are also computed as matrix products. All others
are the compiler's own.

Milliseconds on two cores (AMD EPYC, AVX-512, tcmalloc), alternated in one run, float32, forward and both gradients,
medians, both JAX programs with the options of `jaxgen.core.cpu` (`python -m experiments.benchmark conv`):

| shape, 3x3 (one: 1x1) | ours | native JAX | PyTorch, better layout | ours/PyTorch |
|---|---|---|---|---|
| [32,32,32,64]->64 | 15.6 | 24.9 | 16.6 | 0.94 |
| [32,16,16,128]->128 | 8.3 | 17.6 | 14.3 | 0.58 |
| [32,8,8,256]->256 | 7.9 | 16.8 | 14.3 | 0.55 |
| [64,32,32,32]->32 | 10.9 | 15.1 | 8.5 | 1.28 |
| [128,28,28,32]->32 | 16.2 | 22.8 | 14.5 | 1.12 |
| [32,32,32,3]->64 | 1.4 | 3.9 | 2.0 | 0.72 |
| [32,32,32,64]->3 | 1.4 | 6.3 | 2.9 | 0.50 |
| [32,16,16,128]->128, 1x1 | 2.3 | 2.4 | 1.8 | 1.27 |
| [64,14,14,64]->64 | 6.3 | 7.3 | 5.4 | 1.17 |
| [64,7,7,128]->128 | 4.1 | 6.4 | 5.2 | 0.79 |

The geometric mean of the ratios is 0.84; on a processor with AVX2 it was 0.83, before products took 24 MB.

Tried without gain: tiles of 2x2 (forward 1.0 to 1.5 times the time), tile transforms as matrix products (forward 1.2
to 2.7 times) or as one loop for all rows of a transform (twice the time, half of the compile time). The product of a
kernel's gradient reaches a third of the rate of the others ([36, 1024, 64] twice: 90 GFLOP/s for 280); with one side
transposed first it does not, but the transposition costs more than that (7 ms for 11).
"""

from collections.abc import Callable
from math import gcd, prod

import jax.numpy as jnp
from jax import Array, lax

from jaxgen.conv import narrow, small, winograd

# Bytes of transformed inputs and outputs in one product: with twice as many they leave a cache of 32 MB, with half
# the loop's steps are too short to divide over cores ([64,32,32,32]: 10.4 ms, and 13.8 with 16 MB). The same for all
# passes, which then share compiled transforms.
PRODUCT_BYTES = 24 << 20
# Each pass of a new shape costs a third of a second of compiling, and saves about a third of the native time: at this
# size one or two milliseconds a step.
LEAST_OPERATIONS = 500e6
# With fewer tiles than this the kernel's own transform costs more than the products save.
LEAST_TILES = 16
LEAST_CHANNELS = 16
# Tiles that reach beyond the image by more than this cost a kernel's gradient more than they save, below so many
# channels: [64,14,14,64] 3.3 ms and 2.6 by the compiler's own, [64,7,7,128] 1.8 and 2.2.
KERNEL_GRADIENT_EXCESS = 1.25
KERNEL_GRADIENT_CHANNELS = 128
# From or to so few channels a product of windows beats the compiler's convolution: see the table.
FEW_CHANNELS = 4
# Products gain less, and compile as fast as a convolution: a millisecond or two of work is enough.
LEAST_PRODUCT_OPERATIONS = 100e6
# The compiler's convolution to a small map takes three (11x11, stride 4) to sixty times as long (3x3): half a
# millisecond at this size.
LEAST_SMALL_OPERATIONS = 10e6


def _plan(batch: int, size: tuple[int, int], channels: int) -> tuple[int, int]:
    """Images per step and tile rows per product, as many as fit PRODUCT_BYTES.

    Images go in multiples of eight where the batch is one: a batch that lies on up to eight devices then stays
    where it is, each step taking as many images from each. Rows are divided only where so few images are too many.
    """
    rows, columns = winograd.tile_counts(size)
    row_bytes = 4 * winograd.WINDOW**2 * columns * channels
    least = gcd(batch, 8)
    chunks = [d for d in range(least, batch + 1, least) if batch % d == 0 and d * rows * row_bytes <= PRODUCT_BYTES]
    chunk = max(chunks, default=least)
    return chunk, min(rows, max(1, PRODUCT_BYTES // (chunk * row_bytes)))


def _split(x: Array, chunk: int) -> Array:
    """`[B, ...]` as `[chunk, steps, ...]`: step i takes images i, i + steps, i + 2 steps, and so on."""
    return x.reshape(chunk, x.shape[0] // chunk, *x.shape[1:])


def _pick(x: Array, step) -> Array:
    return lax.dynamic_index_in_dim(x, step, 1, keepdims=False)


def _winograd_conv(x: Array, kernel: Array, geometry) -> Array:
    size, batch, features = geometry.output(), x.shape[0], kernel.shape[3]
    chunk, rows = _plan(batch, size, x.shape[3] + features)
    u = winograd.transform_kernel(kernel)
    if chunk == batch:
        return winograd.forward(x, u, geometry.pads, size, rows)
    chunks = _split(x, chunk)

    def step(i, y):
        part = winograd.forward(_pick(chunks, i), u, geometry.pads, size, rows)
        return lax.dynamic_update_index_in_dim(y, part, i, 1)

    y = winograd.zeros((*chunks.shape[:2], *size, features), x)
    return lax.fori_loop(0, chunks.shape[1], step, y).reshape(batch, *size, features)


def _winograd_kernel_gradient(x: Array, dy: Array, geometry) -> Array:
    batch, cin, cout = x.shape[0], x.shape[3], dy.shape[3]
    chunk, rows = _plan(batch, dy.shape[1:3], cin + cout)
    if chunk == batch:
        return winograd.transpose_kernel_transform(winograd.kernel_gradient(x, dy, geometry.pads, rows))
    xs, dys = _split(x, chunk), _split(dy, chunk)

    def step(i, du):
        return du + winograd.kernel_gradient(_pick(xs, i), _pick(dys, i), geometry.pads, rows)

    du = winograd.zeros((winograd.WINDOW**2, cin, cout), x)
    return winograd.transpose_kernel_transform(lax.fori_loop(0, xs.shape[1], step, du))


def _operations(x: Array, features: int, geometry) -> int:
    return 2 * x.shape[0] * prod(geometry.output()) * prod(geometry.kernel) * x.shape[3] * features


def _is_dot(x: Array, features: int, geometry) -> bool:
    return (
        geometry.plain
        and geometry.kernel == (1, 1)
        and geometry.pads == ((0, 0), (0, 0))
        and _operations(x, features, geometry) >= LEAST_PRODUCT_OPERATIONS
    )


def _takes_winograd(x: Array, features: int, geometry) -> bool:
    """Winograd pays with enough channels, tiles and operations, whose tiles reach little beyond the image."""
    size = geometry.output()
    tiles = prod(winograd.tile_counts(size))
    return (
        geometry.plain
        and geometry.kernel == (3, 3)
        and min(x.shape[3], features) >= LEAST_CHANNELS
        and _operations(x, features, geometry) >= LEAST_OPERATIONS
        and x.shape[0] * tiles >= LEAST_TILES
        and tiles * winograd.TILE**2 <= 2 * prod(size)
        and x.dtype in (jnp.float32, jnp.bfloat16)
    )


def _gradient_gains(x: Array, features: int, geometry) -> bool:
    size = geometry.output()
    covered = prod(winograd.tile_counts(size)) * winograd.TILE**2
    return covered <= KERNEL_GRADIENT_EXCESS * prod(size) or min(x.shape[3], features) >= KERNEL_GRADIENT_CHANNELS


def _is_narrow(x: Array, features: int, geometry) -> bool:
    return (
        geometry.plain
        and 1 < geometry.kernel[1] <= narrow.TILE + 1
        and min(x.shape[3], features) <= FEW_CHANNELS
        and _operations(x, features, geometry) >= LEAST_PRODUCT_OPERATIONS
        and x.dtype in (jnp.float32, jnp.bfloat16)
    )


def _is_small(x: Array, features: int, geometry) -> bool:
    return (
        prod(geometry.output()) < prod(geometry.kernel)
        and _operations(x, features, geometry) >= LEAST_SMALL_OPERATIONS
    )


def _narrow_conv(x: Array, kernel: Array, geometry) -> Array:
    function = narrow.from_few if x.shape[3] <= FEW_CHANNELS else narrow.to_few
    return function(x, kernel, geometry.pads, geometry.output())


def _narrow_kernel_gradient(x: Array, dy: Array, geometry) -> Array:
    return narrow.kernel_gradient(x, dy, geometry.pads, geometry.kernel)


def _pixels(x: Array) -> Array:
    """`[B, H, W, C]` as a matrix `[B * H * W, C]`: products of more axes take twice the time here."""
    return x.reshape(-1, x.shape[3])


def _in_float32(function: Callable, x: Array, other: Array, geometry) -> Array:
    return function(x.astype(jnp.float32), other.astype(jnp.float32), geometry).astype(x.dtype)


def conv(native: Callable, x: Array, kernel: Array, *, geometry) -> Array:
    """`conv_p` on CPU: `[B, H, W, Cin]` and `[kh, kw, Cin, Cout]` to `[B, h, w, Cout]`."""
    if _is_dot(x, kernel.shape[3], geometry):
        return (_pixels(x) @ kernel[0, 0]).reshape(*x.shape[:3], -1)
    if _takes_winograd(x, kernel.shape[3], geometry):
        return _in_float32(_winograd_conv, x, kernel, geometry)
    if _is_narrow(x, kernel.shape[3], geometry):
        return _in_float32(_narrow_conv, x, kernel, geometry)
    if _is_small(x, kernel.shape[3], geometry):
        return small.conv(x, kernel, geometry)
    return native(x, kernel, geometry=geometry)


def kernel_gradient(native: Callable, x: Array, dy: Array, *, geometry) -> Array:
    """`kernel_gradient_p` on CPU: `[B, H, W, Cin]` and `[B, h, w, Cout]` to `[kh, kw, Cin, Cout]`."""
    if _is_dot(x, dy.shape[3], geometry):
        return (_pixels(x).T @ _pixels(dy))[None, None]
    if _takes_winograd(x, dy.shape[3], geometry) and _gradient_gains(x, dy.shape[3], geometry):
        return _in_float32(_winograd_kernel_gradient, x, dy, geometry)
    if geometry.plain and dy.shape[3] < x.shape[3]:
        # Both the product of windows and the compiler's own form gather the windows of the first argument: three
        # times faster where it has the fewer channels.
        dk = kernel_gradient(native, dy, x, geometry=geometry.transpose())
        return jnp.swapaxes(lax.rev(dk, (0, 1)), 2, 3)
    if _is_narrow(x, dy.shape[3], geometry):
        return _in_float32(_narrow_kernel_gradient, x, dy, geometry)
    return native(x, dy, geometry=geometry)
