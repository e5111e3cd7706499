"""Whole files: round trips, sizes, levels, tiles, and what is left of damaged ones."""

import dataclasses
import resource
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen import codec
from jaxgen.codec import FileError, Writer, fit_context
from jaxgen.codec.geometry import split
from tests.helpers.codec import CODES, even, grey_levels, images
from tests.helpers.mutations import mutated_bytes

OVERHEAD = 4 + 5  # of a chunk: its sum and its length


@pytest.fixture
def bounded_memory():
    """No more than 256 MB on top of what the process has: a MemoryError, and no machine without memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 28), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def quietly(own, data, **options):
    """(what is decoded, or the error; whether damage was told)."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found = codec.decode(own, data, **options)
        except FileError as error:
            return error, True
    return found, bool(told)


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 300), st.integers(1, 200), st.integers(1, 4)),
       st.sampled_from([1, 3]), st.sampled_from([(512, 16), (32, 8), (10, 0)]), st.sampled_from([1, 2, 64]),
       st.sampled_from([None, 1, 2]))
def test_a_file_gives_back_the_reconstruction_of_any_image(shape, channels, tiles, group, levels):
    own, x = grey_levels(channels=channels), images(shape)
    options = {"levels": levels, "tile": tiles[0], "overlap": tiles[1], "group": group}
    found = codec.decompress(own, codec.compress(own, x, **options))
    np.testing.assert_array_equal(found, codec.reconstruct(own, x, **options))
    assert found.shape == x.shape and found.dtype == np.uint8
    if shape[3] in (2, 4):
        np.testing.assert_array_equal(found[..., -1], x[..., -1])
    quantum = 32 if levels == 1 else 8
    even_sides = x[:, :shape[1] // 2 * 2, :shape[2] // 2 * 2]
    if shape[3] == 1 and channels == 1 and even_sides.size and tiles[0] >= max(shape[1:3]):  # by a loop of its own
        means = even_sides.reshape(shape[0], shape[1] // 2, 2, shape[2] // 2, 2).astype(int).sum((2, 4)) // 4
        expected = means // (2 * quantum) * 2 * quantum + quantum
        np.testing.assert_array_equal(found[:, :shape[1] // 2 * 2:2, :shape[2] // 2 * 2:2, 0], expected)


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 50), st.integers(1, 4)), st.booleans(),
       st.sampled_from([1, 2, 64]))
def test_a_lossless_file_gives_back_every_bit(shape, smooth, group):
    x = images(shape) if smooth else np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    own = grey_levels()
    data = codec.compress(own, x, lossless=True, group=group)
    np.testing.assert_array_equal(codec.decompress(own, data), x)
    coarse = codec.decode(own, data, lossless=False).images
    np.testing.assert_array_equal(coarse, codec.reconstruct(own, x, group=group))


def test_a_file_is_no_larger_than_its_codes_take():
    x = images((8, 64, 48, 1))
    planes = grey_levels().to_planes(x)
    own = grey_levels(fit_context(planes, (CODES, CODES)))
    data, total = codec.compress(own, x, group=4), 0.0
    for chunk in own.probabilities.chunks(2):
        for part in (slice(0, 4), slice(4, 8)):
            writer = Writer(planes[chunk[0]][part][..., None])
            own.probabilities.code(chunk, [p[part] for p in planes[:chunk[0]]], planes[chunk[0]][part].shape, writer)
            total += writer.bits / 8
    _, header = codec.read_header(data)
    assert total <= len(data) - header <= 1.001 * total + 4 * (8 + OVERHEAD)


def test_a_file_that_is_cut_gives_a_coarser_image_or_says_what_is_lost():
    own, x = grey_levels(), images((2, 16, 16, 1))
    data = codec.compress(own, x)
    whole, coarse = codec.reconstruct(own, x), codec.reconstruct(own, x, levels=1)
    seen = set()
    for end in range(len(data)):
        found, told = quietly(own, data[:end])
        assert told
        if isinstance(found, codec.Decoded):
            np.testing.assert_array_equal(found.images, coarse)
            assert found.planes.tolist() == [1, 1]
            seen.add(end)
    assert seen and not np.array_equal(whole, coarse)
    assert quietly(own, data)[1] is False


def learned():
    """A codec with the context of some images."""
    return grey_levels(fit_context(grey_levels().to_planes(images((4, 16, 16, 1), 3)), (CODES, CODES)))


@pytest.mark.parametrize("make, shape, options, count", [
    (grey_levels, (2, 6, 6, 2), {"group": 1}, 9700), (learned, (2, 4, 4, 2), {"group": 1, "lossless": True}, 300),
], ids=["tables", "context and lossless"])
def test_10_000_damaged_files_are_told(make, shape, options, count, bounded_memory):
    """Bytes changed, lost, doubled or cut off: an error, a warning, or the images that the file holds."""
    own, x, rng = make(), images(shape), np.random.default_rng(0)
    data, silent = codec.compress(own, x, **options), 0
    whole = codec.decompress(own, data)
    for _ in range(count):
        found, told = quietly(own, mutated_bytes(rng, data))
        if not told:
            np.testing.assert_array_equal(found.images, whole)
            silent += 1
    assert silent < 0.1 * count  # what stands after the end is not read


def test_headers_that_somebody_made_give_an_error_or_images_of_their_size(bounded_memory):
    """With a right sum, so that every number arrives where it is used."""
    own, rng = grey_levels(), np.random.default_rng(0)
    data = codec.compress(own, images((2, 6, 6, 2)), group=1, tile=16, overlap=4)
    header, end = codec.read_header(data)
    names = [name for name in vars(header) if name != "digest"]
    kinds = set()
    for _ in range(1500):
        changed = {name: bool(rng.integers(2)) if isinstance(getattr(header, name), bool)
                   else int(rng.choice([0, 1, 2, 3, 5, 17, 64, 1 << 20, (1 << 35) - 1]))
                   for name in rng.choice(names, rng.integers(1, 4), replace=False)}
        forged = codec.Header(**{**vars(header), **changed})
        found, _ = quietly(own, forged.to_bytes() + data[end:], max_pixels=4096)
        kinds.add(type(found))
        if isinstance(found, codec.Decoded):
            channels = forged.channels + forged.alpha
            assert found.images.shape == (forged.count, forged.height, forged.width, channels)
    assert kinds == {codec.Decoded, FileError}


def test_what_is_lost_is_made_up_where_that_is_asked_for_and_marked():
    asked = []

    def conceal(planes, known):
        asked.append((known, [plane.shape for plane in planes]))
        return [plane if own else np.full_like(plane, 3) for plane, own in zip(planes, known)]

    own, x = grey_levels(progressive=False, conceal=conceal), images((2, 8, 8, 1))
    data = codec.compress(own, x, group=1)
    cut = data[:-3]  # the second image's second plane
    assert isinstance(quietly(own, cut)[0], FileError)
    found, told = quietly(own, cut, conceal=True)
    assert told and found.concealed.tolist() == [False, True] and found.planes.tolist() == [2, 1]
    assert asked == [([True, False], [(1, 4, 4), (1, 4, 4)])]
    np.testing.assert_array_equal(found.images[0], codec.reconstruct(own, x, group=1)[0])
    with pytest.raises(FileError, match="tile 1 is lost, and this codec has no masked prior"):
        codec.decode(grey_levels(progressive=False), cut, conceal=True)


def test_another_codec_and_too_many_pixels_are_refused():
    own, x = grey_levels(), images((2, 8, 8, 1))
    data = codec.compress(own, x)
    with pytest.raises(FileError, match="was written by the codec"):
        codec.decompress(grey_levels(even(CODES, CODES + 1)), data)
    with pytest.raises(FileError, match="max_pixels=127"):
        codec.decompress(own, data, max_pixels=127)
    assert codec.decompress(own, data, max_pixels=128).shape == x.shape


@pytest.mark.parametrize("x, options, words", [
    (np.zeros((1, 2, 2, 1)), {}, "uint8"), (np.zeros((2, 2, 1), np.uint8), {}, "give one image an axis"),
    (np.zeros((0, 2, 2, 1), np.uint8), {}, "at least one pixel"), (np.zeros((1, 2, 2, 5), np.uint8), {}, "1 to 4"),
    (np.zeros((1, 2, 2, 1), np.uint8), {"levels": 3}, "levels=3 must be from 1 to 2"),
    (np.zeros((1, 2, 2, 1), np.uint8), {"overlap": 300}, "overlap=300"),
    (np.zeros((1, 2, 2, 1), np.uint8), {"group": 0}, "group=0"),
    (np.zeros((1, 2, 2, 1), np.uint8), {"tile": 0}, "tile=0"),
])
def test_what_cannot_be_coded_is_named(x, options, words):
    with pytest.raises(ValueError, match=words):
        codec.compress(grey_levels(), x, **options)


def test_levels_need_a_tokenizer_that_decodes_the_first_ones():
    with pytest.raises(ValueError, match="needs all of its 2"):
        codec.compress(grey_levels(progressive=False), images((1, 4, 4, 1)), levels=1)


def test_the_header_is_what_the_document_says():
    """By struct, from the document's table."""
    own, x = grey_levels(), images((3, 5, 200, 2))
    data = codec.compress(own, x, tile=64, overlap=6, group=7)
    assert data[:5] == b"JXG" + bytes([2, 2]) and data[5:13].hex() == own.digest
    assert list(data[13:22]) == [3, 5, 200 & 127 | 128, 1, 1, 2, 64, 6, 7]
    header, end = codec.read_header(data)
    assert end == 26 and (header.width, header.alpha, header.lossless) == (200, True, False)
    assert struct.unpack("<I", data[22:26])[0] == zlib.crc32(data[:22])
    layout = codec.codec.layout_of(own, (5, 200, 1), 64, 6)
    assert split(x[..., :1], layout).shape[0] == 3 * layout.tiles


def test_a_device_that_reconstructs_otherwise_says_that_a_lossless_file_is_not_restored():
    own = grey_levels()
    x = codec.reconstruct(own, images((1, 8, 8, 1)))  # so that nothing is a better guess
    data = codec.compress(own, x, lossless=True)
    other = dataclasses.replace(own, from_planes=lambda planes: own.from_planes(planes) + np.uint8(1))
    found, told = quietly(other, data)
    assert told
    np.testing.assert_array_equal(found.images, codec.reconstruct(other, x))
