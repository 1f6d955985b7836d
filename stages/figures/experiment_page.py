"""The files of an experiment's report: table in three forms, curve, a Markdown and an HTML page that link them."""

import csv
import io
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.artifacts.provenance import plain_json
from stages.figures.charts import Line, curve_png, line_png
from stages.figures.report import Figure, Section, page
from stages.metrics.experiment import spread_of
from stages.metrics.experiment_rows import Curve, Experiment, Table
from stages.metrics.spread import spread

Rows = Mapping[str, Mapping[str, Any]]
LEARNING = "Learning curves"

_WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
COLUMNS: dict[str, tuple[str, int]] = {column: tuple(words) for column, words in _WORDS["columns"].items()}
ROUNDS: dict[str, dict[str, str]] = _WORDS["rounds"]


def report_files(
    experiment: Experiment, measured: Rows, split: str
) -> tuple[dict[str, Any], str, dict[str, bytes]]:
    """(numbers of table.json, HTML, file name -> content)."""
    numbers = _numbers(experiment, measured, split)
    tables = [(table, table_rows(table, measured)) for table in experiment.tables]
    tables += [(Table(heading, (), ()), round_rows(measured, keys)) for heading, keys in ROUNDS.items()]
    lines = [line for curve in experiment.curves if (line := curve_line(curve, measured)).points]
    files = {
        "table.json": _json_bytes(numbers),
        "table.csv": _csv(numbers["rows"]).encode("utf-8"),
        "table.md": "\n".join(line for t, rows in tables for line in _table_text(t, rows)).encode("utf-8"),
    }
    figures = []
    links = {"table.json": "every number", "table.csv": "for a spreadsheet", "table.md": "tables alone"}
    if lines:
        trivial = trivial_points(experiment.curves, measured)
        files["curve.png"] = curve_png(
            experiment.curve_title,
            lines,
            x_label="masks seen, % of all (logarithmic)",
            y_label=f"mIoU of {split}",
            level_label="with all masks",
            trivial=trivial,
            trivial_label="trivial: filled box or ellipse in it, the best of all rows",
        )
        files["curve.json"] = _json_bytes(_curve_numbers(lines, trivial))
        links["curve.json"] = "numbers of the curve"
        caption = "Means over the seeds; bars are one standard deviation to either side."
        figures = [Figure("curve.png", caption, f"Chart: {experiment.curve_title}")]
    learned = learning_curves(experiment.learning, measured)
    if learned:
        words = {"x_label": "steps of all trainings", "y_label": f"mIoU of {split}, validation sample"}
        files["learning.png"] = line_png(LEARNING, learned, **words)
        files["learning.json"] = _json_bytes({"x": "steps", "y": "mIoU", "series": learned})
        links["learning.json"] = "numbers of the learning curves"
    files["report.md"] = _markdown(experiment, tables, links).encode("utf-8")
    sections = [Section(t.heading, t.note, table=rows) for t, rows in tables if rows]
    if figures:
        sections.append(Section(experiment.curve_title, figures=figures))
    if learned:
        caption = (
            "Moving average of the weights; means over the seeds. No weights are chosen by these scores."
        )
        sections.append(Section(LEARNING, figures=[Figure("learning.png", caption, f"Chart: {LEARNING}")]))
    return numbers, page(experiment.title, experiment.intro, sections, links), files


def table_rows(table: Table, measured: Rows) -> list[dict[str, object]]:
    """Cells as text, "0.441 ± 0.012"; columns that no row has are left out, a row without a run has dashes."""
    rows = [measured[name] for name in table.rows if name in measured]
    columns = [c for c in table.columns if any(c in r["spread"] or c in r["printed"] for r in rows)]
    printed = any(r["printed"] for r in rows)
    result: list[dict[str, object]] = []
    for row in rows:
        cells: dict[str, object] = {"": row["label"], "masks": _share(row["ratio"])}
        cells["seeds"] = str(len(row["seeds"])) + (
            f" of {len(row['seeds']) + len(row['missing'])}" if row["missing"] else ""
        )
        for column in columns:
            heading, digits = COLUMNS[column]
            found = spread_of(row, column)
            cells[heading] = "–" if found is None else found.text(digits)
        result.append(cells)
        if printed and row["printed"]:
            paper: dict[str, object] = {
                "": f"{row['label']} — printed in the paper",
                "masks": "",
                "seeds": "",
            }
            for column in columns:
                value = row["printed"].get(column)
                paper[COLUMNS[column][0]] = "–" if value is None else f"{value:.4f}"
            result.append(paper)
    return result


def round_rows(measured: Rows, keys: Mapping[str, str]) -> list[dict[str, object]]:
    """A line a round of every row that has several with these numbers: their mean and spread over the seeds."""
    result: list[dict[str, object]] = []
    for row in measured.values():
        rounds = [one for found in row["rounds"].values() for one in found if any(k in one for k in keys)]
        numbers = sorted({one["round"] for one in rounds})
        for number in numbers if len(numbers) > 1 else ():
            cells: dict[str, object] = {"": row["label"], "masks": _share(row["ratio"]), "round": str(number)}
            for key, heading in keys.items():
                found = spread([one.get(key) for one in rounds if one["round"] == number])
                cells[heading] = "–" if found is None else found.text()
            result.append(cells)
    return result


