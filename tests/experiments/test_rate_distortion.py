"""What a conventional codec takes for the quality of a learned one."""

import re

import numpy as np
import pytest

from experiments.common.conventional_codecs import CODECS
from experiments.studies import equal_bytes, rate_distortion
from jaxgen import codec
from tests.helpers.codec import grey_levels, images

CURVES = {
    "a": [{"bpp": 1.0, "payload_bpp": 0.5, "psnr": 20.0, "lpips": 0.4},
          {"bpp": 2.0, "payload_bpp": 1.5, "psnr": 30.0, "lpips": 0.2}],
    "b": [{"bpp": 1.5, "payload_bpp": 0.6, "psnr": 24.0, "lpips": 0.1},
          {"bpp": 1.7, "payload_bpp": 0.8, "psnr": 25.0, "lpips": 0.05}],
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


@pytest.mark.parametrize("psnr, expected", [(23.0, ("b", 0.6)), (29.0, ("a", 1.4))])
def test_the_format_whose_payload_is_least(psnr, expected):
    found = rate_distortion.least(CURVES, {"psnr": psnr, "lpips": 0.3})
    assert found["psnr_payload_codec"] == expected[0]
    np.testing.assert_allclose(found["psnr_payload_bpp"], expected[1])


def test_payloads_are_what_the_coder_wrote():
    own = grey_levels()
    x, sizes = images((5, 16, 24, 1)), []
    for chunk in ((0,), (1,)):
        for part in (x[:2], x[2:4], x[4:]):
            known = np.stack([own.to_planes(part)[plane] for plane in chunk], -1)
            writer = codec.Writer(known)
            own.probabilities.code(chunk, [], known.shape[:3], writer)
            sizes.append(len(writer.data()))
    assert rate_distortion.payload_bytes(codec.compress(own, x, group=2)) == sum(sizes)


def test_bd_rates_are_of_the_curves_that_have_qualities_in_common():
    rates, psnr = np.array([0.1, 0.2, 0.3, 0.5, 0.8]), np.array([20.0, 22.0, 24.0, 26.0, 28.0])
    ours = [{"checkpoint": "c", "kind": "static", "bpp": rate, "psnr": quality, "lpips": 1 / quality}
            for rate, quality in zip(rates, psnr)]
    theirs = {"twice": [{"bpp": 2 * row["bpp"], "psnr": row["psnr"], "lpips": row["lpips"] + 1} for row in ours],
              "few": [{"bpp": 1.0, "psnr": 25.0, "lpips": 0.04}]}
    (found,) = rate_distortion.bd_rates(ours, theirs)
    assert (found["codec"], found["kind"], found["bd_lpips"]) == ("twice", "static", None)
    np.testing.assert_allclose(found["bd_psnr"], -50)
    assert "| c | static | twice | -50 |  |" in rate_distortion.table([*ours, found])


def test_the_page_shows_each_format_within_the_bytes_of_ours():
    x = images((1, 32, 40, 3))[0]
    finest = {name: [len(one.encode(x, quality)) for quality in one.qualities]
              for name, one in CODECS.items() if not one.lacking()}
    restored, size = equal_bytes.largest_within(CODECS["webp"], x, sorted(finest["webp"])[3])
    assert size == sorted(finest["webp"])[3] and restored.shape == x.shape
    assert equal_bytes.largest_within(CODECS["webp"], x, 1)[1] == min(finest["webp"])
    between = [len(CODECS["webp"].encode(x, quality)) for quality in (60, 65, 70)]  # 60 and 70 are the format's own
    assert between[0] < equal_bytes.largest_within(CODECS["webp"], x, between[1])[1] <= between[1] < between[2]


def test_the_page_says_the_bytes_of_each_and_where_a_format_has_none_so_small(monkeypatch):
    monkeypatch.setattr(equal_bytes, "compare", lambda x, y, lpips: {"psnr": 20.0, "lpips": 0.1})
    x = images((1, 32, 40, 3))
    smallest = len(CODECS["jpeg"].encode(x[0], 1))
    text = equal_bytes.of_images(x, {"ours, all": [(x[0], smallest - 1)], "ours, half": [(x[0], 5)]}, None)
    taken = {name: (int(size), bool(least)) for name, size, least in re.findall(
        r"<figcaption>([^:]+): (\d+) bytes(, its fewest)?", text)}
    assert taken["ours, all"] == (smallest - 1, False) and taken["ours, half"] == (5, False)
    assert taken["jpeg"] == (smallest, True)
    assert all((size > smallest - 1) == least for size, least in taken.values())
    assert re.findall(r'alt="([^"]*)"', text) == ["original", *taken]


def test_the_plot_has_a_line_for_each_format_and_points_for_each_kind():
    rows = [{"data": "mnist", "kind": kind, "bpp": 0.5, "psnr": 25.0, "lpips": 0.1} for kind in ("static", "context")]
    left, right = rate_distortion.draw(rows, {"mnist": CURVES}).axes
    for axis in (left, right):
        assert axis.get_legend_handles_labels()[1] == ["a", "b", "static", "context"]
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[1, 20], [2, 30]])
