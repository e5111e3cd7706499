"""The bytes of a file to images, or to what is left of them."""

import math
import warnings
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from jaxgen.codec import guard
from jaxgen.codec import lossless as lossless_part
from jaxgen.codec.codec import Codec, content_of, groups_of, layout_of
from jaxgen.codec.coder import Reader
from jaxgen.codec.file_format import Chunk, FileError, Header, check_sum, read_chunk, read_header
from jaxgen.codec.geometry import join

MAX_PIXELS = 1 << 26


class DamageWarning(UserWarning):
    """A file of which only a part can be read."""


class Decoded(NamedTuple):
    """What a file holds.

    Attributes:
        images: uint8 [N, H, W, C].
        planes: [N] the least number of index maps that a tile of the image was decoded from.
        concealed: [N] whether parts of it were lost and made up.
    """

    images: UInt8[np.ndarray, "N H W C"]
    planes: np.ndarray
    concealed: Bool[np.ndarray, "N"]


def decompress(codec: Codec, data: bytes, **options: Any) -> UInt8[np.ndarray, "N H W C"]:
    """The images of a file: those of `reconstruct`, or of a lossless file the original ones. See `decode`."""
    return decode(codec, data, **options).images


def decode(codec: Codec, data: bytes, *, conceal: bool = False, lossless: bool = True, max_pixels: int = MAX_PIXELS
           ) -> Decoded:
    """What a file holds; of one that is cut off or damaged what is left of it, with a `DamageWarning`.

    Args:
        codec: the one that wrote it.
        data: of `compress`.
        conceal: makes up what is lost, and says of which images.
        lossless: False gives the reconstruction where the file holds the original.
        max_pixels: of all images, filled up to whole tiles; a larger file is refused.

    Raises:
        FileError: no such file, one of another codec, or one of which an image is lost (without `conceal`).
    """
    header, start = read_header(data)
    _check_header(codec, header)
    try:
        layout = layout_of(codec, (header.height, header.width, header.channels), header.tile, header.overlap)
        parts = codec.probabilities.chunks(header.planes)
    except ValueError as error:
        raise FileError(f"the header has numbers that no file of this codec has: {error}") from error
    pixels = header.count * layout.tiles * math.prod(layout.block)
    if pixels > max_pixels:
        raise FileError(f"the file holds {pixels} pixels, filled up to whole tiles, more than max_pixels={max_pixels}: "
                        "raise it if you trust the file")
    shapes, groups = codec.plane_shapes(layout.block), groups_of(header.count * layout.per_image, header.group)
    chunks = _Chunks(data, start)
    tokens = _read_tokens(codec, chunks, parts, shapes, groups)
    coarser = chunks.lost
    tokens, used, made_up = _complete(codec, tokens, shapes, groups, header.planes, conceal)
    images = join(np.concatenate([codec.from_planes(planes) for planes in tokens]), layout)
    images = _read_pixels(chunks, header, images, lossless and not coarser)
    if chunks.lost:
        effects = ["images are coarser than they were, or made up"] * bool(coarser)
        effects += ["pixels are not those of the original"] * (header.lossless and lossless)
        effects += ["alpha may be missing"] * header.alpha
        warnings.warn(f"the file is damaged or cut off, chunks lost: {chunks.lost}; {', '.join(effects)}",
                      DamageWarning, stacklevel=2)
    return Decoded(images, used.reshape(header.count, -1).min(1), made_up.reshape(header.count, -1).any(1))


class _Chunks:
    """The chunks of a file, one after the other.

    Attributes:
        lost: how many are damaged, or missing because the file is cut off.
    """

    def __init__(self, data: bytes, start: int):
        self._data, self._start, self.lost = data, start, 0

    def next(self, *, tables: bool = False) -> Chunk | None:
        """The next one as it stands there; None where there is none."""
        chunk = None if self._start is None else read_chunk(self._data, self._start, tables=tables)
        self._start = None if chunk is None else chunk.end
        return chunk

    def content(self, restore: Callable[[bytes], np.ndarray]) -> np.ndarray | None:
        """What the next one stands for, or None where it is damaged or missing."""
        chunk = self.next()
        try:
            content = None if chunk is None else restore(chunk.payload)
        except ValueError:
            content = None
        if content is None or check_sum(chunk.payload + content.tobytes()) != chunk.sum:
            self.lost += 1
            return None
        return content


