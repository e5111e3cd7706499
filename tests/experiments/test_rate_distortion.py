"""What a conventional codec takes for the quality of a learned one."""

import numpy as np
import pytest

from experiments.studies import rate_distortion

CURVES = {
    "a": [{"bpp": 1.0, "psnr": 20.0, "lpips": 0.4}, {"bpp": 2.0, "psnr": 30.0, "lpips": 0.2}],
    "b": [{"bpp": 1.5, "psnr": 24.0, "lpips": 0.1}, {"bpp": 1.7, "psnr": 25.0, "lpips": 0.05}],
}


@pytest.mark.parametrize("psnr, lpips, expected", [
    (22.0, 0.35, ("a", 1.2, "a", 1.25)),  # by straight lines; the coarsest file of b takes 1.5
    (25.0, 0.15, ("a", 1.5, "b", 1.5)),  # b takes 1.7 for the first; only b is as good as the second
    (10.0, 0.5, ("a", 1.0, "a", 1.0)),  # the coarsest file is better
    (29.0, 0.04, ("a", 1.9, "none", None)),  # no file is as good
])
def test_the_format_that_takes_least_for_the_same_quality(psnr, lpips, expected):
    found = rate_distortion.least(CURVES, {"psnr": psnr, "lpips": lpips})
    names = tuple(found[key] for key in ("psnr_codec", "lpips_codec"))
    rates = [found[key] for key in ("psnr_bpp", "lpips_bpp")]
    assert names == (expected[0], expected[2])
    assert [rate is None for rate in rates] == [False, expected[3] is None]
    np.testing.assert_allclose([rate or 0 for rate in rates], [expected[1], expected[3] or 0])


def test_the_plot_has_a_line_for_each_format_and_points_for_each_kind():
    rows = [{"data": "mnist", "kind": kind, "bpp": 0.5, "psnr": 25.0, "lpips": 0.1} for kind in ("static", "context")]
    left, right = rate_distortion.draw(rows, {"mnist": CURVES}).axes
    for axis in (left, right):
        assert axis.get_legend_handles_labels()[1] == ["a", "b", "static", "context"]
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[1, 20], [2, 30]])
