import re
from xml.etree import ElementTree

import numpy as np
import pytest

from jaxgen.show import chart, charts_of, lines_of
from jaxgen.show.curves import HEIGHT, POINTS, WIDTH


def drawn(svg):
    """([points [N, 2] of each line], {label of a tick: its height})."""
    root = ElementTree.fromstring(svg)
    lines = [np.array([point.split(",") for point in line.get("points").split()], float)
             for line in root.iter("polyline")]
    ticks = {float(t.text): float(t.get("y")) - 4 for t in root.iter("text")
             if t.get("text-anchor") == "end" and re.fullmatch(r"[-\d.e+]+", t.text or "")}
    return lines, ticks


def test_points_stand_where_the_axes_say():
    steps, values = np.array([10, 20, 40, 50]), np.array([0.2, 0.9, -0.3, 0.5])
    (line,), ticks = drawn(chart("loss", {"training": (steps, values)}))
    for points, true in ((line[:, 0], steps), (line[:, 1], values)):
        slope, offset = np.polyfit(true, points, 1)
        np.testing.assert_allclose(points, slope * true + offset, atol=0.1)
    for value, y in ticks.items():
        assert y == pytest.approx(np.polyval(np.polyfit(values, line[:, 1], 1), value), abs=0.2)
    assert len(ticks) >= 3 and (line >= 0).all() and (line[:, 0] <= WIDTH).all() and (line[:, 1] <= HEIGHT).all()
    assert (np.diff(line[:, 1])[0] < 0) and np.diff(line[:, 0]).min() > 0  # upwards, to the right


def test_equal_ratios_are_equal_distances_where_the_range_is_wide():
    (line,), ticks = drawn(chart("loss", {"training": (np.arange(4), 10.0 ** -np.arange(4))}))
    np.testing.assert_allclose(np.diff(line[:, 1]), np.diff(line[:, 1])[0], atol=0.15)
    for value, y in ticks.items():
        assert y == pytest.approx(line[round(-np.log10(value)), 1], abs=0.2)
    (even,), _ = drawn(chart("loss", {"training": (np.arange(4), np.array([1.0, 2, 3, 4]))}))
    np.testing.assert_allclose(np.diff(even[:, 1]), np.diff(even[:, 1])[0], atol=0.15)


def test_a_long_line_is_thinned_to_means_and_keeps_its_end():
    values = np.random.default_rng(0).normal(5, 0.1, 10_000)
    values[-1] = 5.5
    (line,), _ = drawn(chart("loss", {"training": (np.arange(10_000), values)}))
    (whole,), _ = drawn(chart("loss", {"training": (np.arange(100), np.append(values[:99], 5.5))}))
    assert len(line) == POINTS and len(whole) == 100
    assert line[:-1, 1].std() < 0.4 * whole[:-1, 1].std()
    assert line[-1, 1] < line[:-1, 1].min()


def test_a_constant_and_a_single_point_are_drawn():
    for steps in (np.arange(3), np.array([7])):
        lines, ticks = drawn(chart("x", {"training": (steps, np.zeros(len(steps)))}))
        assert np.isfinite(lines[0]).all() and len(ticks) >= 2


def test_what_is_not_finite_is_left_out_and_held_out_stands_beside_training():
    records = [{"step": 1, "time": 5.0, "loss": 2.0, "note": "x"}, {"step": 2, "loss": None, "eval/loss": float("nan")},
               {"step": 3, "loss": 1.0, "eval/loss": 1.5}]
    charts = charts_of(lines_of(records))
    assert {title: list(lines) for title, lines in charts.items()} == {"loss": ["training", "held-out"]}
    np.testing.assert_array_equal(charts["loss"]["training"][0], [1, 3])
    label = ElementTree.fromstring(chart("loss", charts["loss"])).get("aria-label")
    assert "training 2 at first, 1 at last" in label and "held-out 1.5" in label


@pytest.mark.parametrize("lines", [{}, {"a": (np.array([]), np.array([]))}, {"a": (np.arange(2), np.arange(3.0))},
                                   dict.fromkeys("abcd", (np.arange(2), np.arange(2.0)))])
def test_what_is_no_line_is_refused(lines):
    with pytest.raises(ValueError, match="1 to 3 lines"):
        chart("t", lines)


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        chart("t", {"a": (np.arange(2), np.array([1.0, np.inf]))})
