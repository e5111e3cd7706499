"""Reading the colour images out of an OpenType font with PNG bitmaps (tables cmap, GSUB, CBLC, CBDT).

Read directly and not through a text renderer, so that the images do not depend on which shaping library is installed.
Layouts: the OpenType specification 1.9, https://learn.microsoft.com/typography/opentype/spec/.
"""

import contextlib
import os
import struct
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

LIGATURE, EXTENSION = 4, 7


def _check_spans(table: str, spans: list[tuple[int, ...]], largest: int) -> None:
    """Spans (first, last, ...) ascend and do not overlap, so that damaged ones cannot fill the memory."""
    bounds = [-1, *(bound for span in spans for bound in span[:2])]
    if any(a > b for a, b in pairwise(bounds)) or any(a[1] >= b[0] for a, b in pairwise(spans)) or bounds[-1] > largest:
        raise ValueError(f"its table {table} has spans that do not ascend")


class ColorFont:
    """The images of a font: `images()` gives PNG bytes by the sequence of code points that shows them.

    Raises:
        ValueError: naming the file, if it is no such font or is damaged; from `images()` too.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._data = self.path.read_bytes()
        with self._named():
            count = self._u16(4)
            records = [struct.unpack_from(">4s4xII", self._data, 12 + 16 * i) for i in range(count)]
            self._tables = {tag.decode("latin-1"): offset for tag, offset, _ in records}
            missing = {"cmap", "CBLC", "CBDT"} - set(self._tables)
            if missing:
                raise ValueError(f"it has no table {', '.join(sorted(missing))}")
            self._glyph_of = self._read_cmap()
            self._bitmaps = self._read_bitmap_places()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (struct.error, ValueError) as error:
            raise ValueError(
                f"font={str(self.path)!r} is not a font with colour bitmaps (CBDT), or damaged: {error}"
            ) from error

    def _u16(self, offset: int) -> int:
        return struct.unpack_from(">H", self._data, offset)[0]

    def _u16s(self, offset: int, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f">{count}H", self._data, offset)

    def _read_cmap(self) -> dict[int, int]:
        base = self._tables["cmap"]
        for i in range(self._u16(base + 2)):
            (offset,) = struct.unpack_from(">I", self._data, base + 8 + 8 * i)
            if self._u16(base + offset) == 12:
                (groups,) = struct.unpack_from(">I", self._data, base + offset + 12)
                begin = base + offset + 16
                spans = list(struct.iter_unpack(">III", self._data[begin : begin + 12 * groups]))
                _check_spans("cmap", spans, sys.maxunicode)
                return {code: glyph + code - start for start, end, glyph in spans for code in range(start, end + 1)}
        raise ValueError("its cmap has no subtable of format 12")

    def _read_bitmap_places(self) -> dict[int, tuple[int, int]]:
        """Glyph -> (image format, where it begins in the file), for the font's largest strike."""
        base, images = self._tables["CBLC"], self._tables["CBDT"]
        (sizes,) = struct.unpack_from(">I", self._data, base + 4)
        strikes = [struct.unpack_from(">I4xI28x4xBBBb", self._data, base + 8 + 48 * i) for i in range(sizes)]
        array, count, *_ = max(strikes, key=lambda strike: strike[2])
        places = {}
        for i in range(count):
            first, last, extra = struct.unpack_from(">HHI", self._data, base + array + 8 * i)
            header = base + array + extra
            index_format, image_format, start = struct.unpack_from(">HHI", self._data, header)
            if index_format not in (1, 3):
                raise ValueError(f"its CBLC has an index subtable of format {index_format}; 1 and 3 are read")
            code = "I" if index_format == 1 else "H"
            offsets = struct.unpack_from(f">{last - first + 2}{code}", self._data, header + 8)
            for glyph, (begin, end) in enumerate(pairwise(offsets), first):
                if end > begin:
                    places[glyph] = (image_format, images + start + begin)
        return places

    def _png(self, glyph: int) -> bytes:
        image_format, offset = self._bitmaps[glyph]
        metrics = {17: 5, 18: 8, 19: 0}.get(image_format)
        if metrics is None:
            raise ValueError(f"it has bitmaps of format {image_format}; 17, 18 and 19 are PNG")
        (length,) = struct.unpack_from(">I", self._data, offset + metrics)
        begin = offset + metrics + 4
        return self._data[begin : begin + length]

    def _coverage(self, offset: int) -> list[int]:
        kind, count = self._u16s(offset, 2)
        if kind == 1:
            return list(self._u16s(offset + 4, count))
        spans = [self._u16s(offset + 4 + 6 * i, 2) for i in range(count)]
        _check_spans("GSUB", spans, 0xFFFF)
        return [glyph for start, end in spans for glyph in range(start, end + 1)]

    def _ligatures(self) -> list[tuple[tuple[int, ...], int]]:
        """(glyphs that are written, glyph that is shown), from every ligature lookup."""
        if "GSUB" not in self._tables:
            return []
        base = self._tables["GSUB"]
        lookups = base + self._u16(base + 8)
        found = []
        for lookup in (lookups + offset for offset in self._u16s(lookups + 2, self._u16(lookups))):
            kind, _, count = self._u16s(lookup, 3)
            for table in (lookup + offset for offset in self._u16s(lookup + 6, count)):
                inner = kind
                if kind == EXTENSION:
                    inner, extra = struct.unpack_from(">HI", self._data, table + 2)
                    table += extra
                if inner == LIGATURE:
                    found += self._ligature_table(table)
        return found

    def _ligature_table(self, table: int) -> list[tuple[tuple[int, ...], int]]:
        _, coverage, count = self._u16s(table, 3)
        found = []
        for first, offset in zip(self._coverage(table + coverage), self._u16s(table + 6, count)):
            group = table + offset
            for ligature in (group + inner for inner in self._u16s(group + 2, self._u16(group))):
                shown, components = self._u16s(ligature, 2)
                found.append(((first, *self._u16s(ligature + 4, components - 1)), shown))
        return found

    def images(self) -> dict[tuple[int, ...], bytes]:
        """PNG bytes by sequence of code points: single ones first, then ligatures, each in ascending order."""
        with self._named():
            return self._read_images()

    def _read_images(self) -> dict[tuple[int, ...], bytes]:
        found = {(code,): glyph for code, glyph in sorted(self._glyph_of.items()) if glyph in self._bitmaps}
        code_of: dict[int, int] = {}
        for code, glyph in sorted(self._glyph_of.items()):
            code_of.setdefault(glyph, code)
        sequences = {}
        for written, shown in self._ligatures():
            if shown in self._bitmaps and all(glyph in code_of for glyph in written):
                sequences[tuple(code_of[glyph] for glyph in written)] = shown
        found.update((codes, sequences[codes]) for codes in sorted(sequences) if codes not in found)
        return {codes: self._png(glyph) for codes, glyph in found.items()}
