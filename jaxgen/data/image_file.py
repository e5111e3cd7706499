"""One reader for all image files of a user: every mode that Pillow opens, upright, opaque, with 8 bits per channel."""

import contextlib
import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Tried by content, whatever the file is called. Pillow knows more, of which one runs a program (EPS) and most hold no
# photographs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# Tags of TIFF, of which EXIF has the last, and some of their values.
BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, PLANAR, ORIENTATION, SAMPLE_FORMAT = 258, 259, 262, 284, 274, 339
UNCOMPRESSED, WHITE_IS_ZERO, SEPARATE_PLANES, SIGNED = 1, 0, 2, 2
EXIF_START = b"Exif\0\0"
# No photograph of so many pixels has so few bytes; a damaged header claims them, and memory would be spent on them.
MANY_PIXELS, PIXELS_PER_BYTE = 2**24, 10_000


class UnreadableImageError(ValueError):
    """A file that holds no image, or a damaged one; the message names it."""


def read_image(path: str | os.PathLike) -> Any:
    """An image as it is to be seen: upright, on white, in colour.

    Of an animation or a file of several pages the first one is read. Grey of 16 bits is scaled, so that 65535 becomes
    255; whole numbers of 32 bits count as 16 bits; floating point is 0 for black to 1 for white. Other values are
    refused. Transparent pixels are blended with white. The orientation that EXIF states is applied, whatever else in
    EXIF is damaged.

    Args:
        path: of the file, in a format of `FORMATS` whatever its name says.

    Returns:
        A Pillow image of mode "RGB".

    Raises:
        UnreadableImageError: the file is missing, no image, damaged, too large (Pillow's `Image.MAX_IMAGE_PIXELS`) or
            of values whose range is unknown.
    """
    return on_white(decode(path, str(path)))


def decode(file: Any, name: str) -> Any:
    """`read_image` of a path or a file object, before it is blended: mode "RGB", or "RGBA" with transparency.

    Args:
        file: what `PIL.Image.open` takes.
        name: of the file, for messages.

    Raises:
        UnreadableImageError: as `read_image`.
    """
    try:
        with _silence(), _open(file) as opened:
            _check_size(opened, file)  # before `load`, which takes memory for all pixels that the header claims
            opened.load()
            return _upright(opened, _with_8_bits(opened))
    # Pillow has no list of what damaged files raise: zlib.error, struct.error, KeyError, MemoryError ... were all seen.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UnreadableImageError(f"cannot read the image {name}: {reason}") from error


def on_white(image: Any) -> Any:
    """An image of mode "RGBA" blended with white, as on paper: its transparent pixels hold any colour. RGB stays."""
    from PIL import Image

    if image.mode == "RGB":
        return image
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image)
    return flat.convert("RGB")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps Pillow's warnings and log (odd EXIF, half of the largest size) off the terminal: errors say enough."""
    logger, handler = logging.getLogger("PIL"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)


def _open(file: Any) -> Any:
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        data = Path(file).read_bytes() if isinstance(file, (str, os.PathLike)) else file.getvalue()
        exif, rest = _split_exif(data)
        if exif is None:
            what = f"it is none of {', '.join(formats)}, or damaged, or of a kind that Pillow does not read"
            raise ValueError(what if data else "it is empty") from error
    # Pillow looks into a JPEG's EXIF for the resolution, and takes one it cannot read for another format.
    opened = Image.open(io.BytesIO(rest), formats=formats)
    opened.info["exif"] = exif
    return opened


def _check_size(opened: Any, file: Any) -> None:
    pixels = opened.width * opened.height
    length = os.stat(file).st_size if isinstance(file, (str, os.PathLike)) else len(file.getvalue())
    if pixels == 0 or pixels > max(MANY_PIXELS, PIXELS_PER_BYTE * length):
        raise ValueError(f"its header claims {opened.width}x{opened.height} pixels, in a file of {length} bytes")
    if opened.format == "TIFF" and opened.tile:
        covered = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in opened.tile)
        if covered < pixels:
            raise ValueError(f"its strips hold {covered} of its {pixels} pixels")


