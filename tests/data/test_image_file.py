"""Every mode of an image file comes out at its true brightness, upright and on white, for all who read images."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from experiments.edit import read_mask
from jaxgen.data import load, read_folder
from jaxgen.data.builders.image_folder import read_square

SIDE = 16
# All brightnesses from 0 to 65535; an image of 8 bits holds its 257th part.
RAMP = np.linspace(0, 65535, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
GREY = np.round(RAMP / 257).astype(np.uint8)
DEEP = np.stack([RAMP, RAMP.T, RAMP[::-1]], -1)
COLOUR = np.round(DEEP / 257).astype(np.uint8)
OPAQUE = np.full((SIDE, SIDE, 1), 65535, np.uint16)


def read(path):
    return np.asarray(read_square(path, SIDE)).astype(int)


def big_endian(values):
    image = Image.new("I;16B", values.shape[::-1])
    image.frombytes(values.astype(">u2").tobytes())
    return image


def tiff(values, bits, photometric, *, samples=1, kind=1, order="<", extra=None, planar=False, data=None):
    """A TIFF without compression; `kind` 1 is whole numbers, 2 signed ones, 3 floating point."""
    if data is None:
        laid = values.transpose(2, 0, 1) if planar else values
        data = laid.astype(values.dtype.newbyteorder(order)).tobytes()
    strips = samples if planar else 1
    values_of = {
        256: [SIDE], 257: [SIDE], 258: [bits] * samples, 259: [1], 262: [photometric], 273: [0] * strips,
        277: [samples], 278: [SIDE], 279: [len(data) // strips] * strips, 284: [2 if planar else 1],
    }  # fmt: skip
    if extra is not None:
        values_of[338] = [extra]
    values_of[339] = [kind] * samples
    begin = 8 + 2 + 12 * len(values_of) + 4
    long = sum(4 * len(v) for v in values_of.values() if len(v) > 1)
    values_of[273] = [begin + long + i * len(data) // strips for i in range(strips)]
    entries, beyond = b"", b""
    for tag, numbers in values_of.items():
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers) if tag in (273, 279) else b""
        code = "I" if packed else "H"
        packed = packed or struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", begin + len(beyond))
            packed, beyond = place, beyond + packed.ljust(4 * len(numbers), b"\0")
        entries += struct.pack(f"{order}HHI", tag, 4 if code == "I" else 3, len(numbers)) + packed.ljust(4, b"\0")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(values_of))
    return head + entries + bytes(4) + beyond.ljust(long, b"\0") + data


def png(values, colour_type, *, transparent=b""):
    """A PNG of 16 bits."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, colour_type, 0, 0, 0)
    middle = chunk(b"tRNS", transparent) if transparent else b""
    middle += chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IEND", b"")


def twelve_bits():
    pairs = (RAMP >> 4).reshape(-1, 2).astype(int)
    data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    return tiff(None, 12, 1, data=data)


def saved(image, name, **options):
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def half_clear(image):
    image.putalpha(128)
    return image


