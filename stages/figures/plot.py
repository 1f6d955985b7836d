"""Scores against the share of masks as one picture: a logarithmic axis, means with their spread (cv2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stages.figures.curves import LINE_COLOURS
from stages.figures.layout import FAINT, INK, PAPER, text_band, text_width
from stages.figures.overlays import Colour, Picture

_SIZE_HW = (560, 960)
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 250, 72, 66
_GRID: Colour = (222, 222, 222)
_SHIFT = 4  # fractional bits of cv2's coordinates

Place = Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """One method. `points`: (x > 0, mean, deviation or None). `level` is drawn dashed over the whole width."""

    label: str
    points: Sequence[tuple[float, float, float | None]]
    level: float | None = None


def curve_picture(
    title: str, lines: Sequence[Line], *, x_label: str, y_label: str, level_label: str = ""
) -> Picture:
    """(560, 960, 3) RGB; ticks of x are the values that occur. An empty picture says that nothing was measured.

    Args:
        level_label: what the dashed levels are, told below the lines' names where a line has one.
    """
    picture = np.full((*_SIZE_HW, 3), PAPER, np.uint8)
    _put(picture, title, (_LEFT, 14), 20, bold=True)
    xs = sorted({x for line in lines for x, _, _ in line.points})
    ys = [v for line in lines for _, y, d in line.points for v in (y - (d or 0), y + (d or 0))]
    ys += [line.level for line in lines if line.level is not None]
    if not xs or not ys:
        _put(picture, "nothing was measured", (_LEFT, 250), 18)
        return picture
    across, up = _x_places(xs), _y_places(picture, ys)
    bottom = _SIZE_HW[0] - _BOTTOM
    for x in xs:
        _stroke(picture, (across(x), _TOP), (across(x), bottom), _GRID, 1)
        _centred(picture, f"{x:g}", across(x), bottom + 6)
    _centred(picture, x_label, (_LEFT + _SIZE_HW[1] - _RIGHT) / 2, bottom + 32)
    _put(picture, y_label, (8, _TOP - 38), 15)
    for i, line in enumerate(lines):
        colour = _rgb(LINE_COLOURS[i % len(LINE_COLOURS)])
        _draw(picture, line, colour, across, up)
        _legend(picture, line.label, colour, i)
    if level_label and any(line.level is not None for line in lines):
        _legend(picture, level_label, FAINT, len(lines), dashed=True)
    return picture


def _x_places(xs: Sequence[float]) -> Place:
    """Logarithmic; a single value stands in the middle."""
    low, high = math.log(xs[0]), math.log(xs[-1])
    start, width = _LEFT + 24, _SIZE_HW[1] - _RIGHT - _LEFT - 48
    if low == high:
        return lambda x: start + width / 2
    return lambda x: start + width * (math.log(x) - low) / (high - low)


def _y_places(picture: Picture, ys: Sequence[float]) -> Place:
    """Linear between round numbers, with grid lines and their numbers drawn."""
    raw = max(max(ys) - min(ys), 0.05) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * (1 - 1e-9))
    low, high = math.floor(min(ys) / step - 1e-9) * step, math.ceil(max(ys) / step + 1e-9) * step
    bottom = _SIZE_HW[0] - _BOTTOM

    def place(y: float) -> float:
        return bottom - (bottom - _TOP) * (y - low) / (high - low)

    for i in range(round((high - low) / step) + 1):
        y = low + i * step
        _stroke(picture, (_LEFT, place(y)), (_SIZE_HW[1] - _RIGHT, place(y)), _GRID, 1)
        words = f"{y:.4g}"
        _put(picture, words, (_LEFT - 16 - text_width(words, 15), place(y) - 12), 15)
    return place


def _draw(picture: Picture, line: Line, colour: Colour, across: Place, up: Place) -> None:
    if line.level is not None:
        _dashes(picture, _LEFT, _SIZE_HW[1] - _RIGHT - 6, up(line.level), colour)
    places = [(across(x), up(y)) for x, y, _ in sorted(line.points)]
    for a, b in itertools.pairwise(places):
        _stroke(picture, a, b, colour, 2)
    for x, y, deviation in line.points:
        cv2.circle(picture, _fixed((across(x), up(y))), 5 << _SHIFT, colour, -1, cv2.LINE_AA, _SHIFT)
        if deviation:
            low, high = up(y - deviation), up(y + deviation)
            _stroke(picture, (across(x), low), (across(x), high), colour, 1)
            for end in (low, high):
                _stroke(picture, (across(x) - 5, end), (across(x) + 5, end), colour, 1)


def _dashes(picture: Picture, left: float, right: float, y: float, colour: Colour) -> None:
    for x in np.arange(left, right, 14):
        _stroke(picture, (x, y), (x + 7, y), colour, 1)


def _legend(picture: Picture, words: str, colour: Colour, i: int, *, dashed: bool = False) -> None:
    left, top = _SIZE_HW[1] - _RIGHT + 16, _TOP + 46 * i
    if dashed:
        _dashes(picture, left, left + 22, top + 16, colour)
    else:
        _stroke(picture, (left, top + 16), (left + 22, top + 16), colour, 3)
    band = text_band(words, _RIGHT - 46, size=15)[:44]
    picture[top : top + len(band), left + 26 : left + 26 + band.shape[1]] = band


def _put(picture: Picture, words: str, at: tuple[float, float], size: int, *, bold: bool = False) -> None:
    """Words with their upper left corner at (x, y); what leaves the picture is cut."""
    x, y = round(at[0]) - 8, round(at[1])  # a band has a margin of 8
    band = text_band(
        words, text_width(words, size, 650) + 32, size=size, colour=INK if bold else FAINT, bold=bold
    )
    room = picture[max(0, y) : y + len(band), max(0, x) : x + band.shape[1]]
    part = band[max(0, -y) :, max(0, -x) :][: room.shape[0], : room.shape[1]]
    np.minimum(room, part, out=room)


def _centred(picture: Picture, words: str, x: float, y: float) -> None:
    _put(picture, words, (x - text_width(words, 15) / 2, y), 15)


def _stroke(
    picture: Picture, a: tuple[float, float], b: tuple[float, float], colour: Colour, width: int
) -> None:
    cv2.line(picture, _fixed(a), _fixed(b), colour, width, cv2.LINE_AA, _SHIFT)


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * (1 << _SHIFT)), round(point[1] * (1 << _SHIFT))


def _rgb(colour: str) -> Colour:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
