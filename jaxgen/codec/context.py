"""Adaptive tables of the codes nearby: several counts of what followed what, mixed in the logarithm.

    p_e(s) = (n_e(s) + a_e p_0(s)) / (N_e + a_e)              expert e: counts n_e of the codes after its context,
                                                               a_e one more than are different, p_0 the static table
    log p(s) = log p_0(s) + sum_e w_e (log p_e(s) - log p_0(s)) + constant
    w_e <- w_e + r sum_s d(log p(s)) / d w_e                   after the symbols s of a diagonal

The contexts are the place, the code to the left, the one above, and the one of the plane before at the same place. So
the places of a diagonal (x + y alike) need nothing of each other, and are coded at once, in all images of a chunk; each
image has weights of its own. Counts start from those of the training set, and learn from all images. Everything is in
whole numbers: probabilities and weights of 2^-16, logarithms of 1/64.

Witten & Bell, "The zero-frequency problem", 1991 (a_e); Mahoney, "Adaptive weighing of context models for lossless data
compression", 2005 (the mixture).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jaxgen.codec.coder import Transfer
from jaxgen.codec.probabilities import Plane, Static, check_planes, fit_static
from jaxgen.codec.tables import GRID, PRECISION, softmax_frequencies
from jaxgen.core.digest import digest

EXPERTS = ("place", "left", "above", "before")
MAX_CONTEXTS = 1021  # a prime: more codes than that share contexts
LEARNED = 4  # what a symbol adds to its counts; one of training adds 1
ONE = 1 << PRECISION  # a weight of 1
_RATE = 4  # of a weight's step: r = _RATE GRID / 2^16 per nat
_FITTED = 64  # images, at most half of all, that the first weights are learned from by the counts of the others
_PASSES = 4
_ROWS = 1024  # tables that are made at a time
_MANNER = 2  # of making tables; other numbers are of files that are read otherwise


@dataclass(frozen=True, kw_only=True)
class Context:
    """The mixture above.

    Attributes:
        static: its tables are p_0.
        counts: of each plane, by expert: uint8 [contexts, K].
        weights: of each plane, the first weights of `EXPERTS`, of 2^-16.
        grid: of each plane, (h, w) in the training set, where places count.
    """

    static: Static
    counts: tuple[dict[str, Int[np.ndarray, "contexts K"]], ...]
    weights: tuple[tuple[int, ...], ...]
    grid: tuple[tuple[int, int], ...]
    block = None
    exact = True

    @property
    def num_codes(self) -> tuple[int, ...]:
        return self.static.num_codes

    @property
    def digest(self) -> str:
        return digest({"manner": np.array(_MANNER), "static": self.static.tables, "counts": self.counts,
                       "weights": self.weights, "grid": self.grid})

    def chunks(self, count: int) -> list[tuple[int, ...]]:
        """One for each plane."""
        return self.static.chunks(count)

    def code(self, chunk: tuple[int, ...], before: Sequence[Plane], shape: tuple[int, int, int], transfer: Transfer
             ) -> list[Plane]:
        """See `Probabilities`."""
        return [self._plane(chunk[0], before, shape, transfer)[0]]

    def _plane(self, plane, before, shape, transfer):
        """(the plane, the weights at the end [B, experts])."""
        images, height, width = shape
        tokens = np.zeros((images, height + 1, width + 1), np.int64)  # a row above and a column to the left of 0
        base = self.static.tables[plane]
        log_base = logarithm(base)
        learned = {name: table.astype(np.int64) for name, table in self.counts[plane].items()}
        if shape[1:] != self.grid[plane]:
            learned.pop("place", None)
        weights = np.array([[self.weights[plane][EXPERTS.index(name)] for name in learned]] * images)
        parent = _parent(before[-1], shape) if before else None
        for image, y, x in _diagonals(shape):
            contexts = {"place": y * width + x, "left": tokens[image, y + 1, x], "above": tokens[image, y, x + 1]}
            if parent is not None:
                contexts["before"] = parent[image, y, x]
            contexts = {name: contexts[name] % len(table) for name, table in learned.items()}
            slopes, symbols = np.zeros_like(weights), np.empty_like(image)
            for part in _parts(len(image)):
                gains = np.stack([_gain(table[contexts[name][part]], base, log_base)
                                  for name, table in learned.items()], 1)
                logits = log_base + ((weights[image[part], :, None] * gains).sum(1) >> PRECISION)
                table = softmax_frequencies(logits)
                symbols[part] = transfer(table, (image[part], y[part], x[part], 0))
                chosen = gains[np.arange(len(gains)), :, symbols[part]]
                np.add.at(slopes, image[part], chosen - ((table[:, None] * gains).sum(-1) >> PRECISION))
            tokens[image, y + 1, x + 1] = symbols
            weights = np.clip(weights + _RATE * slopes, 0, 4 * ONE)
            for name, counts in learned.items():
                np.add.at(counts, (contexts[name], symbols), LEARNED)
        return tokens[:, 1:, 1:], weights


def fit_context(planes: Sequence[Plane], num_codes: Sequence[int]) -> Context:
    """Counts of a training set, and weights that are learned on its last images by the counts of the others.

    Args:
        planes: of the training set, at least two images.
        num_codes: of each.

    Raises:
        ValueError: codes beyond their number, or fewer images.
    """
    check_planes(planes, num_codes)
    images = len(planes[0])
    if images < 2:
        raise ValueError(f"planes must be of two images or more, got {images}")
    last, grid = max(images // 2, images - _FITTED), tuple(plane.shape[1:] for plane in planes)

    def fitted(planes, weights):
        counts = tuple(_counts(planes, i, codes) for i, codes in enumerate(num_codes))
        return Context(static=fit_static(planes, num_codes), counts=counts, weights=weights, grid=grid)

    weights = [(ONE,) * len(EXPERTS)] * len(planes)
    for _ in range(_PASSES):
        start = fitted([plane[:last] for plane in planes], tuple(weights))
        for i, plane in enumerate(planes):
            known = plane[last:]
            _, ends = start._plane(i, [before[last:] for before in planes[:i]], known.shape,
                                   lambda table, places, known=known: known[places[:3]])
            mean = dict(zip(start.counts[i], ends.mean(0)))
            weights[i] = tuple(int(mean.get(name, 0)) for name in EXPERTS)
    return fitted(planes, tuple(weights))


@functools.cache
def _logarithms() -> np.ndarray:
    """round(GRID ln(i / 2^16)), i = 0 .. 2^16, the first as the second; none of them is near the middle of two."""
    return np.rint(GRID * np.log(np.maximum(np.arange(ONE + 1), 1) / ONE)).astype(np.int64)


def logarithm(probabilities: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Natural logarithms of 1/`GRID` of whole numbers of 2^-16; 0 is taken for 1."""
    return _logarithms()[probabilities]


