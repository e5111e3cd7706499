"""Integer frequency tables: what the coder codes with, the same to the last bit everywhere.

A table has an entry of at least 1 for each symbol, and its entries add up to `TOTAL`. All of it is integer arithmetic
and elementwise, so that no device, library or order of additions changes an entry.
"""

import decimal
import functools

import numpy as np
from jaxtyping import Float, Int

PRECISION = 16
TOTAL = 1 << PRECISION
MAX_SYMBOLS = 1 << 12
GRID = 64  # steps of a logit per nat
_WEIGHT_BITS = 24


def frequencies(weights: Int[np.ndarray, "... K"]) -> Int[np.ndarray, "... K"]:
    """Weights to tables: 1 + floor(w (TOTAL - K) / sum(w)), and what is left over to the first of the largest weights.

    Args:
        weights: [..., K] whole numbers from 0 to 2^36; where all are 0, all symbols are equally likely.

    Returns:
        [..., K] int64, each at least 1, with the sum TOTAL.

    Raises:
        ValueError: more than `MAX_SYMBOLS` symbols, none, numbers that are not whole, or negative ones.

    Example:
        >>> frequencies(np.array([3, 1, 0])).tolist()
        [49151, 16384, 1]
    """
    weights = np.asarray(weights)
    if not np.issubdtype(weights.dtype, np.integer):
        raise ValueError(f"weights must be whole numbers, got {weights.dtype}: floating point depends on the machine")
    symbols = weights.shape[-1]
    if not 1 <= symbols <= MAX_SYMBOLS:
        raise ValueError(f"weights must be of 1 to {MAX_SYMBOLS} symbols, got {symbols}: split a symbol into digits")
    weights = weights.astype(np.int64)
    if weights.size and weights.min() < 0:
        raise ValueError(f"weights must not be negative, got {weights.min()}")
    sums = weights.sum(-1, keepdims=True)
    weights, sums = np.where(sums == 0, 1, weights), np.where(sums == 0, symbols, sums)
    table = 1 + weights * (TOTAL - symbols) // sums
    left = TOTAL - table.sum(-1, keepdims=True)
    largest = weights.argmax(-1)[..., None]
    np.put_along_axis(table, largest, np.take_along_axis(table, largest, -1) + left, -1)
    return table


def to_grid(logits: Float[np.ndarray, "... K"]) -> Int[np.ndarray, "... K"]:
    """Logits in nats to whole numbers of 1/`GRID`; raises ValueError where one is not finite."""
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite: the model does not suit these tokens, or is damaged")
    return np.rint(logits * GRID).astype(np.int64)


def softmax_frequencies(logits: Int[np.ndarray, "... K"]) -> Int[np.ndarray, "... K"]:
    """`frequencies` of exp(logits / GRID), the exponentials by a table of whole numbers.

    Args:
        logits: [..., K] whole numbers of 1/GRID nats, see `to_grid`.
    """
    logits = np.asarray(logits, np.int64)
    below = logits.max(-1, keepdims=True) - logits
    table = exponentials()
    return frequencies(table[np.minimum(below, len(table) - 1)])


def bits(symbols: Int[np.ndarray, "n"], table: Int[np.ndarray, "... K"]) -> float:
    """-sum log2 p of symbols under one table [K], or one for each [n, K]: the least that they can take."""
    symbols = np.asarray(symbols)
    chosen = table[symbols] if table.ndim == 1 else np.take_along_axis(table, symbols[:, None], -1)[:, 0]
    return float(PRECISION * symbols.size - np.log2(chosen).sum())


@functools.cache
def exponentials() -> Int[np.ndarray, "T"]:
    """round(2^24 exp(-i / GRID)), i = 0, 1, ... until 0: by decimals, which round alike everywhere."""
    with decimal.localcontext(prec=40):
        step, values = (decimal.Decimal(-1) / GRID).exp(), [decimal.Decimal(1 << _WEIGHT_BITS)]
        while values[-1] >= decimal.Decimal("0.5"):
            values.append(values[-1] * step)
        return np.array([int(value.to_integral_value(decimal.ROUND_HALF_EVEN)) for value in values], np.int64)