def curve_line(curve: Curve, measured: Rows) -> Line:
    """Shares in percent; rows that were not measured, or that see no mask, have no place on a logarithmic axis."""
    points = []
    for row in (measured[name] for name in curve.rows if name in measured):
        if row["ratio"] > 0 and (found := spread_of(row, "miou")) is not None:
            points.append((100 * float(row["ratio"]), found.mean, found.deviation))
    full = [y for x, y, _ in points if x >= 100]
    return Line(curve.label, tuple(sorted(points)), full[0] if curve.level and full else None)


def learning_curves(names: Sequence[str], measured: Rows) -> dict[str, list[tuple[float, float]]]:
    """Label and share -> (steps, mean mIoU over the seeds that were validated there)."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in (measured[name] for name in names if name in measured):
        found: dict[int, list[float]] = {}
        for curve in row.get("curves", {}).values():
            for steps, score in curve:
                found.setdefault(steps, []).append(score)
        if found:
            points = [(float(steps), sum(scores) / len(scores)) for steps, scores in sorted(found.items())]
            lines[f"{row['label']}, {_share(row['ratio'])} of the masks"] = points
    return lines


def trivial_points(curves: Sequence[Curve], measured: Rows) -> list[tuple[float, float]]:
    """(share in percent, mIoU of the best trivial baseline in the boxes that a row of that share predicts): what lies
    below it on the picture lies below its own in the table or has worse boxes than another row."""
    found: dict[float, float] = {}
    for row in (measured[name] for curve in curves for name in curve.rows if name in measured):
        share = 100 * float(row["ratio"])
        for key in ("filled_box", "ellipse"):
            if share > 0 and (trivial := spread_of(row, key)) is not None:
                found[share] = max(trivial.mean, found.get(share, 0.0))
    return sorted(found.items())


def _numbers(experiment: Experiment, measured: Rows, split: str) -> dict[str, Any]:
    rows = []
    for spec in experiment.rows:
        row = measured[spec.name]
        spreads = {k: {"mean": s.mean, "deviation": s.deviation, "n": s.n} for k, s in row["spread"].items()}
        seeds = {str(seed): found for seed, found in row["seeds"].items()}
        rounds = {str(seed): found for seed, found in row["rounds"].items()}
        related = {"basis": spec.basis, "reference": spec.reference}
        curves = {str(seed): found for seed, found in row.get("curves", {}).items()}
        rows.append({**row, **related, "seeds": seeds, "rounds": rounds, "curves": curves, "spread": spreads})
    return {
        "experiment": experiment.name, "split": split, "frame": "original pixels",
        **experiment.facts, "rows": rows,
    }  # fmt: skip


def _curve_numbers(lines: Sequence[Line], trivial: Sequence[tuple[float, float]]) -> dict[str, Any]:
    series = [
        {
            "label": line.label,
            "points": [{"percent": x, "miou": y, "deviation": d} for x, y, d in line.points],
            "full_supervision": line.level,
        }
        for line in lines
    ]
    return {
        "x": "share of masks seen, percent", "y": "mIoU", "series": series,
        "trivial": [{"percent": x, "miou": y} for x, y in trivial],
    }  # fmt: skip


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a row; mean, standard deviation and n of every number."""
    keys = dict.fromkeys(key for row in rows for key in row["spread"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = ("mean", "deviation", "n")
    writer.writerow(["name", "label", "ratio", *(f"{key} {part}" for key in keys for part in parts)])
    for row in rows:
        cells = [row["spread"].get(key, {}).get(part) for key in keys for part in parts]
        writer.writerow([row["name"], row["label"], row["ratio"], *("" if c is None else c for c in cells)])
    return text.getvalue()


def _markdown(
    experiment: Experiment, tables: Sequence[tuple[Table, list[dict[str, object]]]], links: Mapping[str, str]
) -> str:
    text = [f"# {experiment.title}", "", experiment.intro, ""]
    for table, rows in tables:
        text += _table_text(table, rows)
    if "curve.json" in links:
        text += [f"## {experiment.curve_title}", "", f"![{experiment.curve_title}](curve.png)", ""]
    files = [*links.items(), ("index.html", "this page as HTML")]
    return "\n".join([*text, " · ".join(f"[{words}]({file})" for file, words in files), ""])


def _table_text(table: Table, rows: Sequence[Mapping[str, object]]) -> list[str]:
    if not rows:
        return []
    text = [f"## {table.heading}", ""] + ([table.note, ""] if table.note else [])
    text += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    text += ["| " + " | ".join(str(v).replace("|", "\\|") for v in row.values()) + " |" for row in rows]
    return [*text, ""]


def _share(ratio: float) -> str:
    return "boxes only" if ratio == 0 else f"{100 * ratio:g} %"


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(plain_json(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8"
    )
