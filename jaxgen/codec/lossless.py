"""What a reconstruction lacks, so that the original comes back bit for bit.

Pixels are coded from a coarse grid to a fine one: every eighth, then those in the middle of four known ones, until all
are there. A pixel is predicted by the reconstruction (by middle grey where that takes fewer bytes), by how far it was
off at the known neighbours (two of them or four), and by how far the prediction was off in the channel before:

    e = m + 3/4 (r' - m'),   p = clip(x_r + e),   symbol = (x - p) mod 256

r is x - x_r, m its mean over the neighbours, and ' the channel before. A symbol's distribution is a discretised mixture
of two logistic ones around 0, whose scale is predicted by how different the r of the neighbours are; a byte for each
pass corrects it. All of it is in whole numbers.

Salimans et al., "PixelCNN++", 2017 (the discretised logistic mixture); Roos et al., "Reversible intraframe compression
of medical images", 1988 (the order).
"""

import decimal
import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, UInt8

from jaxgen.codec.coder import Reader, Writer
from jaxgen.codec.tables import frequencies

COARSEST = 8
SCALES = 32
_SHARE, _WIDER = decimal.Decimal("0.95"), 4  # of the narrow one in the mixture; the wide one's scale is 4 s + 1
_BOUNDS = (1, 2, 3, 5, 8, 12, 18, 28, 42, 64, 96, 144)  # of the neighbours' differences, in quarters of a grey level
_FIRST = 18  # the scale of pixels without neighbours


def encode(x: UInt8[np.ndarray, "N H W C"], guess: UInt8[np.ndarray, "N H W C"]) -> bytes:
    """The bytes with which `decode` makes x of the guess, or of none where that takes fewer; the first says which."""
    return min((bytes([known]) + _encode(x, own) for known, own in enumerate(_guesses(guess))), key=len)


def decode(data: bytes, guess: UInt8[np.ndarray, "N H W C"]) -> UInt8[np.ndarray, "N H W C"]:
    """x of `encode`; of damaged bytes another x, or ValueError."""
    if not data or data[0] > 1:
        raise ValueError("the lossless part is cut off or damaged")
    return _decode(data[1:], _guesses(guess)[data[0]])


def _guesses(guess):
    return np.full_like(guess, 128), guess


def _encode(x, guess):
    symbols, offsets, state = np.zeros(x.shape, np.int64), [], _State(guess, x)
    writer = Writer(symbols)
    for places, middle, scale in state.passes():
        symbols[places] = (x[places].astype(np.int64) - middle) % 256
        offsets.append(_best_offset(symbols[places], scale))
        for level, chosen in _by_level(scale, offsets[-1]):
            writer(_tables()[level], tuple(index[chosen] for index in places))
    return bytes(offset + SCALES for offset in offsets) + writer.data()


def _decode(data, guess):
    count = len(_grids()) * guess.shape[3]
    if len(data) < count:
        raise ValueError("the lossless part is cut off")
    x = np.zeros(guess.shape, np.uint8)
    reader = Reader(data[count:], guess.shape)
    for (places, middle, scale), byte in zip(_State(guess, x).passes(), data):
        for level, chosen in _by_level(scale, byte - SCALES):
            own = tuple(index[chosen] for index in places)
            x[own] = (reader(_tables()[level], own) + middle[chosen]) % 256
    return x


def _by_level(scale: Int[np.ndarray, "n"], offset: int) -> Iterator[tuple[int, np.ndarray]]:
    """(scale, which of a pass have it), corrected by the pass's offset."""
    scale = np.clip(scale + offset, 0, SCALES - 1)
    for level in np.unique(scale):
        yield level, scale == level


def _best_offset(symbols, scale):
    counts = np.zeros((SCALES, 256), np.int64)
    np.add.at(counts, (scale, symbols), 1)
    used, offsets = counts.any(1).nonzero()[0], np.arange(-SCALES, SCALES + 1)
    cost = [-(counts[used] * np.log2(_tables()[np.clip(used + offset, 0, SCALES - 1)])).sum() for offset in offsets]
    return int(offsets[np.argmin(cost)])


