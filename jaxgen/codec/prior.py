"""Tables of a learned prior: a network that reads the tokens before, or those around masks in a fixed order of groups.

The network is one of whole numbers (`IntegerNext`, `IntegerMasked`), whose tables are the same everywhere; or one in
floating point, whose logits are rounded to a grid, so that most devices agree, and whose tables a file sums up, so that
those that do not are told. A masked prior never chooses its order by confidences, which would have to agree as well.

Chang et al., "MaskGIT", 2022, and El-Nouby et al., "Image compression with product quantized masked image modeling",
2022 (coding in groups); Besnier et al., "Halton scheduler for masked generative image transformer", 2025 (their order).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from jaxgen.codec.coder import Transfer
from jaxgen.codec.probabilities import Plane
from jaxgen.codec.tables import softmax_frequencies
from jaxgen.core.checks import check_count

GROUPS = 12


class NextNetwork(Protocol):
    """A network that reads the tokens of a sequence one by one."""

    exact: bool
    digest: str

    def all(self, tokens: Int[np.ndarray, "B N"]) -> Int[np.ndarray, "B N K"] | None:
        """Logits of 1/64 nats of known tokens, the same that `next` gives; None where they would differ."""

    def start(self, batch: int, length: int) -> Any:
        """The state before the first token of so many sequences."""

    def next(self, state: Any, before: Int[np.ndarray, "B"], index: int) -> tuple[Int[np.ndarray, "B K"], Any]:
        """(logits of the token at `index`, state), of the token before it."""


class MaskedNetwork(Protocol):
    """A network that sees the tokens around masks."""

    exact: bool
    digest: str

    def logits(self, tokens: Int[np.ndarray, "B N"], known: Int[np.ndarray, "N"], step: int
               ) -> Int[np.ndarray, "B N K"]:
        """Logits of 1/64 nats of every token, of those that are known, at one of the fixed steps."""


@dataclass(frozen=True, kw_only=True)
class Autoregressive:
    """Codes tokens by rows, the levels of a place one after the other; all planes make one chunk.

    Attributes:
        network: see `NextNetwork`.
        num_codes: of each plane.
        block: (h, w) of the sequences that the network knows; larger index maps are several, each for itself.
    """

    network: NextNetwork
    num_codes: tuple[int, ...]
    block: tuple[int, int]

    @property
    def exact(self) -> bool:
        return self.network.exact

    @property
    def digest(self) -> str:
        return f"autoregressive {self.network.digest} {self.num_codes} {self.block}"

    def chunks(self, count: int) -> list[tuple[int, ...]]:
        """One of all planes; raises ValueError for fewer."""
        if count != len(self.num_codes):
            raise ValueError(f"an autoregressive prior codes all {len(self.num_codes)} index maps together, not the "
                             f"first {count}: take tables, the context or a masked prior")
        return [tuple(range(count))]

    def code(self, chunk: tuple[int, ...], before: Sequence[Plane], shape: tuple[int, int, int], transfer: Transfer
             ) -> list[Plane]:
        """See `jaxgen.codec.Probabilities`."""
        places = blocks_of(shape, self.block, len(chunk))
        tokens = np.zeros((*shape, len(chunk)), np.int64)
        sequences, length = places[0].shape
        known = getattr(transfer, "known", None)
        logits = None if known is None else self.network.all(known[places])
        state = None if logits is not None else self.network.start(sequences, length)
        last = np.zeros(sequences, np.int64)
        for index in range(length):
            if logits is None:
                now, state = self.network.next(state, last, index)
            else:
                now = logits[:, index]
            here = tuple(part[:, index] for part in places)
            last = tokens[here] = transfer(softmax_frequencies(now), here)
        return [tokens[..., i] for i in range(len(chunk))]


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Codes tokens in groups, each given all groups before; a chunk is a plane.

    Attributes:
        network: see `MaskedNetwork`; its steps are the groups of the first plane, then those of the next.
        num_codes: of each plane.
        groups: [h, w] the group of each place, from 0 on.
    """

    network: MaskedNetwork
    num_codes: tuple[int, ...]
    groups: Int[np.ndarray, "h w"]

    @property
    def block(self) -> tuple[int, int]:
        return self.groups.shape

    @property
    def exact(self) -> bool:
        return self.network.exact

    @property
    def digest(self) -> str:
        return f"masked {self.network.digest} {self.num_codes} {self.groups.tolist()}"

    def chunks(self, count: int) -> list[tuple[int, ...]]:
        """One for each plane."""
        return [(plane,) for plane in range(count)]

    def code(self, chunk: tuple[int, ...], before: Sequence[Plane], shape: tuple[int, int, int], transfer: Transfer
             ) -> list[Plane]:
        """See `jaxgen.codec.Probabilities`."""
        (plane,), levels, count = chunk, len(self.num_codes), int(self.groups.max()) + 1
        places = blocks_of(shape, self.block, levels)
        known = steps_of(self.groups, levels)
        tokens = np.zeros((*shape, levels), np.int64)
        for i, lower in enumerate(before):
            tokens[..., i] = lower
        for step in range(plane * count, (plane + 1) * count):
            now = np.flatnonzero(known[step + 1] & ~known[step])
            logits = self.network.logits(tokens[places], known[step], step)[:, now]
            here = tuple(part[:, now].ravel() for part in places)
            own = (*here[:3], np.zeros_like(here[3]))  # the chunk has one plane
            tokens[here] = transfer(softmax_frequencies(logits.reshape(-1, logits.shape[-1])), own)
        return [tokens[..., plane]]


