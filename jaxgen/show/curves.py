"""Metrics over steps as charts: inline SVG, in the colours of the page around them."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from jaxgen.show.page import escape, text

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 26, 28  # around the plot
POINTS = 400  # of a line at most; a longer one is thinned by means
COLOURS = ("var(--accent)", "var(--second)", "var(--soft)")
LOG_FROM = 5.0  # of the largest to the smallest value, from which on a positive metric has a logarithmic scale
NOT_METRICS = ("step", "time")

Line = tuple[np.ndarray, np.ndarray]


def lines_of(records: Sequence[Mapping[str, float | None]]) -> dict[str, Line]:
    """{metric: (steps [N], values [N])} of records, without values that are missing or not finite.

    Args:
        records: of `read_records`.

    Example:
        >>> lines_of([{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}, {"step": 3, "loss": 0.25}])["loss"]
        (array([1, 3]), array([0.5 , 0.25]))
    """
    names = dict.fromkeys(name for record in records for name in record if name not in NOT_METRICS)
    lines = {}
    for name in names:
        points = [(record["step"], record[name]) for record in records if isinstance(record.get(name), int | float)
                  and math.isfinite(record[name])]
        if points:
            steps, values = zip(*points, strict=True)
            lines[name] = np.array(steps), np.array(values, float)
    return lines


def charts_of(lines: Mapping[str, Line]) -> dict[str, dict[str, Line]]:
    """{title: lines that belong on one chart}: "NAME" and "eval/NAME" stand together.

    Example:
        >>> charts = charts_of(dict.fromkeys(("loss", "eval/loss", "eval/psnr"), (np.array([1]), np.array([2.0]))))
        >>> {title: list(lines) for title, lines in charts.items()}
        {'loss': ['training', 'held-out'], 'psnr': ['held-out']}
    """
    charts: dict[str, dict[str, Line]] = {}
    for name, line in lines.items():
        held_out = name.startswith("eval/")
        charts.setdefault(name.removeprefix("eval/"), {})["held-out" if held_out else "training"] = line
    return charts


def chart(title: str, lines: Mapping[str, Line], *, axis: str = "step") -> str:
    """Lines over steps as an SVG, with a logarithmic scale where all values are positive and their range is wide.

    Args:
        title: above it.
        lines: {name: (steps [N], values [N])}, up to three.
        axis: what the steps are.

    Raises:
        ValueError: there are no lines, a line is empty or not finite, or there are more than three.
    """
    if not 1 <= len(lines) <= len(COLOURS) or any(not len(x) or len(x) != len(y) for x, y in lines.values()):
        raise ValueError(f"a chart has 1 to {len(COLOURS)} lines of as many steps as values, got "
                         f"{ {name: (len(x), len(y)) for name, (x, y) in lines.items()} }")
    steps, values = (np.concatenate([line[part] for line in lines.values()]).astype(float) for part in (0, 1))
    if not (np.isfinite(steps).all() and np.isfinite(values).all()):
        raise ValueError(f"lines of {title!r} must be finite: leave other points out, as lines_of does")
    log = values.min() > 0 and values.max() / values.min() >= LOG_FROM
    low, high, ticks = _log_axis(values) if log else _linear_axis(values)
    first, last = steps.min(), max(steps.max(), steps.min() + 1)

    def place(x, y):
        y = np.log10(y) if log else y
        bottom, top = (math.log10(low), math.log10(high)) if log else (low, high)
        return (LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - (y - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM))

    parts = []
    for tick in ticks:
        y = place(first, tick)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for x, anchor in ((first, "start"), (last, "end")):
        parts.append(f'<text x="{place(x, ticks[0])[0]:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">'
                     f"{f'{axis} ' if anchor == 'end' else ''}{text(int(x))}</text>")
    described = []
    for (name, (x, y)), colour in zip(lines.items(), COLOURS):
        parts.append(_drawn(*place(*_thinned(x, y)), colour))
        described.append(f"{name} {y[0]:.4g} at first, {y[-1]:.4g} at last")
    label = escape(f"{title} by {axis}{', logarithmic scale' if log else ''}: {'; '.join(described)}")
    legend = "".join(
        f'<tspan fill="{colour}" font-weight="600">{"  " if i else ""}{escape(name)} {line[1][-1]:.4g}</tspan>'
        for i, ((name, line), colour) in enumerate(zip(lines.items(), COLOURS)))
    return (f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
            f'<text x="{WIDTH - RIGHT}" y="16" text-anchor="end" xml:space="preserve">{legend}</text>'
            f'<text x="2" y="16" style="fill:var(--text);font-weight:600">{escape(title)}</text>{"".join(parts)}</svg>')


def _drawn(x, y, colour):
    """A line, or its points where they are few."""
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>'
    if len(x) > 20:
        return line
    return line + "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{colour}"/>' for a, b in zip(x, y))


def _thinned(x, y):
    """Means of neighbours, so that a line has at most POINTS points; the last point is the last value."""
    if len(x) <= POINTS:
        return x, y
    parts = list(pairwise(np.linspace(0, len(x), POINTS).astype(int)))
    return (np.append([x[a:b].mean() for a, b in parts], x[-1]), np.append([y[a:b].mean() for a, b in parts], y[-1]))


def _linear_axis(values):
    """(lowest, highest, ticks) around values, the ticks at 1, 2 or 5 times a power of ten."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 7)
    return low, high, [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_axis(values):
    """The same with ticks at 1, 2 and 5 times powers of ten, or at powers only where those are many."""
    low, high = float(values.min()), float(values.max())
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    if len(ticks) > 6:
        ticks = [10.0**p for p in powers if low <= 10.0**p <= high]
        ticks = ticks[:: math.ceil(len(ticks) / 6)]
    return low, high, ticks
