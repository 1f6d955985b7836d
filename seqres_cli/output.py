"""stdout carries the result, stderr everything else.

With `--json`, stdout is exactly one JSON object: the result, or {"error": {...}} (the same error is
told in words on stderr as well, and the exit code says which of the two it is).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stages.errors import SeqresError
from stages.reporter import ProgressTask, number_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


@dataclass(frozen=True)
class Answer:
    """What a command returns: the same result for people (`lines`) and for programs (`payload`).

    `kept`: the result is in a file as well, so nothing is lost when it cannot be printed.
    """

    payload: dict[str, Any]
    lines: Sequence[str]
    exit_code: int = 0
    kept: bool = False


def print_answer(answer: Answer, as_json: bool) -> None:
    text = _json_line(answer.payload) if as_json else "\n".join(answer.lines)
    if text:
        print(text, flush=True)


def print_error(error: SeqresError, as_json: bool) -> None:
    """One line, indented facts, a blank line, the hint."""
    if as_json:
        record = {
            "type": type(error).__name__,
            "message": error.message,
            "facts": list(error.facts),
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        print(_json_line({"error": record}), flush=True)
    lines = [f"error: {error.message}", *(f"  {fact}" for fact in error.facts)]
    if error.hint:
        lines += ["", f"hint: {error.hint}"]
    print("\n".join(lines), file=sys.stderr, flush=True)


def _json_line(value: Mapping[str, Any]) -> str:
    """One object in ASCII: every stream can take it, every program read it."""
    from stages.artifacts.provenance import plain_json

    return json.dumps(plain_json(value), allow_nan=False)


# ---- text for people -------------------------------------------------------------------------------


# Keys of files keep the words that they were written with; people are shown those of docs/glossary.md
_SHOWN_AS = {
    "drawn": "predicted", "marked": "auxiliary", "outline": "contour", "outlines": "contours",
    "sentence": "expression", "sentences": "expressions", "phrase": "expression", "phrases": "expressions",
}  # fmt: skip


def label_text(key: str) -> str:
    """A key of a summary or a column as its heading: "n_sentences" -> "n expressions"."""
    return " ".join(_SHOWN_AS.get(word, word) for word in key.replace("_", " ").split(" "))


def number_text(value: Any) -> str:
    """A value as it stands in a table: four significant digits, yes/no, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(number_text(v) for v in value) or "-"
    return str(value)


