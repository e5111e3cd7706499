"""The payloads of image files: they are where the formats say, and what is added to the headers is not in them."""

import contextlib
import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from experiments.common import containers

Y, X = np.mgrid[:64, :80]
IMAGE = np.stack([128 + 90 * np.sin(X / 5 + k) * np.cos(Y / 9) for k in range(3)], -1).astype(np.uint8)


def saved(format_name, **options):
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, format_name, **options)
    return file.getvalue()


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def text():
    info = PngInfo()
    info.add_text("comment", "a" * 100)
    return info


EXIF = Image.Exif()
EXIF[0x010E] = "a" * 100
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FILES = {
    "JPEG": (containers.jpeg_scans, {"quality": 80}, {"exif": EXIF, "comment": "a" * 100, "icc_profile": PROFILE}),
    "progressive": (containers.jpeg_scans, {"quality": 80, "progressive": True}, {"exif": EXIF}),
    "WEBP": (containers.webp_frame, {"quality": 80}, {"exif": EXIF, "icc_profile": PROFILE}),
    "lossless": (containers.webp_frame, {"lossless": True}, {"exif": EXIF}),
    "AVIF": (containers.avif_media, {"quality": 80}, {"icc_profile": PROFILE}),
    "JPEG2000": (containers.jpeg2000_tiles, {"no_jp2": True}, {"comment": "a" * 100}),
    "PNG": (containers.png_data, {}, {"pnginfo": text(), "icc_profile": PROFILE}),
}
FORMATS = {"progressive": "JPEG", "lossless": "WEBP"}


@pytest.mark.parametrize("name", FILES)
def test_more_headers_leave_the_payload_as_it_is(name):
    payload, options, more = FILES[name]
    plain, longer = (saved(FORMATS.get(name, name), **options, **extra) for extra in ({}, more))
    assert len(longer) >= len(plain) + 60
    start = 20 if name == "AVIF" else 0  # AV1's sequence header says too whether there is a profile
    assert len(payload(longer)) == len(payload(plain)) and payload(longer)[start:] == payload(plain)[start:]
    assert 0.5 * len(plain) < len(payload(plain)) < len(plain)


def test_scans_of_jpeg_end_at_the_next_marker_and_hold_restarts():
    for options in ({}, {"restart_marker_blocks": 1}):
        data = saved("JPEG", quality=90, **options)
        scan = containers.jpeg_scans(data)
        assert data.endswith(scan + b"\xff\xd9")
        header = data[: -len(scan) - 2]
        at = header.rindex(b"\xff\xda")
        assert at + 2 + int.from_bytes(header[at + 2 : at + 4], "big") == len(header)
        assert (b"\xff\xd0" in scan) == bool(options)
    progressive = saved("JPEG", quality=90, progressive=True)
    # A marker of 0xda occurs nowhere else: entropy-coded bytes follow 0xff by zero.
    parts = progressive[progressive.index(b"\xff\xda"):].split(b"\xff\xda")[1:]
    lengths = [len(re.split(rb"\xff[^\x00]", part)[0]) - int.from_bytes(part[:2], "big") for part in parts]
    assert len(lengths) > 5 and sum(lengths) == len(containers.jpeg_scans(progressive))


def test_a_jpeg_by_hand():
    table, scan = b"\xff\xdb\0\x05abc", b"\xff\xda\0\x04xy"
    data = b"\xff\xd8" + table + b"\xff" + scan + b"1\xff\0\xff\xd32" + b"\xff" + table + scan + b"3" + b"\xff\xd9"
    assert containers.jpeg_scans(data) == b"1\xff\0\xff\xd323"


@pytest.mark.parametrize("options, name", [({"quality": 70}, b"VP8 "), ({"lossless": True}, b"VP8L")])
def test_the_payload_of_webp_in_a_new_file_is_the_same_image(options, name):
    data = saved("WEBP", exif=EXIF, **options)
    frame = containers.webp_frame(data)
    padded = frame + b"\0" * (len(frame) % 2)
    chunk = b"WEBP" + name + len(frame).to_bytes(4, "little") + padded
    again = b"RIFF" + len(chunk).to_bytes(4, "little") + chunk
    np.testing.assert_array_equal(pixels(again), pixels(data))


def test_the_payload_of_png_is_its_rows_compressed():
    assert len(zlib.decompress(containers.png_data(saved("PNG")))) == 64 * (1 + 3 * 80)
    large = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)  # in several chunks
    file = io.BytesIO()
    Image.fromarray(large).save(file, "PNG")
    assert file.getvalue().count(b"IDAT") > 1
    assert len(zlib.decompress(containers.png_data(file.getvalue()))) == 300 * (1 + 3 * 400)


def test_tiles_of_jpeg_2000_are_between_their_markers_with_a_container_and_without():
    data = saved("JPEG2000", no_jp2=True, tile_size=(32, 32))
    # Packets hold no two bytes above 0xff8f, so that markers can be looked for.
    parts = [re.split(b"\xff[\x90\xd9]", part)[0] for part in data.split(b"\xff\x93")[1:]]
    assert len(parts) == 6 and containers.jpeg2000_tiles(data) == b"".join(parts)
    assert containers.jpeg2000_tiles(saved("JPEG2000", tile_size=(32, 32))) == b"".join(parts)


def box(name, content, size=None):
    return (8 + len(content) if size is None else size).to_bytes(4, "big") + name + content


def test_boxes_by_hand():
    head = box(b"ftyp", b"avif") + box(b"meta", b"mdat" * 5)
    long = box(b"mdat", (16 + 3).to_bytes(8, "big") + b"abc", size=1)
    assert containers.avif_media(head + long + box(b"free", b"xx") + box(b"mdat", b"def", size=0)) == b"abcdef"
    assert saved("AVIF").endswith(containers.avif_media(saved("AVIF")))
    start = containers.BOXES_OF_JPEG_XL + b"\r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    whole = start + box(b"jxlc", b"\xff\x0aabc")
    parts = start + box(b"jxlp", b"\0\0\0\0\xff\x0aa") + box(b"Exif", b"xx") + box(b"jxlp", b"\x80\0\0\1bc")
    for data in (whole, parts, b"\xff\x0aabc"):
        assert containers.jpeg_xl_codestream(data) == b"abc"
    with pytest.raises(ValueError, match=r"box b'mdat' of 3 bytes at byte 0?\d+, fewer than its own header"):
        containers.avif_media(head + box(b"mdat", b"abc", size=3))


@pytest.mark.parametrize("name", FILES)
def test_other_files_and_those_cut_short_are_named(name):
    payload, options, _ = FILES[name]
    data = saved(FORMATS.get(name, name), **options)
    for other in (b"", b"nothing of the kind", b"\0" * 40):
        with pytest.raises(ValueError, match="data is no "):
            payload(other)
    with pytest.raises(ValueError, match=r"data is cut short: it has \d+ bytes, and \d+ are wanted at byte \d+"):
        payload(data[: len(data) * 3 // 4])
    for end in range(0, len(data), 7):  # a whole chunk may be missing, but there is no other error and no hang
        with contextlib.suppress(ValueError):
            assert len(payload(data[:end])) <= len(payload(data))


def test_an_animation_is_refused():
    file = io.BytesIO()
    frames = [Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="animated WebP"):
        containers.webp_frame(file.getvalue())
