"""Charts are well-formed SVG whose marks stand where the numbers say."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from stages.figures.curves import histogram, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def marks(svg: str, tag: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(svg).findall(f".//{SVG}{tag}")


def line_points(svg: str) -> list[tuple[float, float]]:
    return [
        (float(x), float(y))
        for p in marks(svg, "polyline")
        for x, y in re.findall(r"([\d.]+),([\d.]+)", p.get("points", ""))
    ]


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    points = line_points(line_chart("loss", {"model": [(1, 2.0), (2, 1.0), (3, 0.5)]}, x_label="epoch"))
    xs, ys = zip(*points, strict=True)
    assert xs == tuple(sorted(xs)) and ys == tuple(sorted(ys))
    assert (xs[1] - xs[0]) == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert (ys[1] - ys[0]) == pytest.approx(2 * (ys[2] - ys[1]), abs=0.3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_missing_value_leaves_a_gap(bad: float) -> None:
    svg = line_chart("t", {"a": [(1, 1.0), (2, 2.0), (3, bad), (4, 1.0), (5, 3.0)]})
    assert len(marks(svg, "polyline")) == 2
    assert "nan" not in svg and "inf" not in svg.replace("info", "")


@pytest.mark.parametrize(
    "series", [{}, {"a": []}, {"a": [(1, 5.0)]}, {"a": [(1, 5.0), (2, 5.0)]}, {"a": [(1, 1e-9), (2, 3e9)]}]
)
def test_little_or_level_data_still_make_a_chart(series: dict[str, list[tuple[float, float]]]) -> None:
    ElementTree.fromstring(line_chart("t", series))


def test_words_are_escaped() -> None:
    svg = line_chart('<b>"t"', {"a<b&c": [(1, 1), (2, 2)]}, x_label="<x>", y_label="&")
    assert "".join(ElementTree.fromstring(svg).itertext()).count("a<b&c") == 1


def test_histogram_bars_are_as_high_as_their_counts() -> None:
    bars = marks(histogram("scores", [0, 0.1, 0.5, 2], [5, 0, 10]), "rect")
    heights = [float(bar.get("height", "")) for bar in bars]
    assert heights[0] * 2 == pytest.approx(heights[2], abs=0.2)
    assert heights[1] == 0
    ElementTree.fromstring(histogram("none", [0, 1], [0]))
    with pytest.raises(ValueError, match="3 counts need 4 edges, got 3"):
        histogram("t", [0, 1, 2], [1, 2, 3])


@pytest.mark.parametrize(
    ("values", "ticks"), [((0.0, 1.0), "0.2"), ((4.6, 4.6), "4.6"), ((0.0, 180.0), "50")]
)
def test_axes_are_labelled_with_round_numbers(values: tuple[float, float], ticks: str) -> None:
    words = [t.text for t in marks(line_chart("t", {"a": list(enumerate(values))}), "text")]
    assert ticks in words
