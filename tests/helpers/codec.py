"""A tokenizer of plain NumPy as the codec takes it, and transfers that remember what they were asked."""

import numpy as np

from jaxgen.codec import Codec, Reader, Static, Writer, frequencies

CODES = 4


def even(*num_codes):
    """Tables in which the symbols of a plane are about equally likely, but not quite."""
    return Static(tables=tuple(frequencies(np.arange(codes) + 9) for codes in num_codes))


def grey_levels(probabilities=None, *, channels=1, progressive=True, coarse=2, conceal=None):
    """Means of 2x2 pixels in 16 levels as two planes of four codes: the two high bits, then the two low ones.

    The first plane has one code for `coarse` x `coarse` pixels, the high bits of their mean.
    """

    def means(blocks, side):
        count, height, width, colours = blocks.shape
        parts = blocks.reshape(count, height // side, side, width // side, side, colours).astype(int)
        return parts.sum((2, 4, 5)) // (side * side * colours)

    def to_planes(blocks):
        return [means(blocks, coarse) // 64, means(blocks, 2) // 16 % CODES]

    def from_planes(planes):
        high = planes[0].repeat(coarse, 1).repeat(coarse, 2)
        grey = 64 * high + (32 if len(planes) == 1 else 8 + 16 * planes[1].repeat(2, 1).repeat(2, 2))
        return np.repeat(grey[..., None], channels, 3).astype(np.uint8)

    return Codec(
        to_planes=to_planes, from_planes=from_planes,
        plane_shapes=lambda block: [tuple(side // own for side in block) for own in (coarse, 2)],
        probabilities=probabilities or even(CODES, CODES), channels=channels, step=(coarse, coarse),
        progressive=progressive, weights="grey levels", conceal=conceal)


class RecordingWriter(Writer):
    """Remembers the tables, in `tables`."""

    def __init__(self, known):
        super().__init__(known)
        self.tables = []

    def __call__(self, table, places):
        self.tables.append(np.array(table))
        return super().__call__(table, places)


class RecordingReader(Reader):
    """Remembers the tables, in `tables`."""

    def __init__(self, data, shape):
        super().__init__(data, shape)
        self.tables = []

    def __call__(self, table, places, count=None):
        self.tables.append(np.array(table))
        return super().__call__(table, places, count)


def round_trip(probabilities, chunk, planes):
    """(planes as they are read, bytes, the writer, the reader) of a chunk of planes that were written."""
    known = np.stack([planes[plane] for plane in chunk], -1)
    writer = RecordingWriter(known)
    probabilities.code(chunk, planes[:chunk[0]], known.shape[:3], writer)
    reader = RecordingReader(writer.data(), known.shape)
    found = probabilities.code(chunk, planes[:chunk[0]], known.shape[:3], reader)
    return found, writer.data(), writer, reader


def same_tables(writer, reader):
    """Whether both saw equal tables in the same order."""
    return len(writer.tables) == len(reader.tables) and all(map(np.array_equal, writer.tables, reader.tables))


def images(shape, seed=0):
    """Smooth bytes [N, H, W, C] with a little noise."""
    count, height, width, channels = shape
    rng = np.random.default_rng(seed)
    y, x = np.arange(height)[:, None, None] / 7, np.arange(width)[:, None] / 5
    phase = rng.uniform(0, 6, (count, 1, 1, channels))
    return np.clip(120 + 90 * np.sin(y + x + phase) + rng.normal(0, 4, shape), 0, 255).astype(np.uint8)
