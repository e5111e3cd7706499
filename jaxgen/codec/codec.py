"""Images to the bytes of a file, with any tokenizer and any model of probabilities.

    data = compress(codec, images)          # uint8 [N, H, W, C], C = 1 to 4: grey, grey and alpha, RGB, RGB and alpha
    images = decompress(codec, data)        # what `reconstruct(codec, images)` gives, to the last bit
"""

import functools
import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxgen.codec import guard
from jaxgen.codec import lossless as lossless_part
from jaxgen.codec.coder import Writer
from jaxgen.codec.file_format import Header, write_chunk
from jaxgen.codec.geometry import MAX_OVERLAP, Layout, join, split
from jaxgen.codec.probabilities import Plane, Probabilities

TILE, OVERLAP, GROUP = 512, 16, 64


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A tokenizer as the codec takes it, and the probabilities of its tokens.

    Attributes:
        to_planes: uint8 [B, h, w, channels] -> index maps, coarse to fine.
        from_planes: index maps -> uint8 [B, h, w, channels].
        plane_shapes: (h, w) of a block -> the (h, w) of each of its index maps.
        probabilities: of the tokens.
        channels: 1 or 3.
        step: what h and w of a block are multiples of.
        progressive: whether `from_planes` takes the first maps only.
        weights: digest of the tokenizer's weights.
        conceal: index maps, and for each whether it is known -> maps without gaps; None where no model can.
    """

    to_planes: Callable[[np.ndarray], list[Plane]]
    from_planes: Callable[[Sequence[Plane]], np.ndarray]
    plane_shapes: Callable[[tuple[int, int]], list[tuple[int, int]]]
    probabilities: Probabilities
    channels: int
    step: tuple[int, int]
    progressive: bool
    weights: str
    conceal: Callable[[list[Plane], list[bool]], list[Plane]] | None = None

    @property
    def planes(self) -> int:
        """Index maps of an image."""
        return len(self.probabilities.num_codes)

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits, by which a file names the codec that reads it."""
        return codec_digest(self.weights, self.probabilities)


def codec_digest(weights: str, probabilities: Probabilities) -> str:
    """The digest of a codec, of that of its tokenizer's weights and of its probabilities."""
    return hashlib.sha256(f"{weights} {probabilities.digest}".encode()).hexdigest()[:16]


def compress(
    codec: Codec, images: UInt8[np.ndarray, "N H W C"], *, levels: int | None = None, lossless: bool = False,
    tile: int = TILE, overlap: int = OVERLAP, group: int = GROUP,
) -> bytes:
    """A file of images of one size.

    Args:
        codec: see `Codec`.
        images: uint8 [N, H, W, C]: grey, grey and alpha, RGB, or RGB and alpha; alpha is kept bit for bit.
        levels: index maps of each image that are kept, the coarse ones first; all by default.
        lossless: adds what the reconstruction lacks.
        tile: the longest side of what is coded in one piece, in pixels; larger images are cut into such tiles.
        overlap: of neighbouring tiles.
        group: images, or tiles, of a chunk. What is damaged in a file is lost by whole chunks.

    Raises:
        ValueError: images that are no such bytes, or an option outside its range.
    """
    images = check_images(images)
    levels = _check_levels(codec, levels)
    colours, alpha = _without_alpha(images)
    layout = layout_of(codec, colours.shape[1:], tile, overlap)
    blocks = split(colours, layout)
    header = Header(
        digest=codec.digest, count=len(images), height=images.shape[1], width=images.shape[2],
        channels=colours.shape[3], planes=levels, tile=layout.tile, overlap=overlap, group=group, lossless=lossless,
        alpha=alpha is not None, inexact=not codec.probabilities.exact,
    )
    tokens = [codec.to_planes(blocks[part])[:levels] for part in groups_of(len(blocks), group)]
    parts = [header.to_bytes()]
    for chunk in codec.probabilities.chunks(levels):
        parts += [_write_tokens(codec, chunk, planes) for planes in tokens]
    if lossless:
        whole = join(np.concatenate([codec.from_planes(planes) for planes in tokens]), layout)
    for part in groups_of(len(images), group):
        if alpha is not None:
            parts.append(write_chunk(zlib.compress(alpha[part].tobytes(), 9), alpha[part].tobytes()))
        if lossless:
            parts.append(write_chunk(lossless_part.encode(colours[part], whole[part]), colours[part].tobytes()))
    return b"".join(parts)


