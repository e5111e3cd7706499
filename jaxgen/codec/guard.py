"""What guards files of a model in floating point, which another device, or batch, may compute otherwise.

A chunk has the sum of the tables that it was written with, by which a reader tells. What the writer itself can't read
again is stored as it is, by even tables.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from jaxgen.codec.coder import Reader, Writer
from jaxgen.codec.probabilities import Plane, Probabilities, Static
from jaxgen.codec.tables import frequencies

MODELLED, RAW = 0, 1  # the first byte of the payload


class _Summing:
    """A transfer that also takes the sum of the tables that pass."""

    def __init__(self, transfer):
        self.transfer, self.sum = transfer, 0

    def __call__(self, table, places):
        self.sum = zlib.crc32(np.ascontiguousarray(table, "<i4").tobytes(), self.sum)
        return self.transfer(table, places)


def write(
    probabilities: Probabilities, chunk: tuple[int, ...], before: Sequence[Plane], known: Int[np.ndarray, "B h w P"]
) -> tuple[bytes, int]:
    """(payload, sum of the tables) of the planes of a chunk.

    Args:
        probabilities: the model.
        chunk, before: see `Probabilities.code`.
        known: the planes.
    """
    payload, tables = _coded(probabilities, chunk, before, known)
    try:
        planes, again = _read(probabilities, chunk, before, known.shape, payload)
        if again == tables and np.array_equal(np.stack(planes, -1), known):
            return bytes([MODELLED]) + payload, tables
    except ValueError:
        pass  # so little alike that no symbols have these bytes
    payload, tables = _coded(_even(probabilities), chunk, before, known)
    return bytes([RAW]) + payload, tables


def read(
    probabilities: Probabilities, chunk: tuple[int, ...], before: Sequence[Plane], shape: tuple[int, ...],
    payload: bytes,
) -> tuple[list[Plane], int]:
    """(planes, sum of the tables) of a payload of planes of `shape` [B, h, w, P]; ValueError for a damaged one."""
    if not payload or payload[0] not in (MODELLED, RAW):
        raise ValueError("the chunk is damaged: it does not say how its codes are stored")
    model = _even(probabilities) if payload[0] == RAW else probabilities
    return _read(model, chunk, before, shape, payload[1:])


def _coded(probabilities, chunk, before, known):
    transfer = _Summing(Writer(known))
    probabilities.code(chunk, before, known.shape[:3], transfer)
    return transfer.transfer.data(), transfer.sum


def _read(probabilities, chunk, before, shape, payload):
    transfer = _Summing(Reader(payload, shape))
    return probabilities.code(chunk, before, shape[:3], transfer), transfer.sum


def _even(probabilities):
    """Tables in which all codes are equally likely: codes as they are."""
    return Static(tables=tuple(frequencies(np.ones(codes, np.int64)) for codes in probabilities.num_codes))
