"""What an image file holds besides its headers: the bytes that say what the pixels are.

Small images are mostly headers: a JPEG of a digit has 300 bytes of them. Each function here takes the bytes of a file
and returns its payload, so that codecs are compared with headers and without. What counts as a header is in part a
matter of taste, and each function says what it leaves in. None checks a file beyond what it reads.
"""

import re
from collections.abc import Iterator

# What ends a scan: within it 0xff is followed by a stuffed zero or by the number of a restart.
END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")
BOXES_OF_JPEG_2000 = b"\0\0\0\x0cjP  "
BOXES_OF_JPEG_XL = b"\0\0\0\x0cJXL "


def jpeg_scans(data: bytes) -> bytes:
    """The entropy-coded segments of all scans, with stuffed zeros and restart markers.

    Tables of quantisation and Huffman codes are headers, those between the scans of a progressive file too.

    Raises:
        ValueError: no JPEG, or one cut short.
    """
    _expect(data, b"\xff\xd8", "JPEG")
    scans, at = [], 2
    while True:
        marker = _read(data, at, 2)
        if marker == b"\xff\xd9":  # the end
            return b"".join(scans)
        if marker == b"\xff\xff":  # filled up
            at += 1
            continue
        if marker[0] != 0xFF:
            raise ValueError(f"data has no marker of JPEG at byte {at}, but {marker.hex()}")
        at += 2 + _number(data, at + 2, 2)
        if marker == b"\xff\xda":  # a scan follows
            end = END_OF_SCAN.search(data, at)
            scans.append(_read(data, at, (end.start() if end else len(data) + 1) - at))
            at += len(scans[-1])


def webp_frame(data: bytes) -> bytes:
    """The chunks "VP8 " or "VP8L", and "ALPH", without their names and lengths.

    The frame's own header of some bytes (size, quantisers, Huffman codes) is in.

    Raises:
        ValueError: no WebP, one cut short, or an animation.
    """
    _expect(data, b"RIFF", "WebP")
    chunks, at = [], 12
    while at < len(data):
        name, size = _read(data, at, 4), int.from_bytes(_read(data, at + 4, 4), "little")
        if name == b"ANMF":
            raise ValueError("data is an animated WebP: give a single image")
        if name in (b"VP8 ", b"VP8L", b"ALPH"):
            chunks.append(_read(data, at + 8, size))
        at += 8 + size + size % 2
    return b"".join(chunks)


def avif_media(data: bytes) -> bytes:
    """The contents of "mdat" boxes.

    These are AV1's units, sequence and frame headers included, as the encoder has put them there. Exif data of a
    file that has some lie in the same box and would be counted.

    Raises:
        ValueError: no AVIF, or one cut short.
    """
    if data[4:8] != b"ftyp":
        raise ValueError(f"data is no AVIF: it begins with {data[:8]!r}")
    return b"".join(content for name, content in _boxes(data) if name == b"mdat")


def jpeg2000_tiles(data: bytes) -> bytes:
    """What follows "start of data" in all tile parts, of a codestream or a JP2 file.

    Packet headers are in: they say which bits of which block follow.

    Raises:
        ValueError: no JPEG 2000, or one cut short.
    """
    if data.startswith(BOXES_OF_JPEG_2000):
        data = b"".join(content for name, content in _boxes(data) if name == b"jp2c")
    _expect(data, b"\xff\x4f", "JPEG 2000")
    tiles, at, end = [], 2, 0
    while (marker := _read(data, at, 2)) != b"\xff\xd9":
        if marker == b"\xff\x90":  # a tile part, whose length counts from here; 0 for all but the end marker
            end = at + (_number(data, at + 6, 4) or len(data) - 2 - at)
        at += 2
        if marker == b"\xff\x93":  # start of data
            tiles.append(_read(data, at, end - at))
            at = end
        else:
            at += _number(data, at, 2)
    return b"".join(tiles)


def jpeg_xl_codestream(data: bytes) -> bytes:
    """The codestream without its signature of two bytes, out of its boxes where it is in some.

    Its image header (size, colour, transforms) is some bytes long, packed by bits and not told apart: it is in.

    Raises:
        ValueError: no JPEG XL, or a box cut short; of a codestream without boxes only a decoder can tell.
    """
    if data.startswith(BOXES_OF_JPEG_XL):
        # Partial boxes begin with their number.
        data = b"".join(content[4 * (name == b"jxlp"):] for name, content in _boxes(data) if name in (b"jxlc", b"jxlp"))
    _expect(data, b"\xff\x0a", "JPEG XL")
    return data[2:]


def png_data(data: bytes) -> bytes:
    """The "IDAT" chunks without their names, lengths and checksums: one stream of zlib.

    Raises:
        ValueError: no PNG, or one cut short.
    """
    _expect(data, b"\x89PNG\r\n\x1a\n", "PNG")
    chunks, at = [], 8
    while at < len(data):
        size, name = _number(data, at, 4), _read(data, at + 4, 4)
        content = _read(data, at + 8, size)
        if name == b"IDAT":
            chunks.append(content)
        at += 12 + size
    return b"".join(chunks)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the outermost boxes of ISO's base media format."""
    at = 0
    while at < len(data):
        size, name, header = _number(data, at, 4), _read(data, at + 4, 4), 8
        if size == 1:  # a longer number follows
            size, header = _number(data, at + 8, 8), 16
        elif size == 0:  # to the end of the file
            size = len(data) - at
        if size < header:
            raise ValueError(f"data has a box {name!r} of {size} bytes at byte {at}, fewer than its own header")
        yield name, _read(data, at + header, size - header)
        at += size


def _expect(data: bytes, signature: bytes, format_name: str) -> None:
    if not data.startswith(signature):
        raise ValueError(f"data is no {format_name}: it begins with {data[:8]!r}")


def _read(data: bytes, at: int, size: int) -> bytes:
    if size < 0 or at + size > len(data):
        raise ValueError(f"data is cut short: it has {len(data)} bytes, and {size} are wanted at byte {at}")
    return data[at : at + size]


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(_read(data, at, size), "big")