def reconstruct(
    codec: Codec, images: UInt8[np.ndarray, "N H W C"], *, levels: int | None = None, tile: int = TILE,
    overlap: int = OVERLAP, group: int = GROUP,
) -> UInt8[np.ndarray, "N H W C"]:
    """What a file of the images gives back, one that is written with the same options."""
    images = check_images(images)
    colours, alpha = _without_alpha(images)
    layout, levels = layout_of(codec, colours.shape[1:], tile, overlap), _check_levels(codec, levels)
    blocks = split(colours, layout)
    planes = [codec.to_planes(blocks[part])[:levels] for part in groups_of(len(blocks), group)]
    restored = join(np.concatenate([codec.from_planes(part) for part in planes]), layout)
    return restored if alpha is None else np.concatenate([restored, alpha], axis=3)


def check_images(images: Any) -> UInt8[np.ndarray, "N H W C"]:
    """Images that can be coded; raises ValueError for others."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not 1 <= images.shape[3] <= 4 or 0 in images.shape:
        raise ValueError("images must be uint8 [N, H, W, C] with 1 to 4 channels and at least one pixel, got "
                         f"{images.dtype} {images.shape}: give one image an axis, x[None], and floats to "
                         "jaxgen.show.to_uint8")
    return images


def _without_alpha(images):
    return (images[..., :-1], images[..., -1:]) if images.shape[3] in (2, 4) else (images, None)


def _check_levels(codec, levels):
    if levels is None or levels == codec.planes:
        return codec.planes
    if not codec.progressive:
        raise ValueError(f"levels={levels}, but this tokenizer needs all of its {codec.planes} index maps: "
                         "leave it out")
    if not 1 <= levels <= codec.planes:
        raise ValueError(f"levels={levels} must be from 1 to {codec.planes}, the index maps of this tokenizer")
    return levels


def layout_of(codec: Codec, shape: tuple[int, int, int], tile: int, overlap: int) -> Layout:
    """How images of a shape (height, width, colours) are cut; raises ValueError for an option outside its range."""
    if tile < 1:
        raise ValueError(f"tile={tile} must be at least 1: the longest side of a tile in pixels")
    height, width, colours = shape
    multiple = math.lcm(*codec.step)
    side = max(tile // multiple, 1) * multiple
    most = min(side // 2, MAX_OVERLAP)
    if not 0 <= overlap <= most:
        raise ValueError(f"overlap={overlap} must be from 0 to {most}, half a tile and at most {MAX_OVERLAP}")
    return Layout(height, width, colours, codec.channels, codec.step, side, overlap)


def groups_of(count: int, size: int) -> list[slice]:
    """The blocks, or images, of each chunk."""
    if size < 1:
        raise ValueError(f"group={size} must be at least 1: images of a chunk")
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _write_tokens(codec, chunk, planes):
    known, before = np.stack([planes[plane] for plane in chunk], axis=-1), planes[:chunk[0]]
    if not codec.probabilities.exact:
        payload, tables = guard.write(codec.probabilities, chunk, before, known)
        return write_chunk(payload, content_of(known), tables)
    writer = Writer(known)
    codec.probabilities.code(chunk, before, known.shape[:3], writer)
    return write_chunk(writer.data(), content_of(known))


def content_of(tokens: np.ndarray) -> bytes:
    """Tokens as the sum of a chunk takes them."""
    return np.ascontiguousarray(tokens, "<u2").tobytes()