def _split_exif(data: bytes) -> tuple[bytes | None, bytes]:
    """The EXIF segment of a JPEG (None without one), and the file without it."""
    place = 2
    while data[:2] == b"\xff\xd8" and data[place : place + 1] == b"\xff" and len(data) >= place + 4:
        marker, length = struct.unpack_from(">xBH", data, place)
        end = place + 2 + length
        if marker == 0xE1 and data[place + 4 :].startswith(EXIF_START):
            return data[place + 4 : end], data[:place] + data[end:]
        if marker == 0xDA:  # the pixels begin
            break
        place = end
    return None, data


def _with_8_bits(image: Any) -> Any:
    """The image in mode "RGB" or "RGBA"."""
    from PIL import Image, ImageCms

    if image.mode.startswith("I"):
        grey = Image.fromarray(_grey_of_integers(image, np.asarray(image)))
        key = image.info.get("transparency")
        if isinstance(key, int):  # the grey level that a PNG declares transparent
            grey.putalpha(Image.fromarray((np.asarray(image) != key).astype(np.uint8) * np.uint8(255)))
        return grey.convert("RGBA" if isinstance(key, int) else "RGB")
    if image.mode == "F":
        return Image.fromarray(_grey_of_floats(image, np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    planes = _tag(image, PLANAR, 1), _tag(image, COMPRESSION, UNCOMPRESSED)
    if planes == (SEPARATE_PLANES, UNCOMPRESSED) and max(_tag(image, BITS_PER_SAMPLE, (8,))) > 8:
        raise ValueError("Pillow takes its separate planes of 16 bits for 8 bits: save it with 8 bits, or compressed")
    if image.mode == "La":  # grey with premultiplied alpha
        image = image.convert("LA")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _tag(image: Any, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default) if image.format == "TIFF" else default


def _grey_of_integers(image: Any, values: np.ndarray) -> np.ndarray:
    """uint8 `[H, W]` of grey with more than 8 bits."""
    bits = max(_tag(image, BITS_PER_SAMPLE, (16,)))
    lowest, highest = int(values.min()), int(values.max())
    if bits <= 16 and SIGNED in np.ravel(_tag(image, SAMPLE_FORMAT, 1)):
        raise ValueError(f"its whole numbers of {bits} bits are signed, {lowest} to {highest}, on no known scale: save "
                         "it with 8 bits, or with unsigned 16 bits from 0 to 65535")
    if bits > 16:
        # Numbers this small may as well be 8 bits in a large box: neither scale is safe.
        if lowest < 0 or highest >= 2**16 or 0 < highest < 2**8:
            raise ValueError(f"its whole numbers of {bits} bits, {lowest} to {highest}, are on no known scale: save it "
                             "with 8 bits, or with 16 bits from 0 to 65535")
        bits = 16
    table = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
    grey = table[values]
    return 255 - grey if _tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO else grey


def _grey_of_floats(image: Any, values: np.ndarray) -> np.ndarray:
    """uint8 `[H, W]` of floating point."""
    lowest, highest = float(values.min()), float(values.max())
    if not (lowest >= 0 and highest <= 1):  # also for NaN
        raise ValueError(f"its floating-point values, {lowest:.4g} to {highest:.4g}, are not between 0 for black and 1 "
                         "for white: scale them, or save it with 8 bits")
    grey = np.rint(values * np.float32(255)).astype(np.uint8)
    return 255 - grey if _tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO else grey


def _upright(opened: Any, image: Any) -> Any:
    """`image` as the EXIF orientation of the file it came from says; Pillow has turned a TIFF already."""
    from PIL import Image

    try:
        orientation = opened.getexif().get(ORIENTATION)
    except Exception:  # what cannot be read states none, as in browsers
        orientation = None
    turn = Image.Transpose
    method = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }.get(orientation)
    return image if method is None else image.transpose(method)
