"""Charts: marks stand where the numbers say, names of any kind are words, the same data give the same bytes."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from stages.figures.charts import COLOURS, Line, curve_png, histogram, line_chart

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert(1)</script> & $\\frac{ \x00_红"


def epochs(title: str, series: dict[str, list[tuple[float, float]]]) -> str:
    return line_chart(title, series, x_label="epoch", y_label="loss")


def words(svg: str) -> list[str]:
    return ["".join(t.itertext()) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def strokes(svg: str, colour: str = COLOURS[0]) -> list[list[tuple[float, float]]]:
    """Vertices of every path drawn as a line of this colour, without the marks and the legend's straight sample."""
    paths = [
        p.get("d", "")
        for p in ElementTree.fromstring(svg).iter(f"{SVG}path")
        if f"stroke: {colour}; stroke-width: 1.8" in p.get("style", "")
    ]
    found = [re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path) for path in paths]
    return [[(float(x), float(y)) for x, y in path] for path in found]


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    line = strokes(epochs("loss", {"model": [(1, 2.0), (2, 1.0), (3, 0.5)]}))[0]
    xs, ys = zip(*line, strict=True)
    assert xs == tuple(sorted(xs)) and ys == tuple(sorted(ys))
    assert (xs[1] - xs[0]) == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert (ys[1] - ys[0]) == pytest.approx(2 * (ys[2] - ys[1]), abs=0.3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e307])
def test_a_missing_value_leaves_a_gap(bad: float) -> None:
    svg = epochs("t", {"a": [(1, 1.0), (2, 2.0), (3, bad), (4, 1.0), (5, 3.0)]})
    path = next(p.get("d", "") for p in ElementTree.fromstring(svg).iter(f"{SVG}path")
                if "stroke-width: 1.8" in p.get("style", ""))  # fmt: skip
    assert path.count("M") == 2 and path.count("L") == 2


@pytest.mark.parametrize(
    "series",
    [
        {},
        {"a": []},
        {"a": [(1, math.nan)]},
        {"a": [(1, 5.0)]},
        {"a": [(1, 5.0), (2, 5.0)]},
        {"a": [(1, 1e-9), (2, 3e9)]},
    ],
)
def test_little_or_level_data_still_make_a_chart(series: dict[str, list[tuple[float, float]]]) -> None:
    shown = words(epochs("t", series))
    measured = any(math.isfinite(y) for points in series.values() for _, y in points)
    assert ("nothing was measured" in shown) == (not measured)
    assert all(w not in shown for w in ("0.5", "1.5")) or not measured, "epochs are whole numbers"


def test_names_are_words_whatever_they_hold() -> None:
    svg = epochs(EVIL, {EVIL: [(1, 1), (2, 2)], "_hidden": [(1, 2)], "$5": [(2, 1)], "x" * 3000: [(1, 1)]})
    root = ElementTree.fromstring(svg)
    assert root.find(f".//{SVG}script") is None and "<script" not in svg
    shown = words(svg)
    assert shown.count("<script>alert(1)</script> & $\\frac{ _红") == 2  # title and legend
    assert {"_hidden", "$5"} <= set(shown)
    assert max(map(len, shown)) < 100
    found = root.find(f"{SVG}title")
    assert root.get("role") == "img" and found is not None and found.text in shown


@pytest.mark.parametrize("name", ["m", "model: mIoU", "a rather long name of a model " * 5])
def test_the_legend_stands_below_the_axes_and_inside_the_picture(name: str) -> None:
    svg = epochs("t", {f"{i}: {name}": [(1, i), (9, -i)] for i in range(9)})
    root = ElementTree.fromstring(svg)
    width, height = map(float, root.get("viewBox", "").split()[2:])
    places = {}
    for text in root.iter(f"{SVG}text"):
        shift = re.match(r"translate\(([\d.]+) ([\d.]+)\)", text.get("transform", ""))
        x, y = shift.groups() if shift else (text.get("x", ""), text.get("y", ""))
        places["".join(text.itertext())] = (float(x), float(y))
    entries = {words: place for words, place in places.items() if re.match(r"\d: ", words)}
    assert len(entries) == 9
    for words, (x, y) in entries.items():
        assert places["epoch"][1] < y < height and x + 6 * len(words) < width


def test_several_charts_fit_into_one_page() -> None:
    charts = [epochs("t", {"a": [(1, 1), (2, i)]}) for i in (2, 3)]
    ids = [set(re.findall(r'<g id="([^"]*)"', chart)) for chart in charts]
    assert ids == [set(), set()]
    assert all(chart.startswith("<svg ") and chart.rstrip().endswith("</svg>") for chart in charts)


