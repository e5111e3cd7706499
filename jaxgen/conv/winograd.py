"""Winograd's minimal filtering for 3x3 convolutions of stride 1: three to four times fewer multiplications.

y = A^T [(G k G^T) * (B^T d B)] A

for each tile of M x M outputs, read from (M + 2) x (M + 2) inputs d; the product is summed over input channels,
which makes (M + 2)² matrix products.

Reference: Lavin, Gray, "Fast algorithms for convolutional neural networks", 2016, arXiv:1509.09308
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgen.core.mapped import vary_like

TILE = 4
WINDOW = TILE + 2
# The points 0, +-3/4, +-3/2 and infinity have a float32 error of a quarter of that of the usual 0, +-1, +-1/2.
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T [M, M+2], G [M+2, 3] and B^T [M+2, M+2] of the Cook-Toom algorithm on POINTS and infinity."""

    def powers(columns: int) -> np.ndarray:
        return np.vstack([np.vander(POINTS, columns, increasing=True), np.eye(columns)[-1:]])

    return powers(TILE).T, powers(3), np.linalg.inv(powers(WINDOW)).T


AT, G, BT = _matrices()
KERNEL_TRANSFORM = np.kron(G, G).astype(np.float32)


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """float32 zeros to carry through a loop over parts of `like`."""
    return vary_like(jnp.zeros(shape, jnp.float32), like)


def _weighted_rows(matrix: np.ndarray, parts: Sequence[Array], axis: int) -> Array:
    """stack_i sum_j matrix[i, j] parts[j] as one loop whose weights are data, over the columns that any row uses."""
    shape = [1] * (parts[0].ndim + 1)
    shape[axis] = len(matrix)
    terms = []
    for weights, part in zip(matrix.T, parts):
        if np.abs(weights).max() > 1e-9:
            same = np.ptp(weights) == 0
            weights = float(weights[0]) if same else jnp.asarray(weights, part.dtype).reshape(shape)
            terms.append(jnp.expand_dims(part, axis) * weights)
    return sum(terms[1:], terms[0])


def _combine(matrix: np.ndarray, parts: Sequence[Array], splits: Sequence[int], axis: int = 0) -> Array:
    """stack_i sum_j matrix[i, j] parts[j], where the rows between two splits share a loop.

    Fewer loops compile faster. One loop for all rows of a transform takes twice the time of the best division: it
    reads parts that few of its rows use.
    """
    return jnp.concatenate([_weighted_rows(rows, parts, axis) for rows in np.split(matrix, splits)], axis)


def _transform_input(x: Array, tiles: tuple[int, int]) -> Array:
    """B^T d B of each overlapping tile of a padded image: `[b, H, W, C]` to `[WINDOW**2, b*th*tw, C]`."""
    th, tw = tiles
    x = _combine(BT, [x[:, i : i + (th - 1) * TILE + 1 : TILE] for i in range(WINDOW)], [1])
    x = _combine(BT, [x[:, :, :, j : j + (tw - 1) * TILE + 1 : TILE] for j in range(WINDOW)], [1])
    return x.reshape(WINDOW * WINDOW, -1, x.shape[-1])


def _transform_output(products: Array, shape: tuple[int, ...]) -> Array:
    """A^T m A of each tile: `[WINDOW**2, b*th*tw, O]` to `[b, th*M, tw*M, O]`."""
    batch, th, tw, features = shape
    m = products.reshape(WINDOW, WINDOW, batch, th, tw, features)
    y = _combine(AT, list(m), [TILE - 1], axis=-2)
    y = _combine(AT, list(y), [TILE - 1], axis=2)
    return y.reshape(batch, th * TILE, tw * TILE, features)


def _transform_cotangent(dy: Array) -> Array:
    """A dy A^T of each tile: `[b, th*M, tw*M, O]` to `[WINDOW**2, b*th*tw, O]`."""
    y = _combine(AT.T, [dy[:, i::TILE] for i in range(TILE)], range(1, WINDOW))
    y = _combine(AT.T, [y[:, :, :, j::TILE] for j in range(TILE)], range(1, WINDOW))
    return y.reshape(WINDOW * WINDOW, -1, dy.shape[-1])


