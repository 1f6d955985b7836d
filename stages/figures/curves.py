"""Line charts and histograms as small SVG texts: sharp at any size, no plotting library needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

# Okabe and Ito's colours, which colour-blind readers can tell apart
LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 34, 40


def line_chart(title: str, series: Mapping[str, Points], *, x_label: str = "", y_label: str = "") -> str:
    """One line (and a legend entry) a series; values that are no finite number are left out, with a gap."""
    finite = [p for points in series.values() for p in points if _is_finite(p)]
    x_axis = _Axis.over([x for x, _ in finite], _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis.over([y for _, y in finite], _HEIGHT - _BOTTOM, _TOP)
    parts = _frame(title, x_axis, y_axis, x_label, y_label)
    for i, (name, points) in enumerate(series.items()):
        colour = LINE_COLOURS[i % len(LINE_COLOURS)]
        for run in _unbroken(points):
            path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in run)
            if len(run) == 1:
                x, y = path.split(",")
                parts.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>')
            else:
                parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = _LEFT + 8 + i * (_WIDTH - _LEFT - _RIGHT) / max(1, len(series))
        parts.append(f'<rect x="{at:.0f}" y="{_TOP - 9}" width="12" height="3" fill="{colour}"/>')
        parts.append(_text(at + 16, _TOP - 5, name))
    return _svg(title, parts)


def histogram(title: str, edges: Sequence[float], counts: Sequence[int], *, x_label: str = "") -> str:
    """One bar a bin, as many pixels wide as any other (edges may be uneven) and labelled with its edges.

    Raises:
        ValueError: there must be one edge more than counts.
    """
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(counts)} counts need {len(counts) + 1} edges, got {len(edges)}")
    x_axis = _Axis(0, max(1, len(counts)), _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis.over([0, *counts], _HEIGHT - _BOTTOM, _TOP)
    parts = _frame(title, None, y_axis, x_label, "")
    for i, count in enumerate(counts):
        left, right, top = x_axis.at(i), x_axis.at(i + 1), y_axis.at(count)
        parts.append(
            f'<rect x="{left + 1:.1f}" y="{top:.1f}" width="{right - left - 2:.1f}" '
            f'height="{_HEIGHT - _BOTTOM - top:.1f}" fill="{LINE_COLOURS[0]}"/>'
        )
    every = max(1, math.ceil(len(edges) / 12))
    for i, edge in enumerate(edges[::every]):
        parts.append(_text(x_axis.at(i * every), _HEIGHT - _BOTTOM + 15, f"{edge:g}", anchor="middle"))
    return _svg(title, parts)


class _Axis:
    """Maps values in [low, high] to pixels; `ticks` are round numbers inside."""

    def __init__(self, low: float, high: float, start: float, stop: float, step: float = 1.0) -> None:
        self.low, self.high, self.start, self.stop, self.step = low, high, start, stop, step

    @classmethod
    def over(cls, values: Sequence[float], start: float, stop: float) -> _Axis:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        step = _round_step((high - low) / 5)
        return cls(math.floor(low / step) * step, math.ceil(high / step) * step, start, stop, step)

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        count = round((self.high - self.low) / self.step)
        return [self.low + i * self.step for i in range(count + 1)]


def _round_step(raw: float) -> float:
    """1, 2 or 5 times a power of ten, at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= raw * (1 - 1e-9))


def _frame(title: str, x_axis: _Axis | None, y_axis: _Axis, x_label: str, y_label: str) -> list[str]:
    parts = [_text(_LEFT, 16, title, bold=True)]
    for tick in y_axis.ticks():
        y = y_axis.at(tick)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:g}", anchor="end"))
    for tick in x_axis.ticks() if x_axis else []:
        parts.append(
            _text(x_axis.at(tick) if x_axis else 0, _HEIGHT - _BOTTOM + 15, f"{tick:g}", anchor="middle")
        )
    if x_label:
        parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 6, x_label, anchor="middle"))
    if y_label:
        middle = (_HEIGHT - _BOTTOM + _TOP) / 2
        parts.append(
            f'<g transform="rotate(-90 14 {middle:.0f})">{_text(14, middle, y_label, anchor="middle")}</g>'
        )
    return parts


def _text(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'role="img" aria-label="{escape(title, quote=True)}" font-family="sans-serif" font-size="12" fill="#222">'
        + "".join(parts)
        + "</svg>"
    )


def _is_finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _unbroken(points: Points) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if _is_finite(point):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
