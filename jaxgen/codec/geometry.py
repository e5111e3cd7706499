"""Images of any size and colour as the blocks that a tokenizer takes, and back.

Sides are filled up by repeating the last row and column. An image with a longer side than a tile is cut into tiles that
overlap, and put together with weights that rise across the overlap, in whole numbers.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

MAX_OVERLAP = 1024  # so that weighted sums of bytes stay below 2^31


class Layout(NamedTuple):
    """How images [N, height, width, colours] become blocks [M, h, w, channels].

    M counts images, then colours where each is an image of its own, then tiles by rows.

    Attributes:
        height, width, colours: of the images.
        channels: of a block; 3 of one colour are three times that colour, 1 of three colours is three blocks.
        step: what h and w are multiples of, by row and column.
        tile: the longest side of a block.
        overlap: of neighbouring tiles, up to `MAX_OVERLAP`.
    """

    height: int
    width: int
    colours: int
    channels: int
    step: tuple[int, int]
    tile: int
    overlap: int

    @property
    def separate(self) -> int:
        """Blocks of one channel for each colour."""
        return self.colours if self.channels == 1 else 1

    @property
    def rows(self) -> tuple[int, range]:
        """(h, the first row of each tile)."""
        return _tiles(self.height, self.step[0], self.tile, self.overlap)

    @property
    def columns(self) -> tuple[int, range]:
        """(w, the first column of each tile)."""
        return _tiles(self.width, self.step[1], self.tile, self.overlap)

    @property
    def block(self) -> tuple[int, int]:
        """(h, w) of every block."""
        return self.rows[0], self.columns[0]

    @property
    def tiles(self) -> int:
        """Of an image."""
        return len(self.rows[1]) * len(self.columns[1])

    @property
    def per_image(self) -> int:
        """Blocks of an image."""
        return self.separate * self.tiles


def split(images: UInt8[np.ndarray, "N H W C"], layout: Layout) -> UInt8[np.ndarray, "M h w c"]:
    """The blocks of images."""
    (high, tops), (wide, lefts) = layout.rows, layout.columns
    if layout.channels == 1 and layout.colours > 1:
        images = np.moveaxis(images, 3, 1).reshape(-1, *images.shape[1:3], 1)
    elif layout.channels > layout.colours:
        images = np.repeat(images, layout.channels, axis=3)
    fill = (tops[-1] + high - layout.height, lefts[-1] + wide - layout.width)
    images = np.pad(images, ((0, 0), (0, fill[0]), (0, fill[1]), (0, 0)), mode="edge")
    tiles = [images[:, top:top + high, left:left + wide] for top in tops for left in lefts]
    return np.stack(tiles, 1).reshape(-1, high, wide, layout.channels)


def join(blocks: UInt8[np.ndarray, "M h w c"], layout: Layout) -> UInt8[np.ndarray, "N H W C"]:
    """The images of blocks."""
    (high, tops), (wide, lefts) = layout.rows, layout.columns
    blocks = blocks.reshape(-1, len(tops), len(lefts), high, wide, layout.channels)
    if len(tops) == len(lefts) == 1:
        images = blocks[:, 0, 0, :layout.height, :layout.width]
    else:
        images = _blended(blocks, tops, lefts, layout)[:, :layout.height, :layout.width]
    if layout.channels == 1 and layout.colours > 1:
        return np.moveaxis(images.reshape(-1, layout.colours, *images.shape[1:3]), 1, 3)
    if layout.channels > layout.colours:
        sums = images.astype(np.int32).sum(3, keepdims=True)
        return ((2 * sums + layout.channels) // (2 * layout.channels)).astype(np.uint8)
    return images


def _blended(blocks, tops, lefts, layout):
    high, wide = blocks.shape[3:5]
    shape = (len(blocks), tops[-1] + high, lefts[-1] + wide, layout.channels)
    total, weights = np.zeros(shape, np.int32), np.zeros((1, *shape[1:3], 1), np.int32)
    for i, top in enumerate(tops):
        down = _ramp(high, layout.overlap, i > 0, i < len(tops) - 1)
        for j, left in enumerate(lefts):
            weight = (down[:, None] * _ramp(wide, layout.overlap, j > 0, j < len(lefts) - 1))[..., None]
            total[:, top:top + high, left:left + wide] += weight * blocks[:, i, j]
            weights[:, top:top + high, left:left + wide] += weight
    return ((2 * total + weights) // (2 * weights)).astype(np.uint8)


def _ramp(length, overlap, before, after):
    """The weights of a tile along an axis: from 1 up to overlap + 1 where it has a neighbour."""
    weights = np.full(length, overlap + 1, np.int32)
    if before:
        weights[:overlap] = np.arange(1, overlap + 1)
    if after:
        weights[length - overlap:] = np.arange(overlap, 0, -1)
    return weights


def _tiles(size, step, tile, overlap):
    """(length of the tiles, their starts) along an axis of `size` pixels."""
    if size <= tile:
        return -(-size // step) * step, range(1)
    count = -(-(size - overlap) // (tile - overlap))
    return tile, range(0, count * (tile - overlap), tile - overlap)