def steps_of(groups: Int[np.ndarray, "h w"], levels: int) -> Int[np.ndarray, "steps+1 N"]:
    """Which tokens of a block are known before each step of a masked prior, and after the last: plane by plane."""
    order = np.arange(levels) * (groups.max() + 1) + groups.reshape(-1, 1)  # the step of each token
    return order.ravel() < np.arange(levels * (groups.max() + 1) + 1)[:, None]


def halton_groups(height: int, width: int, count: int = GROUPS) -> Int[np.ndarray, "h w"]:
    """The group of each place: places in the order in which a Halton sequence meets them, groups that grow.

    The first g of n groups hold the share 1 - cos(pi/2 g/n) of all places, and one place more each than that needs.

    Args:
        height, width: of the grid.
        count: n, at most; a small grid has fewer.

    Example:
        >>> halton_groups(2, 2, 2).tolist()
        [[0, 1], [1, 1]]
    """
    size = check_count("height", height) * check_count("width", width)
    order, seen, i = [], set(), 0
    while len(order) < size:
        place = _radical_inverse(i, 2, height) * width + _radical_inverse(i, 3, width)
        i += 1
        if place not in seen:
            seen.add(place)
            order.append(place)
    ends = np.ceil(size * (1 - np.cos(np.pi / 2 * np.arange(1, check_count("count", count) + 1) / count)))
    ends = np.unique(np.clip(ends, 1, size))
    groups = np.empty(size, np.int64)
    groups[order] = np.searchsorted(ends, np.arange(size), side="right")
    return groups.reshape(height, width)


def _radical_inverse(i: int, base: int, size: int) -> int:
    """floor(size x), x = the digits of i behind the point, in reverse."""
    top, bottom = 0, 1
    while i:
        i, digit = divmod(i, base)
        top, bottom = top * base + digit, bottom * base
    return top * size // bottom


def blocks_of(shape: tuple[int, int, int], block: tuple[int, int], levels: int) -> tuple[Int[np.ndarray, "S N"], ...]:
    """The places [image], [row], [column], [level] of the tokens of each block in an array [B, h, w, levels].

    Raises:
        ValueError: blocks do not fill the index maps.
    """
    images, height, width = shape
    if height % block[0] or width % block[1]:
        raise ValueError(f"index maps of {height}x{width} are no multiple of the prior's {block[0]}x{block[1]}")
    grid = np.indices((images, height // block[0], width // block[1], *block, levels)).reshape(6, -1)
    image, down, right, y, x, level = grid
    parts = (image, down * block[0] + y, right * block[1] + x, level)
    return tuple(part.reshape(-1, block[0] * block[1] * levels) for part in parts)