def test_histogram_bars_are_as_high_as_their_counts() -> None:
    def bins(edges: list[float], counts: list[int]) -> str:
        return histogram("scores", edges, counts, x_label="score", y_label="referents")

    svg = bins([0, 0.1, 0.5, 2], [5, 0, 1000])
    paths = [p.get("d", "") for p in ElementTree.fromstring(svg).iter(f"{SVG}path")
             if f"fill: {COLOURS[0]}" in p.get("style", "")]  # fmt: skip
    corners = [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", d)] for d in paths]
    heights = [max(y for _, y in c) - min(y for _, y in c) for c in corners]
    widths = [max(x for x, _ in c) - min(x for x, _ in c) for c in corners]
    assert heights[0] * 200 == pytest.approx(heights[2], rel=0.01) and heights[1] == 0
    assert widths == pytest.approx([widths[0]] * 3, abs=0.01)
    assert {"0", "0.1", "0.5", "2", "1,000", "score", "referents"} <= set(words(svg))
    assert "0" in words(bins([0, 1], [0]))
    with pytest.raises(ValueError, match="3 counts need 4 edges, got 3"):
        bins([0, 1, 2], [1, 2, 3])


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), 1), cv2.COLOR_BGR2RGB))


def drawn(png: bytes, colour: str) -> np.ndarray:
    """Whether each pixel (H, W) has exactly this colour."""
    return np.asarray((pixels(png) == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2))


def test_a_share_axis_is_logarithmic_and_higher_scores_are_higher() -> None:
    points = tuple((x, 0.2 + 0.3 * i, None) for i, x in enumerate((1.0, 10.0, 100.0)))
    marked = drawn(curve_png("t", [Line("a", points)], x_label="x", y_label="y"), COLOURS[0])[:560]
    columns = np.flatnonzero(marked.any(axis=0))
    left, right = columns[0] + 6, columns[-1] - 6  # the radius of a mark
    heights = [np.flatnonzero(marked[:, x]).mean() for x in (left, (left + right) // 2, right)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=3)
    assert heights[0] - heights[2] > 300
    empty = curve_png("t", [], x_label="x", y_label="y")
    assert not drawn(empty, COLOURS[0]).any()


def test_levels_deviations_and_the_trivial_row_are_drawn_and_named() -> None:
    def chart(
        deviation: float | None = None, level: float | None = None, trivial: tuple[float, ...] = ()
    ) -> bytes:
        lines = [
            Line("a", [(1.0, 0.2, deviation), (10.0, 0.4, deviation)], level),
            Line("b", [(5, 0.3, None)]),
        ]
        return curve_png(
            "t", lines, x_label="x", y_label="y", level_label="with all", trivial=[(x, 0.3) for x in trivial],
            trivial_label="box",
        )  # fmt: skip

    plain, deviating, level, trivial = chart(), chart(0.05), chart(level=0.3), chart(trivial=(1.0, 10.0))
    assert pixels(plain).shape == pixels(deviating).shape
    assert drawn(deviating, COLOURS[0]).sum() > drawn(plain, COLOURS[0]).sum()
    for named in (level, trivial):
        assert (pixels(named)[640:] != pixels(plain)[640:]).any(), "the legend has one entry more"
    dashes = max((np.diff(row.astype(int)) == 1).sum() for row in drawn(level, COLOURS[0])[:560])
    assert dashes > 20


def test_shares_that_lie_close_leave_out_labels() -> None:
    many = [(float(x), 0.5, None) for x in (1, 2, 3, *range(80, 101))]
    assert len(curve_png("t", [Line("a", many)], x_label="x", y_label="y")) > 1000
    from stages.figures.charts import _share_axis

    class Axes:
        shown: list[float]

        def set_xscale(self, name: str) -> None: ...

        def set_xticks(self, ticks: list[float], labels: object = None, minor: bool = False) -> None:
            if not minor:
                self.shown = ticks

    axes = Axes()
    _share_axis(axes, [x for x, _, _ in many])  # type: ignore[arg-type]
    assert axes.shown[:3] == [1, 2, 3]
    assert all(b / a > 100**0.05 for a, b in pairwise(axes.shown))


def test_the_same_data_give_the_same_bytes_without_a_word_whatever_the_users_settings(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\nsvg.fonttype: path\n")
    script = (
        "import sys\nfrom stages.figures import attention_page, experiment_page\nfrom stages.figures.charts import *\n"
        "assert 'matplotlib' not in sys.modules and 'jinja2' not in sys.modules\n"
        "svg = line_chart('红', {'a': [(1, 1), (2, 2)]}, x_label='x', y_label='y')\n"
        "png = curve_png('t', [Line('a', [(1, 0.5, 0.1)])], x_label='x', y_label='y')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "import hashlib; print(hashlib.sha256(svg.encode() + png).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "HOME": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    svg = line_chart("红", {"a": [(1, 1), (2, 2)]}, x_label="x", y_label="y")
    png = curve_png("t", [Line("a", [(1, 0.5, 0.1)])], x_label="x", y_label="y")
    assert (told.stdout.strip(), told.stderr) == (hashlib.sha256(svg.encode() + png).hexdigest(), "")
