"""Headers, chunks and numbers of a file: round trips, and every change is told."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.codec import FileError, Header, read_header
from jaxgen.codec.file_format import read_chunk, read_varint, varint, write_chunk

HEADER = Header(digest="0123456789abcdef", count=2, height=300, width=20, channels=3, planes=2, tile=512, overlap=16,
                group=64, alpha=True)
SIZES = st.integers(1, (1 << 35) - 1)


@given(st.integers(0, (1 << 35) - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_numbers_come_back_with_their_end(number, before, after):
    coded = varint(number)
    assert len(coded) == max(1, -(-number.bit_length() // 7))
    assert read_varint(before + coded + after, len(before)) == (number, len(before + coded))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 5, varint(1 << 35), b"\x80" * 6 + b"\x01"])
def test_numbers_that_are_cut_off_or_too_large_are_refused(data):
    with pytest.raises(FileError, match="cut off, or too large"):
        read_varint(data, 0)


@settings(deadline=None)
@given(st.builds(Header, digest=st.binary(min_size=8, max_size=8).map(bytes.hex), count=SIZES, height=SIZES,
                 width=SIZES, channels=st.sampled_from([1, 3]), planes=SIZES, tile=st.just((1 << 35) - 1),
                 overlap=st.integers(0, (1 << 35) - 2), group=SIZES, lossless=st.booleans(), alpha=st.booleans(),
                 inexact=st.booleans()), st.binary(max_size=4))
def test_headers_come_back_with_their_end(header, after):
    data = header.to_bytes()
    assert data[:4] == b"JXG\x02"
    assert read_header(data + after) == (header, len(data))


def test_every_change_of_a_byte_and_every_cut_of_a_header_is_refused():
    data = HEADER.to_bytes()
    for place in range(len(data)):
        for value in range(256):
            if value != data[place]:
                with pytest.raises(FileError) as error:
                    read_header(data[:place] + bytes([value]) + data[place + 1:] + b"payload")
                if place < 4:
                    words = "no .jxg file" if place < 3 else f"version {value} of the format, .*reads version 2"
                    assert error.match(words)
        with pytest.raises(FileError, match="cut off|no .jxg"):
            read_header(data[:place])


@pytest.mark.parametrize("name, value", [("count", 0), ("height", 0), ("width", 0), ("channels", 2), ("planes", 0),
                                         ("tile", 0), ("overlap", 512), ("group", 0)])
def test_numbers_that_no_file_has_are_refused(name, value):
    with pytest.raises(FileError, match=f"no file has: .*{name}={value}"):
        read_header(Header(**{**vars(HEADER), name: value}).to_bytes())


@given(st.binary(max_size=300), st.binary(max_size=10), st.none() | st.integers(0, 2**32 - 1), st.binary(max_size=5))
def test_chunks_come_back_and_their_sum_is_of_what_they_stand_for(payload, content, tables, before):
    data = write_chunk(payload, content, tables)
    assert len(data) == len(varint(len(payload))) + len(payload) + (4 if tables is None else 8)
    chunk = read_chunk(before + data + b"next", len(before), tables=tables is not None)
    assert chunk.payload == payload and chunk.tables == tables and chunk.end == len(before + data)
    assert int.from_bytes(chunk.sum, "little") == zlib.crc32(payload + content)
    for cut in range(len(data)):
        assert read_chunk(data[:cut], 0, tables=tables is not None) is None
