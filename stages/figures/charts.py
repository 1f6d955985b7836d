"""Line charts and histograms, drawn by matplotlib: SVG text for pages, PNG for files.

matplotlib is imported only when something is drawn, and never its pyplot: no window, no state left behind. The settings
are its own defaults and charts.mplstyle, whatever a matplotlibrc lies about; the same data give the same bytes. Names come from
data and are not trusted: they are never read as formulas or markup.
"""

from __future__ import annotations

import io
import logging
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from stages.untrusted import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers tell the lines apart without colour
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#555555"
_DASHED, _DOTTED = (0, (6, 4)), (0, (1, 2))
_STYLE = Path(__file__).with_name("charts.mplstyle")
_LARGEST = 1e100  # values beyond are no measurement, and sums of them overflow
_LINE_INCHES = 0.21  # height of a line of the legend
_INCH_LETTERS = 11  # letters on an inch of a line
_KEY_LETTERS = 9  # what the sample of a line and the gap to the next column take


@dataclass(frozen=True)
class Line:
    """One method. `points`: (x > 0, mean, deviation or None). `level` is drawn dashed over the whole width."""

    label: str
    points: Sequence[tuple[float, float, float | None]]
    level: float | None = None


def line_chart(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str
) -> Markup:
    """SVG with one line a series, its (x, y) in order; x are whole numbers (epochs). What is no finite number is a gap."""
    with _drawing():
        return _svg(_lines(title, series, x_label, y_label), title)


def line_png(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str
) -> bytes:
    """PNG of the same."""
    with _drawing():
        return _png(_lines(title, series, x_label, y_label))


def _lines(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str
) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes(title, x_label, y_label)
    handles = []
    for i, (name, points) in enumerate(series.items()):
        kept = [(x, y if abs(y) < _LARGEST else math.nan) for x, y in points if math.isfinite(x)]
        xs, ys = zip(*kept, strict=True) if kept else ((), ())
        size = 4 if len(xs) <= 40 else 2
        (drawn,) = axes.plot(xs, ys, **_look(i), markersize=size, linewidth=1.8)
        if any(math.isfinite(y) for y in ys):
            handles.append((name, drawn))
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    low, high = axes.dataLim.intervalx
    if low == high:
        axes.set_xlim(low - 1, high + 1)
    _finish(figure, axes, handles)
    return figure


def histogram(
    title: str, edges: Sequence[float], counts: Sequence[int], *, x_label: str, y_label: str
) -> Markup:
    """SVG with one bar a bin, as wide as any other (edges may be uneven), its edges as labels and its count above.

    Raises:
        ValueError: there must be one edge more than counts.
    """
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(counts)} counts need {len(counts) + 1} edges, got {len(edges)}")
    with _drawing():
        from matplotlib.ticker import MaxNLocator

        figure, axes = _axes(title, x_label, y_label)
        bars = axes.bar(range(len(counts)), counts, width=0.92, align="edge", color=COLOURS[0])
        if len(counts) <= 12:
            axes.bar_label(bars, [f"{n:,}" for n in counts], fontsize=9, color=_GREY, padding=1)
        shown = range(0, len(edges), math.ceil(len(edges) / 12))
        axes.set_xticks([i - 0.04 for i in shown], [f"{edges[i]:g}" for i in shown])
        axes.set_xlim(-0.1, len(counts) + 0.02)
        axes.set_ylim(0, max(1.0, 1.1 * max(counts, default=0)))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.grid(visible=False, axis="x")
        return _svg(figure, title)


