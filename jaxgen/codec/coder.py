"""Symbols to bytes and back by range coding, of the library `constriction`.

A model of probabilities is written once, for both directions: it asks a `Writer` or a `Reader` for the symbols at some
places, with their tables, and gets those that it is to write or those that are read.

    symbols = transfer(tables, places)
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxgen.codec.tables import TOTAL, bits
from jaxgen.core.extras import extra

Transfer = Callable[[Int[np.ndarray, "... K"], Any], Int[np.ndarray, "n"]]
_SHORT = 256  # bytes up to which an end that is not needed is looked for
_WORD = 4


class Writer:
    """Codes the symbols of an array, which is known.

    Attributes:
        bits: -sum log2 p so far of the tables that were used, the least that the bytes can take.
    """

    def __init__(self, known: Int[np.ndarray, "..."]):
        self.known, self.bits = known, 0.0
        self._coder, self._categorical = _queue().RangeEncoder(), _categorical()
        self._calls: list | None = []

    def __call__(self, table: Int[np.ndarray, "... K"], places: Any) -> Int[np.ndarray, "n"]:
        """The symbols at `places`, an index of the array, under one table [K] or one for each [n, K]."""
        symbols = np.ravel(self.known[places])
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < table.shape[-1]:
            raise ValueError(f"symbols must be from 0 to {table.shape[-1] - 1}, got {symbols.min()} to "
                             f"{symbols.max()}: they are of another tokenizer than the tables")
        symbols = symbols.astype(np.int32)
        self.bits += bits(symbols, table)
        self._put(self._coder, symbols, table)
        if self._calls is not None:
            self._calls.append((symbols, table))
            if self._coder.num_words() * _WORD > _SHORT:
                self._calls = None
        return symbols

    def data(self) -> bytes:
        """What was coded. The coder ends with a whole word; of few bytes, the shortest that read the same are taken."""
        data = self._coder.get_compressed().astype(">u4").tobytes()
        if self._calls is None:
            return data
        for length in range(max(0, len(data) - 2 * _WORD), len(data)):
            low = int.from_bytes(data[:length], "big")
            for value in (low, low + 1):  # the numbers of so many bytes next to the coder's, a fraction in base 2
                if value < 1 << 8 * length or value == 0:
                    shorter = value.to_bytes(length, "big")
                    if self._reads(shorter):
                        return shorter
        return data

    def _put(self, coder, symbols, table) -> None:
        if table.shape[-1] == 1:
            return  # a symbol that is certain, of which the library makes no model
        if table.ndim == 1:
            coder.encode(symbols, self._categorical(_probabilities(table), perfect=False))
        else:
            coder.encode(symbols, self._categorical(perfect=False), _probabilities(table))

    def _reads(self, data: bytes) -> bool:
        reader = Reader(data)
        try:
            return all(np.array_equal(reader(table, None, len(symbols)), symbols) for symbols, table in self._calls)
        except ValueError:
            return False


class Reader:
    """Decodes what a `Writer` wrote, asked with the same tables in the same order.

    Damaged bytes give other symbols, or ValueError where no symbols have such bytes: check them by a sum of their own.
    """

    def __init__(self, data: bytes, shape: tuple[int, ...] = (0,)):
        words = np.frombuffer(data + bytes(-len(data) % _WORD), ">u4").astype(np.uint32)
        self._coder, self._categorical = _queue().RangeDecoder(words), _categorical()
        self._places = np.empty(shape, np.bool_)

    def __call__(self, table: Int[np.ndarray, "... K"], places: Any, count: int | None = None
                 ) -> Int[np.ndarray, "n"]:
        """The next symbols, as many as `places` are of an array of the reader's shape."""
        count = self._places[places].size if count is None else count
        if table.shape[-1] == 1:
            return np.zeros(count, np.int32)
        try:
            if table.ndim == 1:
                return self._coder.decode(self._categorical(_probabilities(table), perfect=False), count)
            return self._coder.decode(self._categorical(perfect=False), _probabilities(table))
        except AssertionError as error:  # how the library says that no symbols have these bytes
            raise ValueError("the coded bytes are damaged, or were written with other tables") from error


def _probabilities(table: np.ndarray) -> np.ndarray:
    """Exact in float32: whole numbers of 2^-16."""
    return np.ascontiguousarray(table, np.float32) / np.float32(TOTAL)


def _queue() -> Any:
    with extra("codec"):
        import constriction
    return constriction.stream.queue


def _categorical() -> Any:
    with extra("codec"):
        import constriction
    return constriction.stream.model.Categorical