def _diagonals(shape):
    """(image, y, x) of the tokens of each diagonal."""
    images, height, width = shape
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        yield np.repeat(np.arange(images), len(y)), np.tile(y, images), np.tile(diagonal - y, images)


def _parts(count):
    """Of a diagonal, so that memory stays bounded; what a part is does not change a table."""
    return [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]


def _gain(counts, base, log_base):
    """log p_e - log p_0 [B, K] of the counts of its contexts."""
    different = np.count_nonzero(counts, axis=1)[:, None] + 1
    smoothed = ((counts << PRECISION) + different * base) // (counts.sum(1, keepdims=True) + different)
    return logarithm(smoothed) - log_base


def _counts(planes, plane, codes):
    """The training set's counts of one plane, by expert, as bytes: rows with larger ones are divided."""
    own = np.pad(planes[plane], ((0, 0), (1, 0), (1, 0)))
    _, height, width = planes[plane].shape
    contexts = {"place": np.arange(height * width).reshape(1, height, width), "left": own[:, 1:, :-1],
                "above": own[:, :-1, 1:]}
    sizes = {"place": height * width, "left": codes, "above": codes}
    if plane:
        contexts["before"] = _parent(planes[plane - 1], planes[plane].shape)
        sizes["before"] = int(contexts["before"].max(initial=0)) + 1
    result = {}
    for name, context in contexts.items():
        table = np.zeros((min(sizes[name], MAX_CONTEXTS), codes), np.int64)
        np.add.at(table, (np.broadcast_to(context % len(table), planes[plane].shape), planes[plane]), 1)
        most = table.max(1, keepdims=True)
        result[name] = np.where(most > 255, -(-table * 255 // np.maximum(most, 1)), table).astype(np.uint8)
    return result


def _parent(before, shape):
    """The plane before, brought to the size of this one by repeating."""
    rows, columns = (np.arange(size) * own // size for size, own in zip(shape[1:], before.shape[1:]))
    return before[:, rows[:, None], columns]