def curve_png(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    level_label: str = "",
    trivial: Sequence[tuple[float, float]] = (),
    trivial_label: str = "",
) -> bytes:
    """PNG of means against a share on a logarithmic axis, whose ticks are the shares that occur; bars are deviations.

    Args:
        level_label: what the dashed level of a line is.
        trivial: (x > 0, y) of what needs no training, drawn grey and dotted.
    """
    with _drawing():
        figure, axes = _axes(title, x_label, y_label, size=(8.0, 4.6))
        handles: list[tuple[str, Any]] = []
        for i, line in enumerate(lines):
            points = sorted(line.points)
            xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
            bars = [math.nan if d is None else d for _, _, d in points]
            drawn = axes.errorbar(
                xs, ys, bars, **_look(i), markersize=6, linewidth=2, elinewidth=1.2, capsize=3.5
            )
            handles.append((line.label, drawn))
            if line.level is not None:
                axes.axhline(line.level, color=_look(i)["color"], linewidth=1.3, linestyle=_DASHED)
        if level_label and any(line.level is not None for line in lines):
            (dashed,) = axes.plot([], [], color=_GREY, linewidth=1.3, linestyle=_DASHED)
            handles.append((level_label, dashed))
        if trivial:
            xs, ys = [x for x, _ in sorted(trivial)], [y for _, y in sorted(trivial)]
            (dotted,) = axes.plot(xs, ys, color=_GREY, linewidth=1.6, linestyle=_DOTTED)
            handles.append((trivial_label, dotted))
        _share_axis(axes, sorted({x for line in lines for x, _, _ in line.points}))
        _finish(figure, axes, handles)
        return _png(figure)


def _share_axis(axes: Axes, xs: Sequence[float]) -> None:
    """Logarithmic, labelled with those of `xs` that leave each other room."""
    if not xs:
        return
    span = math.log(xs[-1] / xs[0])
    shown: list[float] = []
    for x in xs:
        if not shown or math.log(x / shown[-1]) > 0.05 * span:
            shown.append(x)
    axes.set_xscale("log")
    axes.set_xticks(shown, [f"{x:g}" for x in shown])
    axes.set_xticks([], minor=True)
    if span == 0:
        axes.set_xlim(xs[0] / 2, xs[0] * 2)


def _look(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def _axes(
    title: str, x_label: str, y_label: str, size: tuple[float, float] = (5.4, 2.9)
) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    axes.set_title(_words(title, 9 * size[0]))
    axes.set_xlabel(_words(x_label))
    axes.set_ylabel(_words(y_label))
    axes.grid(visible=True)
    axes.tick_params(length=0)
    return figure, axes


def _finish(figure: Figure, axes: Axes, handles: Sequence[tuple[str, Any]]) -> None:
    """The legend below the axes, where it covers no line; the figure grows by its lines."""
    if not handles:
        axes.text(0.5, 0.5, "nothing was measured", ha="center", transform=axes.transAxes, color=_GREY)
        return
    width, height = figure.get_size_inches()
    letters = width * _INCH_LETTERS
    columns = max(1, int(letters / (_KEY_LETTERS + max(len(name) for name, _ in handles))))
    names = [_words(name, letters / columns - _KEY_LETTERS) for name, _ in handles]
    rows = math.ceil(len(names) / columns) * max(name.count("\n") + 1 for name in names)
    figure.set_size_inches(width, height + _LINE_INCHES * rows)
    figure.legend([drawn for _, drawn in handles], names, loc="outside lower left", ncols=columns)


def _words(text: str, width: float = 60) -> str:
    """Printable, in at most three lines of about `width` letters."""
    lines = textwrap.wrap(printable(text), max(10, int(width)), max_lines=3, placeholder=" …")
    return "\n".join(lines)


def _svg(figure: Figure, title: str) -> Markup:
    """The element alone, to stand inside a page: no XML head, and no ids of groups, which would occur twice there."""
    text = io.StringIO()
    about = {"Title": printable(title), "Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", metadata=about)
    svg = text.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])
    return Markup(svg.replace("<svg ", '<svg role="img" ', 1))


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150, metadata={"Software": None})
    return data.getvalue()


@contextmanager
def _drawing() -> Iterator[None]:
    """matplotlib with our settings, without a word about its font cache or letters that its font lacks."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        import matplotlib

        with matplotlib.rc_context(), warnings.catch_warnings():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(matplotlib.rc_params_from_file(_STYLE, use_default_template=False))
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            yield
    finally:
        log.setLevel(level)
