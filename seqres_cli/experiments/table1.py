"""The supplement's table 1: which [TASK] token, with all masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seqres_cli.experiments import recipes
from seqres_cli.experiments.build import ALL, Bench, Plan, RowMaker, Settings, Trained, chosen_rows
from seqres_cli.experiments.graph import Graph
from stages.experiment_report import Experiment, Table

# row -> label, training, length, and what the paper prints for RefCOCOg val in percent (METHOD.md section 3)
_AT = ("miou", "pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9")
ROWS: dict[str, tuple[str, str, str, tuple[float, ...]]] = {
    "multitask": (
        "multi-task, task-wise token", "multitask", "multitask", (53.87, 65.85, 59.54, 47.56, 27.39, 6.29),
    ),
    "zero": ("refine REC, zero token", "naive", "masks", (54.83, 66.60, 60.57, 48.01, 27.58, 5.91)),
    "learnable": (
        "refine REC, learnable token", "task-token", "masks", (55.95, 67.73, 62.20, 49.02, 29.55, 7.07),
    ),
    "multitask-from-rec": ("multi-task, started from the REC model", "multitask-from-rec", "masks", ()),
}  # fmt: skip
DEFAULT = ("multitask", "zero", "learnable")


def train(bench: Bench, name: str) -> Trained:
    """The nodes of a row."""
    _, variant, role, _ = ROWS[name]
    more = f" {recipes.ALL_OUTLINED}" if variant.startswith("multitask") else ""
    return Trained(bench.res(f"first-{variant}", ALL, role, recipes.VARIANTS[variant] + more))


def plan(settings: Settings, out: Path, asked: Sequence[str]) -> Plan:
    """The experiment; without `asked`, the paper's three rows."""
    make = RowMaker(Graph(), settings, out)
    make_rec_row(make, "rec", "the REC model that is refined")
    for name in chosen_rows(asked or DEFAULT, {"all": list(ROWS)}, list(ROWS)):
        label, _, _, printed = ROWS[name]
        paper = {key: value / 100 for key, value in zip(_AT, printed, strict=False)}
        make.add(name, label, ALL, partial(train, name=name), printed=paper)
    tables = (
        Table(
            "[TASK] tokens, all masks",
            tuple(n for n in make.rows if n != "rec"),
            (*_AT, "oiou", "acc@0.5", "filled_box", "ellipse", "above_trivial"),
            "Printed: RefCOCOg val, full-size model. Multi-task starts from no REC model and sees as many pictures as "
            "REC and refining together.",
        ),
        Table("Comprehension", ("rec",), ("acc@0.5", "mean_box_iou")),
    )
    report = Experiment(
        name="table1",
        title="Table 1 of the supplement: the [TASK] token",
        intro=f"Scale {settings.scale}; plain SeqTR without CCTF and PMCA; mean ± standard deviation over the seeds "
        f"{', '.join(map(str, settings.seeds))}.",
        rows=tuple(make.rows.values()),
        tables=tables,
    )
    return Plan(make.graph, report)


def make_rec_row(make: RowMaker, name: str, label: str) -> None:
    """A row of box scores: the comprehension model that others start from."""
    make.add(name, label, 0.0, lambda b: Trained(b.rec()))
