"""Bjontegaard's delta rate against closed forms, SciPy's interpolant integrated numerically, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from jaxgen.metrics import bd_rate

PSNR = [27.0, 30.5, 32.0, 35.5, 37.0, 41.0]
RATE = [0.11, 0.2, 0.31, 0.62, 0.9, 1.7]


def drawn(seed, points):
    """A curve of that many points in random order, not monotone everywhere, as those of real codecs are not."""
    rng = np.random.default_rng(seed)
    quality = rng.permutation(rng.uniform(25, 40, points))
    return np.exp(0.2 * (quality - 30) + rng.normal(0, 0.4, points)), quality


def by_scipy(rate, quality, reference_rate, reference_quality):
    """The mean of a million midpoints."""
    curves = [PchipInterpolator(np.sort(q), np.log(r)[np.argsort(q)], extrapolate=False)
              for r, q in ((rate, quality), (reference_rate, reference_quality))]
    low, high = max(c.x[0] for c in curves), min(c.x[-1] for c in curves)
    at = low + (high - low) * (np.arange(1_000_000) + 0.5) / 1_000_000
    return 100 * (np.exp(np.mean(curves[0](at) - curves[1](at))) - 1)


@pytest.mark.parametrize("factor", [0.5, 1, 3.7])
def test_a_constant_factor_is_that_factor_for_any_measure_of_quality(factor):
    for quality in (np.array(PSNR), -np.geomspace(0.5, 0.01, 6), -10 * np.log10(1 - np.linspace(0.8, 0.99, 6))):
        found = bd_rate(np.multiply(factor, RATE), quality, RATE, quality)
        np.testing.assert_allclose(found, 100 * (factor - 1), atol=1e-10)


def test_straight_lines_have_the_mean_of_their_distance_in_the_common_range():
    # log r = 0.2 q - 5 from 26 to 36 and 0.3 q - 8.2 from 30 to 44: over 30 .. 36 the distance is 3.2 - 0.1 q.
    quality, reference = np.array([26, 29, 30, 34, 36]), np.array([30, 33, 38, 44])
    found = bd_rate(np.exp(0.2 * quality - 5), quality, np.exp(0.3 * reference - 8.2), reference)
    np.testing.assert_allclose(found, 100 * (np.exp(3.2 - 0.1 * 33) - 1), rtol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_it_is_scipys_interpolant_integrated_numerically(seed):
    curves = (*drawn(seed, 4 + seed), *drawn(100 + seed, 11 - seed))
    np.testing.assert_allclose(bd_rate(*curves), by_scipy(*curves), rtol=1e-6, atol=1e-6)


def test_points_come_in_any_order_of_lists_and_arrays_and_the_inverse_swaps_the_codecs():
    ours, theirs = drawn(1, 6), drawn(2, 7)
    found = bd_rate(*ours, *theirs)
    order = np.random.default_rng(3).permutation(6)
    assert bd_rate(ours[0][order].tolist(), ours[1][order].tolist(), *theirs) == found
    np.testing.assert_allclose(bd_rate(*map(jnp.asarray, (*ours, *theirs))), found, rtol=1e-4)  # float32
    np.testing.assert_allclose((1 + found / 100) * (1 + bd_rate(*theirs, *ours) / 100), 1, rtol=1e-12)
    bits_to_bytes = bd_rate(ours[0] / 8, ours[1], theirs[0] / 8, theirs[1])
    np.testing.assert_allclose(bits_to_bytes, found, rtol=1e-9)


@pytest.mark.parametrize("change, message", [
    ({"quality": np.add(PSNR, 14)},
     "quality from 41 to 55 and reference_quality from 27 to 41 have no range in common"),
    ({"reference_quality": np.add(PSNR, 20)}, "reference_quality from 47 to 61 have no range in common"),
    ({"rate": RATE[:3], "quality": PSNR[:3]}, "rate must have 4 points at least, got 3"),
    ({"reference_rate": RATE[:5]}, r"reference_rate and reference_quality must be \[N\].* shapes \(5,\) and \(6,\)"),
    ({"rate": 1.0, "quality": 30.0}, r"rate and quality must be \[N\].* shapes \(\) and \(\)"),
    ({"quality": [*PSNR[:5], np.inf]}, "quality must be finite, got inf at position"),
    ({"reference_quality": [np.nan, *PSNR[1:]]}, "reference_quality must be finite, got nan"),
    ({"rate": [0, *RATE[1:]]}, r"rate must be positive, got \[0\."),
    ({"reference_rate": [np.nan, *RATE[1:]]}, r"reference_rate must be positive, got \[ *nan"),
    ({"rate": [*RATE[:5], np.inf]}, "rate must be finite, got inf"),
    ({"quality": [30, *PSNR[1:5], 37]}, "quality must differ between points, got 37 twice"),
])
def test_bad_curves_are_named(change, message):
    curves = {"rate": RATE, "quality": PSNR, "reference_rate": RATE, "reference_quality": PSNR}
    with pytest.raises(ValueError, match=message):
        bd_rate(**curves | change)
