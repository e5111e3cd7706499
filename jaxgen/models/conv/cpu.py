"""Which formulation a convolution takes on CPU, and the loop over images that keeps its pieces in the cache.

The rule: 1x1 without stride is a matrix product; 3x3 without stride or dilation is Winograd's, if channels and
tiles suffice; all else is the compiler's convolution.

Milliseconds on one core, in one run on a shared machine, alternated, float32, forward and both gradients, medians
(`python -m experiments.benchmark conv` measures again):

| shape, 3x3 (last: 1x1) | ours | native JAX | PyTorch, better layout | ours/PyTorch |
|---|---|---|---|---|
| [32,32,32,64]->64 | 80 | 161 | 100 | 0.80 |
| [32,16,16,128]->128 | 46 | 112 | 88 | 0.53 |
| [32,8,8,256]->256 | 88 | 100 | 80 | 1.10 |
| [64,32,32,32]->32 | 47 | 87 | 64 | 0.73 |
| [128,28,28,32]->32 | 54 | 139 | 92 | 0.58 |
| [32,32,32,3]->64 | 14 | 12 | 13 | 1.09 |
| [32,32,32,64]->3 | 11 | 15 | 20 | 0.55 |
| [64,14,14,64]->64 | 29 | 43 | 37 | 0.80 |
| [64,7,7,128]->128 | 27 | 43 | 30 | 0.89 |
| [32,16,16,128]->128 | 10 | 19 | 9 | 1.09 |

Tried and left: tiles of 2x2 (forward 1.0 to 1.5 times the time), tile transforms as matrix products (forward 1.2
to 2.7 times) or as weighted sums of broadcasts (2.3 times forward, half the compile time), and columns for three
input channels (no gain over native).
"""

from collections.abc import Callable
from math import gcd, prod

import jax.numpy as jnp
from jax import Array, lax

from jaxgen.models.conv import winograd

# Bytes of transformed inputs and outputs in one product: beyond these they leave the cache and time doubles.
FORWARD_BYTES = 10 << 20
GRADIENT_BYTES = 5 << 20
# Each pass of a new shape costs half a second to a second of compiling, and saves about half of the native time:
# at this size about half a millisecond a step, so that smaller convolutions would not win it back in 1,000 steps.
LEAST_OPERATIONS = 100e6
# With fewer tiles than this the kernel's own transform costs more than the products save.
LEAST_TILES = 16
LEAST_CHANNELS = 16
# Up to this many channels on one side, columns and one matrix product beat the compiler's convolution: the kernel
# gradient of [32,32,32,3]->64 takes 4.5 ms for 12.2, a convolution to 3 channels 2.9 ms for 3.6 (two cores).
MOST_FEW_CHANNELS = 4
COLUMN_BYTES = 16 << 20


def _plan(batch: int, size: tuple[int, int], channels: int, budget: int) -> tuple[int, int]:
    """Images per step and tile rows per product, as many as fit the budget.

    Images go in multiples of eight where the batch is one: a batch that lies on up to eight devices then stays
    where it is, each step taking as many images from each. Rows are divided only where so few images are too many.
    """
    rows, columns = winograd.tile_counts(size)
    row_bytes = 4 * winograd.WINDOW**2 * columns * channels
    least = gcd(batch, 8)
    chunks = [d for d in range(least, batch + 1, least) if batch % d == 0 and d * rows * row_bytes <= budget]
    chunk = max(chunks, default=least)
    return chunk, min(rows, max(1, budget // (chunk * row_bytes)))


def _split(x: Array, chunk: int) -> Array:
    """`[B, ...]` as `[chunk, steps, ...]`: step i takes images i, i + steps, i + 2 steps, and so on."""
    return x.reshape(chunk, x.shape[0] // chunk, *x.shape[1:])


def _pick(x: Array, step) -> Array:
    return lax.dynamic_index_in_dim(x, step, 1, keepdims=False)


def _winograd_conv(x: Array, kernel: Array, geometry) -> Array:
    size, batch, features = geometry.output(), x.shape[0], kernel.shape[3]
    chunk, rows = _plan(batch, size, x.shape[3] + features, FORWARD_BYTES)
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
    chunk, rows = _plan(batch, dy.shape[1:3], cin + cout, GRADIENT_BYTES)
    if chunk == batch:
        return winograd.transpose_kernel_transform(winograd.kernel_gradient(x, dy, geometry.pads, rows))
    xs, dys = _split(x, chunk), _split(dy, chunk)

    def step(i, du):
        return du + winograd.kernel_gradient(_pick(xs, i), _pick(dys, i), geometry.pads, rows)

    du = winograd.zeros((winograd.WINDOW**2, cin, cout), x)
    return winograd.transpose_kernel_transform(lax.fori_loop(0, xs.shape[1], step, du))


def _columns(x: Array, geometry) -> Array:
    """The pixels under each tap, `[b, h, w, kh * kw * C]`."""
    (height, width), (kh, kw) = geometry.output(), geometry.kernel
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in geometry.pads), (0, 0, 0)])
    return jnp.concatenate([x[:, u : u + height, v : v + width] for u in range(kh) for v in range(kw)], axis=-1)