class _State:
    """Images of which more and more pixels are known, and what is predicted of the others."""

    def __init__(self, guess, x):
        self.guess, self.x = guess.astype(np.int64), x
        self.off = np.zeros(guess.shape, np.int64)  # r in quarters of a grey level, where it is known
        self.mean = np.zeros(guess.shape, np.int64)  # m

    def passes(self) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]]:
        """(places, the prediction p, the predicted scale) of each pass; x must hold the pass's pixels before the next.
        """
        images, height, width, channels = self.guess.shape
        for own, neighbours in _grids():
            rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
            here = own(rows, columns)
            rows, columns = rows[here], columns[here]
            for channel in range(channels):
                mean, spread = self._around(rows, columns, neighbours, channel)
                expected = mean
                if channel:
                    before = (slice(None), rows, columns, channel - 1)
                    expected = mean + (3 * (self.off[before] - self.mean[before]) >> 2)
                self.mean[:, rows, columns, channel] = mean
                middle = np.clip(self.guess[:, rows, columns, channel] + (expected + 2 >> 2), 0, 255)
                scale = np.full(middle.shape, _FIRST) if not neighbours else 2 * np.digitize(spread, _BOUNDS)
                index = np.broadcast_arrays(np.arange(images)[:, None], rows, columns, channel)
                places = tuple(part.ravel() for part in index)
                yield places, middle.ravel(), scale.ravel()
                self.off[places] = 4 * (self.x[places].astype(np.int64) - self.guess[places])

    def _around(self, rows, columns, neighbours, channel):
        """(mean of r, mean difference of r from it) over the neighbours within the image, in quarters."""
        height, width = self.guess.shape[1:3]
        values, weights = [], []
        for down, right in neighbours:
            y, x = rows + down, columns + right
            weights.append((y >= 0) & (y < height) & (x >= 0) & (x < width))
            values.append(self.off[:, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1), channel])
        if not values:
            zero = np.zeros((len(self.guess), len(rows)), np.int64)
            return zero, zero
        values, weights = np.stack(values), np.stack(weights)[:, None].astype(np.int64)
        count = np.maximum(weights.sum(0), 1)
        mean = (values * weights).sum(0) // count
        return mean, (abs(values - mean) * weights).sum(0) // count + abs(mean) // 4


@functools.cache
def _grids() -> tuple:
    """(whether a pixel is of the pass, offsets of its neighbours), of each pass."""
    result = [(lambda y, x: (y % COARSEST == 0) & (x % COARSEST == 0), ())]
    step = COARSEST
    while step > 1:
        half = step // 2

        def middles(y, x, step=step, half=half):
            return (y % step == half) & (x % step == half)

        def edges(y, x, step=step, half=half):
            return ((y % step == 0) & (x % step == half)) | ((y % step == half) & (x % step == 0))

        result.append((middles, ((-half, -half), (-half, half), (half, -half), (half, half))))
        result.append((edges, ((-half, 0), (half, 0), (0, -half), (0, half))))
        step = half
    return tuple(result)


@functools.cache
def _tables() -> Int[np.ndarray, "scales 256"]:
    """Of each scale s = .08 * 1.26^k, by decimals, which round alike everywhere."""
    with decimal.localcontext(prec=28):
        scales = [decimal.Decimal("0.08") * decimal.Decimal("1.26") ** k for k in range(SCALES)]
        return np.stack([frequencies(_weights(scale)) for scale in scales])


def _weights(scale: decimal.Decimal) -> Int[np.ndarray, "256"]:
    """2^24 times the probability of each symbol, (x - p) mod 256."""

    def between(low, high, scale):  # two values of the logistic cumulative distribution, below 0
        return 1 / (1 + (-high / scale).exp()) - 1 / (1 + (-low / scale).exp())

    half = decimal.Decimal("0.5")
    negative = [_SHARE * between(-d - half, -d + half, scale)
                + (1 - _SHARE) * between(-d - half, -d + half, _WIDER * scale + 1) for d in range(1, 129)]
    zero = 1 - 2 * sum(negative[:-1]) - negative[-1]
    values = [zero, *negative[:-1], negative[-1], *reversed(negative[:-1])]
    return np.array([int(value * (1 << 24)) for value in values], np.int64)