on_white = np.round(255 - (255 - GREY.astype(int)) * 128 / 255)
FILES = {
    "16-bit grey PNG": (saved(Image.fromarray(RAMP), "PNG"), GREY),
    "16-bit grey TIFF": (saved(Image.fromarray(RAMP), "TIFF"), GREY),
    "16-bit grey TIFF, packed": (saved(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"), GREY),
    "16-bit grey TIFF, big-endian": (saved(big_endian(RAMP), "TIFF"), GREY),
    "16-bit grey TIFF, white is zero": (tiff(RAMP, 16, 0), 255 - GREY),
    "12-bit grey TIFF": (twelve_bits(), GREY),
    "16-bit PGM": (saved(Image.fromarray(RAMP.astype(np.int32)), "PPM"), GREY),
    "32-bit TIFF of 16-bit values": (saved(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), GREY),
    "32-bit unsigned TIFF of 16-bit values": (tiff(RAMP.astype(np.uint32), 32, 1), GREY),
    "float TIFF": (saved(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"), GREY),
    "float TIFF, white is zero": (tiff((RAMP / 65535).astype(np.float32), 32, 0, kind=3), 255 - GREY),
    "16-bit colour TIFF": (tiff(DEEP, 16, 2, samples=3), COLOUR),
    "16-bit colour TIFF, big-endian": (tiff(DEEP, 16, 2, samples=3, order=">"), COLOUR),
    "16-bit TIFF with alpha": (tiff(np.concatenate([DEEP, OPAQUE], -1), 16, 2, samples=4, extra=2), COLOUR),
    "8-bit TIFF in planes": (tiff(COLOUR, 8, 2, samples=3, planar=True), COLOUR),
    "16-bit colour PNG": (png(DEEP, 2), COLOUR),
    "16-bit grey PNG with alpha": (png(np.concatenate([RAMP[..., None], OPAQUE // 2], -1), 4), on_white),
    "16-bit grey PNG, black is transparent": (png(RAMP, 0, transparent=bytes(2)), np.where(RAMP == 0, 255, GREY)),
    "8-bit grey PNG, black is transparent": (saved(Image.fromarray(GREY), "PNG", transparency=0),
                                             np.where(GREY == 0, 255, GREY)),
    "palette, black is transparent": (saved(Image.fromarray(GREY).convert("P"), "PNG", transparency=0),
                                      np.where(GREY == 0, 255, GREY)),
    "grey with alpha": (saved(half_clear(Image.fromarray(GREY)), "PNG"), on_white),
    "grey with premultiplied alpha": (tiff(np.stack([GREY // 2, np.full_like(GREY, 128)], -1), 8, 1, samples=2,
                                           extra=1), on_white),
    "palette with alpha": (saved(half_clear(Image.fromarray(GREY).convert("PA")), "TIFF"), on_white),
    "RGBA": (saved(half_clear(Image.fromarray(COLOUR)), "WEBP", lossless=True),
             np.round(255 - (255 - COLOUR.astype(int)) * 128 / 255)),
    "RGBX": (saved(Image.fromarray(COLOUR).convert("RGBX"), "TIFF"), COLOUR),
    "one bit": (saved(Image.fromarray(GREY).convert("1"), "PNG"), np.asarray(Image.fromarray(GREY).convert("1")) * 255),
    "BMP": (saved(Image.fromarray(COLOUR), "BMP"), COLOUR),
    "first frame of an APNG": (saved(Image.fromarray(COLOUR), "PNG", save_all=True,
                                     append_images=[Image.fromarray(255 - COLOUR)]), COLOUR),
    "first frame of a WebP": (saved(Image.fromarray(COLOUR), "WEBP", lossless=True, save_all=True,
                                    append_images=[Image.fromarray(255 - COLOUR)]), COLOUR),
    "first page of a TIFF": (saved(Image.fromarray(COLOUR), "TIFF", save_all=True,
                                   append_images=[Image.fromarray(255 - COLOUR)]), COLOUR),
    "first frame of a GIF": (saved(Image.fromarray(GREY), "GIF", save_all=True,
                                   append_images=[Image.fromarray(255 - GREY)]), GREY),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_every_mode_is_within_one_of_its_8_bit_version(tmp_path, kind):
    data, wanted = FILES[kind]
    (tmp_path / "image.png").write_bytes(data)  # the content decides, not the name
    difference = read(tmp_path / "image.png") - (wanted if wanted.ndim == 3 else wanted[..., None])
    assert np.abs(difference).max() <= 1


def test_ink_and_video_colours_are_read(tmp_path):
    ink = np.asarray(Image.fromarray(COLOUR)).astype(int)
    cyan, magenta, yellow = (np.uint8(255) - COLOUR[..., i] for i in range(3))
    Image.fromarray(np.stack([cyan, magenta, yellow, np.zeros_like(cyan)], -1), "CMYK").save(tmp_path / "ink.tif")
    np.testing.assert_allclose(read(tmp_path / "ink.tif"), ink, atol=1)
    Image.fromarray(COLOUR).convert("YCbCr").save(tmp_path / "video.tif")
    np.testing.assert_allclose(read(tmp_path / "video.tif"), ink, atol=3)


def test_lab_colours_are_those_of_its_formula(tmp_path):
    draw = np.random.default_rng(0)
    light, a, b = draw.integers(90, 180, (SIDE, SIDE)), *draw.integers(-20, 20, (2, SIDE, SIDE))
    stored = np.stack([light, a % 256, b % 256], -1).astype(np.uint8)
    Image.frombytes("LAB", (SIDE, SIDE), stored.tobytes()).save(tmp_path / "lab.tif")
    # CIE 15: Lab to XYZ under D50; then the matrix from there to linear sRGB (Bradford), and sRGB's curve.
    y = (light / 2.55 + 16) / 116
    xyz = np.stack([y + a / 500, y, y - b / 200], -1) ** 3 * [0.96422, 1, 0.82521]
    matrix = [[3.13386, -1.61687, -0.49061], [-0.97877, 1.91614, 0.03345], [0.07195, -0.22899, 1.40524]]
    linear = xyz @ np.transpose(matrix)
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055) * 255
    np.testing.assert_allclose(read(tmp_path / "lab.tif"), wanted, atol=6)  # of its tables of 8 bits


@pytest.mark.parametrize(("data", "reason"), [
    (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "floating-point values, 0 to 255"),
    (saved(Image.fromarray(np.full((SIDE, SIDE), np.nan, np.float32)), "TIFF"), "floating-point values, nan"),
    (saved(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "32 bits, 0 to 255, are on no known scale"),
    (saved(Image.fromarray(-GREY.astype(np.int32)), "TIFF"), "32 bits, -255 to 0, are on no known scale"),
    (tiff(RAMP.astype(np.uint32) * 65537, 32, 1), "are on no known scale"),
    (tiff(RAMP.astype(np.int16), 16, 1, kind=2), "16 bits are signed, -32"),
    (tiff((RAMP // 2).astype(np.int16), 16, 1, kind=2), "16 bits are signed, 0 to 32"),
    (tiff(DEEP, 16, 2, samples=3, planar=True), "separate planes of 16 bits"),
    (tiff((DEEP / 65535).astype(np.float32), 32, 2, samples=3, kind=3), "of a kind that Pillow does not read"),
    (b"hello world", "it is none of BMP, GIF, JPEG, PNG"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is none of BMP, GIF, JPEG, PNG"),
    (b"", "it is empty"),
    (saved(Image.fromarray(COLOUR), "PNG")[:60], "truncated"),
], ids=["float to 255", "float with NaN", "32 bits of 8", "below 0", "32 bits", "signed 16", "signed 16 above 0",
        "planes of 16", "float colour", "text", "EPS", "empty", "cut"])  # fmt: skip
def test_values_on_an_unknown_scale_and_files_of_another_kind_are_refused_by_name(tmp_path, data, reason):
    (tmp_path / "odd.png").write_bytes(data)
    with pytest.raises(ValueError, match=rf"odd\.png: .*{reason}"):
        read(tmp_path / "odd.png")


def claimed(name, side):
    """A small file whose header claims an image of `side` x `side`."""
    data = bytearray(saved(Image.new("RGB", (16, 16), "red"), name))
    if name == "PNG":
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif name == "BMP":
        data[18:26] = struct.pack("<ii", side, side)
    elif name == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    elif name == "JPEG":
        place = data.index(b"\xff\xc0")
        data[place + 5 : place + 9] = struct.pack(">HH", side, side)
    else:
        for tag in (256, 257, 278):
            place = next(p for kind in (3, 4) if (p := data.find(struct.pack("<HHI", tag, kind, 1))) >= 0)
            data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, side)
    return bytes(data)


@pytest.mark.parametrize("name", ["PNG", "BMP", "GIF", "JPEG", "TIFF"])
@pytest.mark.parametrize("side", [13_000, 50_000])
def test_headers_that_claim_more_than_the_file_can_hold_are_refused_by_name(tmp_path, name, side):
    (tmp_path / "bomb.png").write_bytes(claimed(name, side))
    with pytest.raises(ValueError, match=r"bomb\.png: .*(claims 13000x13000 pixels, in a file of|exceeds limit of)"):
        read(tmp_path / "bomb.png")


def test_a_tiff_whose_strips_hold_a_part_of_its_rows_is_refused(tmp_path):
    data = bytearray(tiff(COLOUR, 8, 2, samples=3))
    place = data.index(struct.pack("<HHI", 257, 3, 1))
    data[place + 8 : place + 10] = struct.pack("<H", 100)
    (tmp_path / "part.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"part\.tif: its strips hold 256 of its 1600 pixels"):
        read(tmp_path / "part.tif")


ODD_TAGS = {
    "XResolution as text": (282, 2, b"72 dpi\0"),
    "XResolution as a letter": (282, 2, b"7"),
    "XResolution as bytes": (282, 7, b"\1"),
    "XResolution below 0": (282, 10, struct.pack("<ii", -72, 1)),
    "ImageWidth as rational": (256, 5, struct.pack("<II", 16, 1)),
    "ImageWidth undefined": (256, 7, b"\1\2\3\4"),
    "Make as rational": (271, 5, struct.pack("<II", 16, 1)),
    "no known type": (270, 99, b"\1\0\0\0"),
    "an IFD before the file": (34665, 9, b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("tag", ODD_TAGS)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_bad_exif_tag_does_not_stop_an_image_nor_its_orientation(tmp_path, name, tag):
    number, kind, value = ODD_TAGS[tag]
    size = {5: 8, 10: 8}.get(kind, 1)
    entries = [(274, 3, 1, b"\6\0"), (296, 3, 1, b"\2\0"), (number, kind, max(len(value) // size, 1), value)]
    body, beyond = b"", b""
    for key, code, count, content in sorted(entries):
        if len(content) > 4:
            content, beyond = struct.pack("<I", 8 + 2 + 36 + 4 + len(beyond)), beyond + content
        body += struct.pack("<HHI", key, code, count) + content.ljust(4, b"\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 3) + body + bytes(4) + beyond
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}, "PNG": {}}[name]
    smooth = np.asarray(Image.fromarray(COLOUR[:2, :2]).resize((SIDE, SIDE)))
    (tmp_path / "phone.jpg").write_bytes(saved(Image.fromarray(smooth), name, exif=exif, **options))
    turned = np.rot90(smooth, -1).astype(int)  # orientation 6: the first row is the right side
    np.testing.assert_allclose(read(tmp_path / "phone.jpg"), turned, atol=40 if name == "JPEG" else 0)


def test_an_image_folder_the_images_option_and_the_mask_option_read_16_bits_alike(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.roll(RAMP, i)).save(folder / f"{i}.png")
    sets = [load("image_folder", split, folder=folder, data_dir=tmp_path / "cache", image_size=SIDE)
            for split in ("train", "test")]
    found = sorted((image[..., 0].astype(int) for dataset in sets for image in dataset.examples()), key=np.ptp)
    wanted = sorted((np.roll(GREY, i).astype(int) for i in range(2)), key=np.ptp)
    assert min(max(np.abs(a - b).max() for a, b in zip(found, order)) for order in (wanted, wanted[::-1])) <= 1
    shown = read_folder(folder, [SIDE, SIDE, 1]).examples()[..., 0]
    assert np.abs(shown[0].astype(int) - GREY).max() <= 1
    np.testing.assert_array_equal(read_mask(str(folder / "0.png"), (SIDE, SIDE, 1))[0, ..., 0], RAMP / 257 >= 127.5)


def test_a_mask_keeps_its_transparent_pixels_and_names_a_file_that_is_none(tmp_path):
    clear = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    clear.paste("black", (0, 0, SIDE, 4))  # painted black on nothing
    clear.save(tmp_path / "mask.png")
    kept = read_mask(str(tmp_path / "mask.png"), (SIDE, SIDE, 1))[0, ..., 0]
    assert not kept[:4].any() and kept[4:].all()
    (tmp_path / "text.png").write_text("white", encoding="utf-8")
    for name in ("text.png", "missing.png"):
        with pytest.raises(ValueError, match=f"cannot read the image .*{name}"):
            read_mask(str(tmp_path / name), (SIDE, SIDE, 1))
    with pytest.raises(ValueError, match="cannot read the image .*Is a directory"):
        read_mask(str(tmp_path), (SIDE, SIDE, 1))