def table_lines(rows: Sequence[Mapping[str, Any]], indent: str = "  ") -> list[str]:
    """Rows of equal keys as an aligned text table with a header; numbers to the right."""
    if not rows:
        return []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    texts = [_column_texts([row.get(column) for row in rows]) for column in columns]
    cells = [[label_text(column) for column in columns], *map(list, zip(*texts, strict=True))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    right = [any(_is_number(row.get(c)) for row in rows) for c in columns]
    return [
        indent
        + "  ".join(
            cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _column_texts(values: Sequence[Any]) -> list[str]:
    """The cells of a column; shares and scores get the same four decimals, so that they can be compared."""
    fractions = [v for v in values if isinstance(v, float)]
    if fractions and all(abs(v) < 10 for v in fractions):
        return [f"{v:.4f}" if isinstance(v, float) else number_text(v) for v in values]
    return [number_text(v) for v in values]


def summary_lines(summary: Mapping[str, Any], indent: str = "  ") -> list[str]:
    """A stage's summary: single values one a line, a table where a value is a list or dict of like dicts."""
    lines: list[str] = []
    single = {label_text(k): v for k, v in summary.items() if not _is_nested(v)}
    width = max((len(k) for k in single), default=0)
    lines += [f"{indent}{k.ljust(width)}  {number_text(v)}" for k, v in single.items()]
    for key, value in summary.items():
        if not _is_nested(value):
            continue
        lines.append(f"{indent}{label_text(key)}:")
        if _is_histogram(value):
            rest = {k: v for k, v in value.items() if k not in ("edges", "counts")}
            lines += summary_lines(rest, indent + "  ")
            lines += histogram_lines(value["edges"], value["counts"], indent + "  ")
            continue
        if isinstance(value, Mapping):
            if value and all(isinstance(v, Mapping) and not _has_nested(v) for v in value.values()):
                lines += table_lines([{"": name, **row} for name, row in value.items()], indent + "  ")
            else:
                lines += summary_lines(value, indent + "  ")
        elif all(not _has_nested(row) for row in value):
            lines += table_lines(value, indent + "  ")
        else:
            for i, row in enumerate(value):
                lines += [f"{indent}  {i + 1}.", *summary_lines(row, indent + "    ")]
    return lines


def _is_histogram(value: Any) -> bool:
    """Also of a file that a stranger made: anything else with these keys is shown as it is."""
    lists = (value.get("edges"), value.get("counts")) if isinstance(value, Mapping) else ()
    return bool(lists) and all(isinstance(one, list | tuple) and all(map(_is_finite, one)) for one in lists)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63


def histogram_lines(edges: Sequence[float], counts: Sequence[int], indent: str = "  ") -> list[str]:
    """Bins as rows: limits, count and a bar; `edges` has one value more than `counts`."""
    limits = [f"{number_text(low)} to {number_text(high)}" for low, high in pairwise(edges)]
    widths = max(map(len, limits), default=0), max((len(str(n)) for n in counts), default=0)
    most = max([1, *counts])
    return [
        f"{indent}{limit.ljust(widths[0])}  {str(n).rjust(widths[1])}  {'█' * round(30 * n / most)}".rstrip()
        for limit, n in zip(limits, counts, strict=False)
    ]


def size_text(n_bytes: int) -> str:
    size, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if unit != "B" else f"{n_bytes} B"


def seconds_text(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _has_nested(row: Mapping[str, Any]) -> bool:
    return any(_is_nested(v) for v in row.values())


# ---- progress --------------------------------------------------------------------------------------


@dataclass
class RichReporter:
    """Bars on a terminal; elsewhere (a log file, CI) one line for every tenth of the work."""

    quiet: bool = False
    _console: Console | None = field(default=None, init=False)
    _progress: Progress | None = field(default=None, init=False)
    _depth: int = field(default=0, init=False)

    @property
    def console(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        return self._console

    def info(self, message: str) -> None:
        if not self.quiet:
            self.console.print(message, markup=False)

    def warn(self, message: str) -> None:
        self.console.print(f"warning: {message}", style="yellow", markup=False)

    @contextmanager
    def progress(self, description: str, total: int | None, unit: str = "it") -> Iterator[ProgressTask]:
        if self.quiet:
            yield _LineTask(self, description, total, unit, silent=True)
        elif self.console.is_terminal:
            with self._bars() as bars:
                task = bars.add_task(description, total=total, rate="", numbers="")
                yield _BarTask(bars, task, unit)
                bars.remove_task(task)
            self.info(f"{description}: done")
        else:
            line_task = _LineTask(self, description, total, unit)
            yield line_task
            line_task.finish()

    @contextmanager
    def _bars(self) -> Iterator[Progress]:
        """One live display for all bars, because rich draws only one at a time; started by the first."""
        if self._progress is None:
            self._progress = _make_bars(self.console)
            self._progress.start()
        self._depth += 1
        try:
            yield self._progress
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._progress.stop()
                self._progress = None


def _make_bars(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("eta"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[numbers]}"),
        console=console,
        transient=True,
    )


_QUICK_SECONDS = 1.0


def _rate_text(rate: float) -> str:
    return f"{rate:.3g}" if rate < 1000 else f"{rate:.0f}"


class _BarTask:
    def __init__(self, bars: Progress, task: Any, unit: str) -> None:
        self._bars, self._task, self._unit = bars, task, unit
        self._started, self._done = time.monotonic(), 0

    def advance(self, n: int = 1, **numbers: float) -> None:
        self._done += n
        rate = self._done / max(time.monotonic() - self._started, 1e-6)
        fields: dict[str, Any] = {"rate": f"{_rate_text(rate)} {self._unit}/s"}
        if numbers:
            fields["numbers"] = number_words(numbers)
        self._bars.update(self._task, advance=n, **fields)


class _LineTask:
    """A line when a tenth more is done; without a total, a line at 10, 20, 40, 80 … units.

    What is done within a second gets one line, at its end.
    """

    def __init__(
        self, reporter: RichReporter, description: str, total: int | None, unit: str, silent: bool = False
    ) -> None:
        self._reporter, self._description, self._total, self._unit = reporter, description, total, unit
        self._started, self._done, self._told = time.monotonic(), 0, 0
        self._next = 10
        self._numbers: dict[str, float] = {}
        self._silent = silent

    def advance(self, n: int = 1, **numbers: float) -> None:
        self._done += n
        self._numbers = numbers or self._numbers
        if self._silent:
            return
        if self._total:
            tenth = min(10, 10 * self._done // self._total)
            if tenth > self._told and (tenth == 10 or self._seconds() >= _QUICK_SECONDS):
                self._told = tenth
                self._tell()
        elif self._done >= self._next and self._seconds() >= _QUICK_SECONDS:
            self._next = 2 * self._done
            self._tell()

    def finish(self) -> None:
        if not self._silent and not self._total and self._done:
            self._tell()

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _tell(self) -> None:
        rate = self._done / max(self._seconds(), 1e-6)
        share, left = "", ""
        if self._total:
            share = f"{min(100, 100 * self._done // self._total)} % "
            left = f", eta {seconds_text(max(0, self._total - self._done) / max(rate, 1e-9))}"
        of = f"/{self._total}" if self._total else ""
        numbers = f"  {number_words(self._numbers)}" if self._numbers else ""
        self._reporter.info(
            f"{self._description}: {share}({self._done}{of} {self._unit}, {_rate_text(rate)}/s{left}){numbers}"
        )
