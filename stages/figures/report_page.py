"""The page of `report`: tables and charts above, the gallery with its filters and the review below."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from stages.artifacts import Artifact
from stages.artifacts.json_forms import history_rows
from stages.figures.attention_page import history_charts
from stages.figures.cards import (
    CHUNK,
    CardWriter,
    Shown,
    choose_shown,
    script_json,
    spread,
    truth_of,
    write_attention,
)
from stages.figures.charts import Line, curve_png, histogram
from stages.figures.report import INDEX, Figure, Section, templates
from stages.figures.run_graph import run_graph
from stages.metrics import report_numbers as numbers
from stages.reporter import Reporter

_PARTS = Path(__file__).parent / "templates" / "report"
_MODULES = ("store.js", "shapes.js", "filters.js", "gallery.js", "review.js", "attention.js", "main.js")


def write_page(
    folder: Path,
    artifacts: Sequence[Artifact],
    *,
    show_hidden: bool,
    most_cards: int,
    pixels: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """Write index.html and everything beside it; returns counts for people and programs."""
    names = numbers.names_of(artifacts)
    of_kind = {kind: [a for a in artifacts if a.kind == kind] for kind in {a.kind for a in artifacts}}
    shown = choose_shown(artifacts)
    dataset = of_kind.get("dataset", [None])[0]
    setup: dict[str, Any] = {"chunk": CHUNK, "attention": [], "cards": 0, "dataset": "", "pseudo": ""}
    total = 0
    if dataset is not None:
        data, truth = truth_of(dataset.path, of_kind.get("split", []), show_hidden)
        writer = CardWriter(folder, shown, data, truth, dataset)
        cards = writer.cards()
        total = len(cards)
        cards = spread(cards, most_cards)
        writer.write(cards, pixels, reporter)
        if newest := of_kind.get("attention"):
            setup["attention"] = write_attention(folder, newest[-1], data, pixels)
        setup |= {"cards": len(cards), "dataset": dataset.digest}
        setup["pseudo"] = shown.pseudo.digest if shown.pseudo is not None else ""
    sections, files = _sections(of_kind, shown, names, dataset)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    given = {k: getattr(shown, k) for k in ("pseudo", "before", "points", "evaluation")}
    sources = {k: "" if a is None else names[a.digest] for k, a in given.items()}
    html = (
        templates()
        .get_template("report.html")
        .render(
            title=f"seqres report: {dataset.attrs['name']}" if dataset is not None else "seqres report",
            intro=_intro(artifacts, dataset, setup["cards"], total, show_hidden),
            sections=sections,
            graph=run_graph(artifacts, names),
            settings=numbers.settings_rows(artifacts, names),
            setup=Markup(script_json(setup)),  # nothing in it can end the script
            cards=setup["cards"],
            review=bool(setup["pseudo"]) and setup["cards"] > 0,
            attention=bool(setup["attention"]),
            sources=sources,
            show_hidden=show_hidden,
            css=Markup((_PARTS / "report.css").read_text("utf-8")),
            script=Markup(bundle()),
        )
    )
    (folder / INDEX).write_text(html + "\n", "utf-8", errors="replace")
    return {
        "files": len(artifacts),
        "cards": setup["cards"],
        "of": total,
        "reviewed": sources["pseudo"] or None,
        "attention": len(setup["attention"]),
        "true_masks": "all" if show_hidden else "where the split shows them",
    }


def bundle() -> str:
    """The page's modules as one: a browser loads no module from beside a page that is opened as a file."""
    parts = []
    for name in _MODULES:
        lines = (_PARTS / name).read_text("utf-8").splitlines()
        own = [line.removeprefix("export ") for line in lines if not line.startswith("import ")]
        parts.append("\n".join(own))
    return "\n".join(parts)