def _column_kernel_gradient(x: Array, dy: Array, geometry) -> Array:
    """The kernel gradient where the input has few channels, as one product per chunk of images."""
    batch, taps = x.shape[0], prod(geometry.kernel)
    image_bytes = 4 * prod(dy.shape[1:3]) * taps * x.shape[3]
    least = gcd(batch, 8)
    chunk = max((d for d in range(least, batch + 1, least) if batch % d == 0 and d * image_bytes <= COLUMN_BYTES),
                default=least)
    xs, dys = _split(x, chunk), _split(dy, chunk)

    def product(i):
        return lax.dot_general(_columns(_pick(xs, i), geometry), _pick(dys, i), (((0, 1, 2), (0, 1, 2)), ((), ())))

    if chunk == batch:
        dk = product(0)
    else:
        zeros = winograd.zeros((taps * x.shape[3], dy.shape[3]), x)
        dk = lax.fori_loop(0, xs.shape[1], lambda i, dk: dk + product(i), zeros)
    return dk.reshape(*geometry.kernel, x.shape[3], dy.shape[3])


def _shifted_sum_conv(x: Array, kernel: Array, geometry) -> Array:
    """The convolution to few channels: one product for all taps, whose results are shifted and summed."""
    (height, width), (kh, kw), features = geometry.output(), geometry.kernel, kernel.shape[3]
    taps = jnp.moveaxis(kernel, 2, 0).reshape(x.shape[3], kh * kw * features)
    parts = lax.dot_general(x, taps, (((3,), (0,)), ((), ())))
    parts = lax.pad(parts, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in geometry.pads), (0, 0, 0)])
    y = 0.0
    for u in range(kh):
        for v in range(kw):
            first = (u * kw + v) * features
            y = y + parts[:, u : u + height, v : v + width, first : first + features]
    return y


def _is_dot(geometry) -> bool:
    return geometry.plain and geometry.kernel == (1, 1) and geometry.pads == ((0, 0), (0, 0))


def _takes_winograd(x: Array, features: int, geometry) -> bool:
    """Winograd pays where channels, tiles and work suffice and the tiles do not overhang the picture by much."""
    size = geometry.output()
    tiles = prod(winograd.tile_counts(size))
    operations = 2 * x.shape[0] * prod(size) * prod(geometry.kernel) * x.shape[3] * features
    return (
        geometry.plain
        and geometry.kernel == (3, 3)
        and min(x.shape[3], features) >= LEAST_CHANNELS
        and operations >= LEAST_OPERATIONS
        and x.shape[0] * tiles >= LEAST_TILES
        and tiles * winograd.TILE**2 <= 2 * prod(size)
        and x.dtype in (jnp.float32, jnp.bfloat16)
    )


def _in_float32(function: Callable, x: Array, other: Array, geometry) -> Array:
    return function(x.astype(jnp.float32), other.astype(jnp.float32), geometry).astype(x.dtype)


def conv(native: Callable, x: Array, kernel: Array, *, geometry) -> Array:
    """`conv_p` on CPU: `[B, H, W, Cin]` and `[kh, kw, Cin, Cout]` to `[B, h, w, Cout]`."""
    if _is_dot(geometry):
        return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
    if _takes_winograd(x, kernel.shape[3], geometry):
        return _in_float32(_winograd_conv, x, kernel, geometry)
    if geometry.plain and kernel.shape[3] <= MOST_FEW_CHANNELS < x.shape[3]:
        return _in_float32(_shifted_sum_conv, x, kernel, geometry)
    return native(x, kernel, geometry=geometry)


def kernel_gradient(native: Callable, x: Array, dy: Array, *, geometry) -> Array:
    """`kernel_gradient_p` on CPU: `[B, H, W, Cin]` and `[B, h, w, Cout]` to `[kh, kw, Cin, Cout]`."""
    if _is_dot(geometry):
        return lax.dot_general(x, dy, (((0, 1, 2), (0, 1, 2)), ((), ())))[None, None]
    if _takes_winograd(x, dy.shape[3], geometry):
        return _in_float32(_winograd_kernel_gradient, x, dy, geometry)
    if geometry.plain and dy.shape[3] < x.shape[3]:
        # With few channels first the columns are small, and the compiler is three times faster (2.5 ms for 7.8).
        dk = kernel_gradient(native, dy, x, geometry=geometry.transpose())
        return jnp.swapaxes(lax.rev(dk, (0, 1)), 2, 3)
    if geometry.plain and x.shape[3] <= MOST_FEW_CHANNELS < dy.shape[3]:
        return _in_float32(_column_kernel_gradient, x, dy, geometry)
    return native(x, dy, geometry=geometry)
