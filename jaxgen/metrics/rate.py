"""Codecs compared over their curves of rate and quality."""

import numpy as np
from jaxtyping import Array, Float

from jaxgen.core.checks import check_finite, check_positive

SMALLEST = 4  # points of a curve


def bd_rate(
    rate: Float[Array, "N"], quality: Float[Array, "N"],
    reference_rate: Float[Array, "M"], reference_quality: Float[Array, "M"],
) -> float:
    """Bjontegaard's delta rate: how many percent more bits a codec takes than a reference at equal quality.

        100 (exp(mean over q of log r(q) - log r_ref(q)) - 1)

    over the range of qualities q that both curves have. Between its points log r is a piecewise cubic in q that
    overshoots nowhere (PCHIP), whose integral is exact; beyond them nothing is assumed.

    The measure of quality is the caller's, the same for both: PSNR, MS-SSIM, -10 log10(1 - MS-SSIM), -LPIPS. The mean
    is over its own scale, so that MS-SSIM and its decibels give different numbers: say which.

    Args:
        rate: [N] positive, bits per pixel or bytes, in any order of points; 4 points at least, better 6 and more.
        quality: [N], greater is better, so of a distance its negative. No two may be equal. More bits may give less
            quality: the curve goes through all points. What other settings of the codec beat is left out beforehand.
        reference_rate: [M] of the reference, in the same unit.
        reference_quality: [M].

    Returns:
        Percent, negative where the codec takes fewer bits than the reference.

    Raises:
        ValueError: curves that are not [N], differ in length or have fewer than 4 points; NaN or infinity (the PSNR of
            a lossless point is infinite: leave that point out); rates of 0 or less; equal qualities of one curve;
            curves that have no range of qualities in common.

    Reference: Bjontegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001; with the
    interpolation of Fritsch and Butland, "A method for constructing local monotone piecewise cubic interpolants", 1984

    Example:
        >>> from jaxgen.metrics import bd_rate
        >>> psnr = [28.0, 31.0, 33.5, 35.0]
        >>> round(bd_rate([0.1, 0.2, 0.4, 0.6], psnr, [0.2, 0.4, 0.8, 1.2], psnr), 9)  # half of the bits
        -50.0
    """
    curve = _curve("rate", rate, "quality", quality)
    reference = _curve("reference_rate", reference_rate, "reference_quality", reference_quality)
    knots = np.union1d(curve[0], reference[0])
    low, high = (side(curve[0][end], reference[0][end]) for side, end in ((max, 0), (min, -1)))
    if not low < high:
        raise ValueError(f"quality from {curve[0][0]:g} to {curve[0][-1]:g} and reference_quality from "
                         f"{reference[0][0]:g} to {reference[0][-1]:g} have no range in common: measure more points")
    knots = knots[(low <= knots) & (knots <= high)]
    middle = (knots[:-1] + knots[1:]) / 2
    ends, middles = (_pchip(*curve, q) - _pchip(*reference, q) for q in (knots, middle))
    # Simpson's rule is exact for the cubics between two knots.
    integral = np.sum(np.diff(knots) * (ends[:-1] + 4 * middles + ends[1:]) / 6)
    return float(100 * np.expm1(integral / (high - low)))


def _curve(rate_name: str, rate: Array, quality_name: str, quality: Array) -> tuple[np.ndarray, np.ndarray]:
    """Qualities in ascending order, and the logarithms of their rates."""
    rate, quality = np.asarray(rate, np.float64), np.asarray(quality, np.float64)
    if rate.ndim != 1 or rate.shape != quality.shape:
        raise ValueError(f"{rate_name} and {quality_name} must be [N], one of each for a point, got shapes "
                         f"{rate.shape} and {quality.shape}")
    if len(rate) < SMALLEST:
        raise ValueError(f"{rate_name} must have {SMALLEST} points at least, got {len(rate)}: measure more settings")
    check_positive(rate_name, rate)
    check_finite(quality_name, quality)
    order = np.argsort(quality)
    rate, quality = rate[order], quality[order]
    equal = np.flatnonzero(np.diff(quality) <= 0)
    if equal.size:
        raise ValueError(f"{quality_name} must differ between points, got {quality[equal[0]]:g} twice: leave the one "
                         f"of more bits out")
    return quality, np.log(rate)


def _pchip(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The cubic Hermite interpolant of points with ascending x, with slopes that keep it monotone where they are."""
    step = np.diff(x)
    secant = np.diff(y) / step
    left, right = step[:-1] + 2 * step[1:], 2 * step[:-1] + step[1:]
    monotone = np.sign(secant[:-1]) * np.sign(secant[1:]) > 0  # a product of the secants may underflow
    before, after = np.where(monotone, secant[:-1], 1), np.where(monotone, secant[1:], 1)
    inner = np.where(monotone, (left + right) / (left / before + right / after), 0)
    slope = np.concatenate([[_end_slope(*step[:2], *secant[:2])], inner,
                            [_end_slope(*step[:-3:-1], *secant[:-3:-1])]])
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(step) - 1)
    t = (at - x[i]) / step[i]
    return ((1 + 2 * t) * (1 - t) ** 2 * y[i] + t**2 * (3 - 2 * t) * y[i + 1]
            + step[i] * (t * (1 - t) ** 2 * slope[i] - t**2 * (1 - t) * slope[i + 1]))


def _end_slope(step: float, next_step: float, secant: float, next_secant: float) -> float:
    """Of the parabola through the last three points, limited so that the curve does not turn before its end."""
    slope = ((2 * step + next_step) * secant - step * next_secant) / (step + next_step)
    if slope * secant <= 0:
        return 0.0
    return 3 * secant if secant * next_secant < 0 and abs(slope) > 3 * abs(secant) else slope