def transform_kernel(kernel: Array) -> Array:
    """G k G^T: `[3, 3, C, O]` to `[WINDOW**2, C, O]`, columns first as the data's transforms leave them."""
    _, _, cin, cout = kernel.shape
    k = jnp.swapaxes(kernel, 0, 1).reshape(9, cin * cout)
    return (KERNEL_TRANSFORM @ k).reshape(-1, cin, cout)


def transpose_kernel_transform(du: Array) -> Array:
    """G^T du G: the gradient of `transform_kernel`, `[WINDOW**2, C, O]` to `[3, 3, C, O]`."""
    _, cin, cout = du.shape
    dk = KERNEL_TRANSFORM.T @ du.reshape(WINDOW * WINDOW, cin * cout)
    return jnp.swapaxes(dk.reshape(3, 3, cin, cout), 0, 1)


def _pad(x: Array, pads, tiles: tuple[int, int]) -> Array:
    """Zeros around `[b, H, W, C]` (negative amounts crop), up to the last tile's edge."""
    config = [(0, 0, 0)]
    for size, (low, _), count in zip(x.shape[1:3], pads, tiles):
        config.append((low, count * TILE + 2 - size - low, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), [*config, (0, 0, 0)])


def tile_counts(size: tuple[int, int]) -> tuple[int, int]:
    """Tiles along rows and columns that cover an output of `size`."""
    return tuple(-(-s // TILE) for s in size)


def _product(a: Array, b: Array, contract: tuple[int, int]) -> Array:
    return lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((0,), (0,))))


def _rows(x: Array, block, count: int, overlap: int = 0) -> Array:
    """Tile rows `block * count` to `(block + 1) * count` of `[b, H, W, C]`."""
    return lax.dynamic_slice_in_dim(x, block * count * TILE, count * TILE + overlap, 1)


def forward(x: Array, u: Array, pads, size: tuple[int, int], rows: int) -> Array:
    """The convolution of `[b, H, W, C]` with a transformed kernel, `rows` tile rows at a time.

    Args:
        x: images `[b, H, W, C]`.
        u: the kernel by `transform_kernel`.
        pads: zeros ((top, bottom), (left, right)); only top and left are read.
        size: height and width of the result.
        rows: tile rows in one product, which bounds the memory.

    Returns:
        `[b, *size, O]`.
    """
    (th, tw), batch, features = tile_counts(size), x.shape[0], u.shape[-1]
    blocks = -(-th // rows)
    x = _pad(x, pads, (blocks * rows, tw))

    def block(part: Array) -> Array:
        products = _product(_transform_input(part, (rows, tw)), u, (2, 1))
        return _transform_output(products, (batch, rows, tw, features))

    def step(i, y):
        return lax.dynamic_update_slice_in_dim(y, block(_rows(x, i, rows, 2)), i * rows * TILE, 1)

    if blocks == 1:
        y = block(x)
    else:
        y = zeros((batch, blocks * rows * TILE, tw * TILE, features), x)
        y = lax.fori_loop(0, blocks, step, y)
    return y[:, : size[0], : size[1]]


def kernel_gradient(x: Array, dy: Array, pads, rows: int) -> Array:
    """The gradient with respect to the transformed kernel, `[WINDOW**2, C, O]`, `rows` tile rows at a time."""
    size = dy.shape[1:3]
    th, tw = tile_counts(size)
    blocks = -(-th // rows)
    x = _pad(x, pads, (blocks * rows, tw))
    dy = jnp.pad(dy, ((0, 0), (0, blocks * rows * TILE - size[0]), (0, tw * TILE - size[1]), (0, 0)))

    def block(x: Array, dy: Array) -> Array:
        return _product(_transform_input(x, (rows, tw)), _transform_cotangent(dy), (1, 1))

    if blocks == 1:
        return block(x, dy)
    du = zeros((WINDOW**2, x.shape[3], dy.shape[3]), x)
    return lax.fori_loop(0, blocks, lambda i, du: du + block(_rows(x, i, rows, 2), _rows(dy, i, rows)), du)