def _intro(
    artifacts: Sequence[Artifact], dataset: Artifact | None, cards: int, total: int, show_hidden: bool
) -> str:
    words = f"{len(artifacts)} files of one data set."
    if dataset is None:
        return f"{words} The dataset artifact was not given, so there is no gallery."
    if cards < total:
        words += f" The gallery shows {cards:,} of {total:,} cards, spread evenly."
    if show_hidden:
        words += " True masks that the split hides are shown: look, but do not tune on them."
    return words


def _sections(
    of_kind: dict[str, list[Artifact]], shown: Shown, names: dict[str, str], dataset: Artifact | None
) -> tuple[list[Section], dict[str, bytes]]:
    models = [*of_kind.get("rec_model", []), *of_kind.get("res_model", [])]
    evaluations = [e for e in of_kind.get("evaluation", []) if numbers.has_scores(e)]
    sections: list[Section] = []
    files: dict[str, bytes] = {}
    groups = numbers.comparable(evaluations)
    for i, group in enumerate(groups):
        rows = numbers.score_rows(group, [f for files_of in of_kind.values() for f in files_of])
        note = (
            "Rows after a colon and those of the true box need no learned contour: they are what a model has to beat. "
            "The training budget counts what all trainings on masks of a row have seen; rows compare at the same budget."
        )
        sections.append(Section(f"Scores{f', part {i + 1}' if len(groups) > 1 else ''}", note, table=rows))
    seen = numbers.seen_rows(evaluations, models, names)
    if seen:
        figures = _seen_figure(seen, files)
        sections.append(Section("IoU by the number of masks seen", table=seen, figures=figures))
    if dataset is not None and (rows := numbers.size_rows(evaluations, dataset, names)):
        note = "Mean IoU of the sentences whose box takes so much of its picture."
        sections.append(Section("IoU by object size", note, table=rows))
    histories = {names[m.digest]: history_rows(m.json("history")) for m in models}
    if charts := history_charts(histories):
        sections.append(Section("Learning curves", charts=charts))
    if shown.pseudo is not None:
        p = shown.pseudo
        score = histogram(
            "Pseudo masks by projection score", numbers.SCORE_EDGES,
            numbers.counted(p["projection_score"], numbers.SCORE_EDGES),
            x_label="projection score (0 = agrees with the box)", y_label="pseudo masks",
        )  # fmt: skip
        confidence = histogram(
            "Pseudo masks by confidence", numbers.CONFIDENCE_EDGES,
            numbers.counted(p["confidence"].astype(np.float64), numbers.CONFIDENCE_EDGES),
            x_label="confidence (mean token probability)", y_label="pseudo masks",
        )  # fmt: skip
        sections.append(Section("Pseudo labels", f"Of {names[p.digest]}.", charts=[score, confidence]))
    return sections, files


def _seen_figure(rows: Sequence[numbers.Row], files: dict[str, bytes]) -> list[Figure]:
    """A chart where models with different numbers of masks (above 0) were scored on one split."""
    split = rows[0]["split"]
    best: dict[float, tuple[float, float]] = {}
    for row in rows:
        seen, iou, trivial = (row[key] for key in ("masks seen", "mIoU", "ellipse in its box"))
        if row["split"] == split and isinstance(seen, int) and seen > 0 and isinstance(iou, float):
            old = best.get(float(seen), (-1.0, -1.0))
            best[float(seen)] = max(old, (iou, float(str(trivial))))
    if len(best) < 2:
        return []
    title = f"mIoU of {split} by the number of masks seen"
    files["masks-seen.png"] = curve_png(
        title,
        [Line("best model with so many masks", [(x, y, None) for x, (y, _) in sorted(best.items())])],
        x_label="masks seen (logarithmic)",
        y_label="mIoU",
        trivial=[(x, t) for x, (_, t) in best.items()],
        trivial_label="ellipse in its predicted box",
    )
    return [Figure("masks-seen.png", "The best model of each number of masks.", f"Chart: {title}")]