def _check_header(codec: Codec, header: Header) -> None:
    if header.digest != codec.digest:
        raise FileError(f"the file was written by the codec {header.digest}, and this one is {codec.digest}: give the "
                        "checkpoint, and the model of probabilities, that it was written with")
    if header.planes > codec.planes or (header.planes < codec.planes and not codec.progressive):
        raise FileError(f"the file has {header.planes} index maps of an image, and this codec has {codec.planes}")


def _read_tokens(codec, chunks, parts, shapes, groups):
    """The planes of each group, as many as can be read."""
    tokens = [[] for _ in groups]
    for numbers in parts:
        for planes, group in zip(tokens, groups):
            chunk, read = chunks.next(tables=not codec.probabilities.exact), []
            if chunk is not None and len(planes) == numbers[0]:
                shape = (group.stop - group.start, *shapes[numbers[0]])
                read = _read_chunk(codec, numbers, planes, shape, chunk)
            planes += read
            chunks.lost += not read
    return tokens


def _read_chunk(codec, numbers, before, shape, chunk):
    """The planes of a chunk, or none where it is damaged."""
    model, tables = codec.probabilities, None
    try:
        if chunk.tables is None:
            planes = model.code(numbers, before, shape, Reader(chunk.payload, (*shape, len(numbers))))
        else:
            planes, tables = guard.read(model, numbers, before, (*shape, len(numbers)), chunk.payload)
    except ValueError:
        return []
    if check_sum(chunk.payload + content_of(np.stack(planes, -1))) == chunk.sum:
        return planes
    if tables != chunk.tables:
        warnings.warn("the probabilities of a chunk are not those that it was written with: the file is damaged, or "
                      "this device computes the prior otherwise", DamageWarning, stacklevel=5)
    return []


def _complete(codec, tokens, shapes, groups, count, conceal):
    """(planes that can be decoded, how many of each block are of the file [M], whether some were made up [M])."""
    used, made_up, result = [], [], []
    for planes, group in zip(tokens, groups):
        size = group.stop - group.start
        enough = len(planes) == count or bool(planes and codec.progressive)
        used += [len(planes)] * size
        made_up += [not enough] * size
        if not enough:
            planes = _concealed(codec, planes, shapes[:count], group, conceal)
        result.append(planes)
    return result, np.array(used), np.array(made_up)


def _concealed(codec, planes, shapes, group, conceal):
    if not conceal or codec.conceal is None:
        first, last = group.start, group.stop - 1
        which = f"image or tile {first} is" if first == last else f"images or tiles {first} to {last} are"
        advice = ("this codec has no masked prior that could make it up" if codec.conceal is None else
                  "conceal (conceal=True, --conceal) makes it up")
        raise FileError(f"{which} lost, and {advice}")
    size = group.stop - group.start
    empty = [np.zeros((size, *shape), np.int64) for shape in shapes[len(planes):]]
    return codec.conceal([*planes, *empty], [i < len(planes) for i in range(len(shapes))])


def _read_pixels(chunks, header, images, lossless):
    """The images with their alpha, and bit for bit where the file holds that."""
    images, alpha = images.copy(), np.full((*images.shape[:3], 1), 255, np.uint8)
    for group in groups_of(header.count, header.group):
        if header.alpha:
            content = chunks.content(lambda data, group=group: _inflate(data, alpha[group].shape))
            alpha[group] = 255 if content is None else content
        if header.lossless and not lossless:
            chunks.next()
        elif header.lossless:
            content = chunks.content(lambda data, group=group: lossless_part.decode(data, images[group]))
            images[group] = images[group] if content is None else content
    return np.concatenate([images, alpha], axis=3) if header.alpha else images


def _inflate(data, shape):
    """The bytes of an array of this shape, and no more of them; raises ValueError where there are others."""
    size = int(np.prod(shape))
    try:
        content = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError("the alpha is damaged") from error
    if len(content) != size:
        raise ValueError("the alpha is of another size")
    return np.frombuffer(content, np.uint8).reshape(shape)
