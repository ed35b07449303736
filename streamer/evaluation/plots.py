"""Plots as inline SVG that needs no script: text keeps its size at any width, colours come from the page's classes.

`text_bar` is for a terminal. Horizontal places are percentages of the width, vertical ones pixels. Every string from
outside goes through `escape`.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

TOP, PLOT, FOOT = 18, 150, 24  # heights of a line chart, px
ROW, BAR = 20, 9  # of a bar chart: a line of text, one bar
BAR_SPAN = 80.0  # the longest bar, % of the width; its figure stands behind it
TICKS = (0.0, 0.5, 1.0)


class Line(NamedTuple):
    """A line through N points."""

    css: str
    x: np.ndarray  # [N] from 0
    y: np.ndarray  # [N] from 0


class Bars(NamedTuple):
    """One group of a bar chart: a label and a bar for each (css class, value)."""

    label: str
    values: Sequence[tuple[str, float]]


def line_chart(
    title: str, lines: Sequence[Line], width: float, marks: Sequence[tuple[str, float]] = (), foot: str = ""
) -> str:
    """Lines over x from 0 to `width`; `marks` (css class, x) are vertical lines; `foot` stands under the middle."""
    top = nice_top(max((float(line.y.max()) for line in lines if len(line.y)), default=0.0))
    parts = _grid()
    for css, mark in marks:
        x = percent(mark / max(width, 1))
        parts.append(f'<line class="{css}" x1="{x}" x2="{x}" y1="{TOP}" y2="{TOP + PLOT}"/>')
    parts.append(
        f'<svg y="{TOP}" height="{PLOT}" viewBox="0 0 1000 1000" preserveAspectRatio="none" overflow="visible">'
    )
    for line in lines:
        points = " ".join(
            f"{1000 * x / max(width, 1):.1f},{1000 - 1000 * y / top:.1f}"
            for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True)
        )
        parts.append(f'<polyline class="{line.css}" points="{points}"/>')
    parts.append("</svg>")
    parts += _scale(top)
    y = TOP + PLOT + 17
    parts.append(f'<text x="0" y="{y}">0</text><text x="50%" y="{y}" text-anchor="middle">{escape(foot)}</text>')
    parts.append(f'<text x="100%" y="{y}" text-anchor="end">{whole(width)}</text>')
    return _svg(title, TOP + PLOT + FOOT, parts)


def bar_chart(title: str, groups: Sequence[Bars]) -> str:
    """Horizontal bars, a label above each group; the longest bar spans BAR_SPAN."""
    longest = max((value for group in groups for _, value in group.values), default=0.0) or 1.0
    parts, y = [], 0
    for group in groups:
        y += ROW
        parts.append(f'<text class="label" x="0" y="{y - 5}">{escape(group.label)}</text>')
        for css, value in group.values:
            length = BAR_SPAN * value / longest
            parts.append(f'<rect class="{css}" x="0" y="{y}" width="{length:.2f}%" height="{BAR}" rx="1"/>')
            parts.append(f'<text x="{length + 1:.2f}%" y="{y + BAR}">{short(value)}</text>')
            y += BAR + 4
        y += 4
    return _svg(title, y, parts)


def column_chart(title: str, css: str, values: Sequence[float], first: str, last: str) -> str:
    """Columns from left to right, shares of 1; `first` and `last` name the outermost."""
    top = nice_top(max(values, default=0.0))
    step = 100 / max(len(values), 1)
    parts = _grid()
    for n, value in enumerate(values):
        height = PLOT * value / top
        x, wide = f"{step * (n + 0.15):.2f}%", f"{step * 0.7:.2f}%"
        parts.append(
            f'<rect class="{css}" x="{x}" y="{TOP + PLOT - height:.1f}" width="{wide}" height="{height:.1f}"/>'
        )
    parts += _scale(top, 'x="100%" text-anchor="end"')  # the tall columns are on the left
    y = TOP + PLOT + 17
    parts.append(f'<text x="0" y="{y}">{escape(first)}</text>')
    parts.append(f'<text x="100%" y="{y}" text-anchor="end">{escape(last)}</text>')
    return _svg(title, TOP + PLOT + FOOT, parts)


def nice_top(value: float) -> float:
    """The end of an axis that holds `value`: 1, 2, 2.5, 4, 5 or 8 times a power of ten."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 2.5, 4, 5, 8) if value <= step * power * (1 + 1e-9)), 10 * power)


def short(value: float) -> str:
    """A figure in as few digits as a reader needs."""
    if value >= 1000 or value == int(value):
        return whole(value)
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def whole(value: float) -> str:
    """A count with separators."""
    return f"{value:,.0f}"


def percent(share: float) -> str:
    """A place as SVG wants it."""
    return f"{100 * share:.2f}%"


def _grid() -> list[str]:
    heights = [TOP + PLOT * (1 - tick) for tick in TICKS]
    return [f'<line class="grid" x1="0" x2="100%" y1="{y:g}" y2="{y:g}"/>' for y in heights]


def _scale(top: float, x: str = 'x="0"') -> list[str]:
    """The figures of the grid lines; drawn last, over what they label."""
    return [f'<text {x} y="{TOP + PLOT * (1 - tick) - 4:g}">{top * tick:,g}</text>' for tick in TICKS[1:]]


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg class="plot" role="img" aria-label="{escape(title)}" width="100%" height="{height}">'
        f"{''.join(parts)}</svg>"
    )
