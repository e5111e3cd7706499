"""The bytes of a `.jxg` file: a header, and chunks with a sum of their own each. README.md here has the layout.

Nothing of a file is believed before its sum was found right, and nothing larger than what it says is made.
"""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

MAGIC = b"JXG"
VERSION = 2
SUFFIX = ".jxg"
_LOSSLESS, _ALPHA, _INEXACT = 1, 2, 4
_DIGEST = 8
_MOST = 1 << 35  # a number that a varint may reach


class FileError(ValueError):
    """A file that is damaged, of another version or model, or none of these files at all."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself.

    Attributes:
        digest: hexadecimal, 16 digits, of the codec that wrote it.
        count, height, width: of the images, all alike.
        channels: 1 or 3, without alpha.
        planes: how many index maps of each image are in the file.
        tile, overlap: sides in pixels of what larger images were cut into.
        group: images, or tiles, of a chunk.
        lossless, alpha: whether there are chunks that restore the images bit for bit, or their alpha.
        inexact: whether chunks have a sum of their tables.
    """

    digest: str
    count: int
    height: int
    width: int
    channels: int
    planes: int
    tile: int
    overlap: int
    group: int
    lossless: bool = False
    alpha: bool = False
    inexact: bool = False

    def to_bytes(self) -> bytes:
        """The beginning of a file."""
        flags = _LOSSLESS * self.lossless + _ALPHA * self.alpha + _INEXACT * self.inexact
        numbers = (self.count, self.height, self.width, self.channels, self.planes, self.tile, self.overlap, self.group)
        head = MAGIC + bytes([VERSION, flags]) + bytes.fromhex(self.digest) + b"".join(map(varint, numbers))
        return head + check_sum(head)


def read_header(data: bytes) -> tuple[Header, int]:
    """(header, where it ends).

    Raises:
        FileError: not such a file, another version, damaged or cut off.
    """
    if data[:3] != MAGIC:
        raise FileError(f"this is no {SUFFIX} file: it begins with {bytes(data[:3])!r} instead of {MAGIC!r}")
    if len(data) > 3 and data[3] != VERSION:
        raise FileError(f"the file is of version {data[3]} of the format, and this reads version {VERSION}: use the "
                        "release of jaxgen that wrote it")
    try:
        flags, end = data[4], 5 + _DIGEST
        digest = data[5:end].hex()
        numbers = []
        for _ in range(8):
            number, end = read_varint(data, end)
            numbers.append(number)
    except (IndexError, FileError):
        raise FileError("the file is cut off within its header") from None
    if data[end:end + 4] != check_sum(data[:end]):
        raise FileError("the header is damaged, or cut off: its sum is not what the file says")
    names = ("count", "height", "width", "channels", "planes", "tile", "overlap", "group")
    header = Header(digest=digest, **dict(zip(names, numbers)), lossless=bool(flags & _LOSSLESS),
                    alpha=bool(flags & _ALPHA), inexact=bool(flags & _INEXACT))
    if min(header.count, header.height, header.width, header.planes, header.tile, header.group) < 1 or \
            header.channels not in (1, 3) or header.overlap >= header.tile:
        raise FileError(f"the header has numbers that no file has: {header}")
    return header, end + 4


class Chunk(NamedTuple):
    """One as it stands in a file: its payload, the sum, the sum of its tables or None, and where it ends."""

    payload: bytes
    sum: bytes
    tables: int | None
    end: int


def write_chunk(payload: bytes, content: bytes, tables: int | None = None) -> bytes:
    """A chunk: its length, the payload, the sum of both payload and content, and the sum of its tables if it is given.

    Args:
        payload: what is stored.
        content: what the payload stands for.
        tables: the CRC-32 of the tables that were used.
    """
    extra = b"" if tables is None else tables.to_bytes(4, "little")
    return varint(len(payload)) + payload + check_sum(payload + content) + extra


def read_chunk(data: bytes, start: int, *, tables: bool = False) -> Chunk | None:
    """The chunk at a place, or None where the file is cut off before its end."""
    try:
        length, start = read_varint(data, start)
    except FileError:
        return None
    stop, end = start + length, start + length + (8 if tables else 4)
    if end > len(data):
        return None
    return Chunk(data[start:stop], data[stop:stop + 4], int.from_bytes(data[end - 4:end], "little") if tables else None,
                 end)


def check_sum(data: bytes) -> bytes:
    """CRC-32."""
    return zlib.crc32(data).to_bytes(4, "little")


def varint(number: int) -> bytes:
    """A whole number from 0, seven bits a byte, low ones first; the last byte is below 128."""
    result = bytearray()
    while number >= 128:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])


def read_varint(data: bytes, start: int) -> tuple[int, int]:
    """(number, where it ends); raises FileError where it is cut off or too large."""
    number, shift = 0, 0
    for place in range(start, min(len(data), start + 6)):
        number |= (data[place] & 127) << shift
        if data[place] < 128:
            if number >= _MOST:
                break
            return number, place + 1
        shift += 7
    raise FileError("a number is cut off, or too large")
