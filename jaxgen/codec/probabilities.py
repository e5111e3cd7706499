"""What a model of probabilities is to the codec, and the plainest one: a table for each index map.

Tokens of images are index maps, "planes": one for each level of a residual quantizer, group, digit or resolution, from
coarse to fine, each [B, h, w] with codes of its own. A chunk of a file holds one plane or several of some images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from jaxgen.codec.coder import Transfer
from jaxgen.codec.tables import MAX_SYMBOLS, TOTAL, frequencies
from jaxgen.core.checks import check_counts
from jaxgen.core.digest import digest

Plane = Int[np.ndarray, "B h w"]


@runtime_checkable
class Probabilities(Protocol):
    """Tables of every token, given those that are coded before."""

    num_codes: tuple[int, ...]
    """Of each plane."""
    block: tuple[int, int] | None
    """What the sizes (h, w) of planes must be multiples of; None for any size."""
    exact: bool
    """Whether tables come of whole numbers only; of others a file holds a sum, by which a reader tells."""
    digest: str
    """Of all that the tables depend on."""

    def chunks(self, count: int) -> list[tuple[int, ...]]:
        """The planes of each chunk, in the order of a file that holds the first `count` planes."""

    def code(self, chunk: tuple[int, ...], before: Sequence[Plane], shape: tuple[int, int, int], transfer: Transfer
             ) -> list[Plane]:
        """The planes of a chunk, whose symbols `transfer` tells.

        Args:
            chunk: of `chunks`.
            before: the planes below the chunk's first, whole.
            shape: [B, h, w] of the chunk's planes.
            transfer: `(tables, places) -> symbols`; places are an index of the chunk's tokens [B, h, w, planes].
        """


@dataclass(frozen=True, kw_only=True)
class Static:
    """One table for each plane, whatever stands around a token.

    Attributes:
        tables: [K] of each plane, as `frequencies` makes them.

    Raises:
        ValueError: a table that is none.

    Example:
        >>> fit_static([np.array([[[0, 1, 1, 1]]])], (2,)).tables[0].tolist()
        [21846, 43690]
    """

    tables: tuple[Int[np.ndarray, "K"], ...]
    block = None
    exact = True

    def __post_init__(self):
        for table in self.tables:
            if table.ndim != 1 or table.min() < 1 or table.sum() != TOTAL:
                raise ValueError(f"a table must have entries from 1 with the sum {TOTAL}, got {table.shape} with the "
                                 f"sum {table.sum()}: make it by jaxgen.codec.frequencies")

    @property
    def num_codes(self) -> tuple[int, ...]:
        return tuple(len(table) for table in self.tables)

    @property
    def digest(self) -> str:
        return digest({"static": [table.astype(np.int32) for table in self.tables]})

    def chunks(self, count: int) -> list[tuple[int, ...]]:
        """One for each plane."""
        return [(plane,) for plane in range(count)]

    def code(self, chunk: tuple[int, ...], before: Sequence[Plane], shape: tuple[int, int, int], transfer: Transfer
             ) -> list[Plane]:
        """See `Probabilities`."""
        return [transfer(self.tables[plane], (..., i)).reshape(shape) for i, plane in enumerate(chunk)]


def fit_static(planes: Sequence[Plane], num_codes: Sequence[int]) -> Static:
    """The tables of the codes' counts, 1 added to each.

    Args:
        planes: of the training set.
        num_codes: of each.

    Raises:
        ValueError: codes beyond their number, or more than `MAX_SYMBOLS`.
    """
    check_planes(planes, num_codes)
    counts = [np.bincount(np.ravel(plane), minlength=codes) for plane, codes in zip(planes, num_codes, strict=True)]
    return Static(tables=tuple(frequencies(count + 1) for count in counts))


def check_planes(planes: Sequence[Plane], num_codes: Sequence[int]) -> None:
    """Raises ValueError for planes that are not of these numbers of codes."""
    codes_of = check_counts("num_codes", tuple(num_codes))
    if len(planes) != len(codes_of):
        raise ValueError(f"num_codes is of {len(codes_of)} planes, but {len(planes)} are given")
    for i, (plane, codes) in enumerate(zip(planes, codes_of)):
        if codes > MAX_SYMBOLS:
            raise ValueError(f"plane {i} has {codes} codes, a table {MAX_SYMBOLS} at most: split codes into digits")
        if plane.ndim != 3 or (plane.size and not 0 <= plane.min() <= plane.max() < codes):
            raise ValueError(f"plane {i} must be [B, h, w] of codes below {codes}, got {plane.shape} with "
                             f"{plane.min(initial=0)} to {plane.max(initial=0)}")
