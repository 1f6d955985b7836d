"""The supplement's table 1: which [TASK] token, with all masks."""

from collections.abc import Sequence
from pathlib import Path

from seqres_cli.experiments.settings import ALL, BUDGET, Plan, RowMaker, Settings, Trained, chosen_rows
from stages.experiment_report import Experiment, Table

# row -> label, recipe of its training, and what the paper prints for RefCOCOg val in percent (METHOD.md section 3)
_AT = ("miou", "pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9")
ROWS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "multitask": ("multi-task, task-wise token", "multitask", (53.87, 65.85, 59.54, 47.56, 27.39, 6.29)),
    "zero": ("refine REC, zero token", "naive", (54.83, 66.60, 60.57, 48.01, 27.58, 5.91)),
    "learnable": ("refine REC, learnable token", "task-token", (55.95, 67.73, 62.20, 49.02, 29.55, 7.07)),
    "multitask-from-rec": ("multi-task, started from the REC model", "multitask-from-rec", ()),
}
DEFAULT = ("multitask", "zero", "learnable")


def plan(settings: Settings, out: Path, asked: Sequence[str]) -> Plan:
    """The experiment; without `asked`, the paper's three rows."""
    make = RowMaker(settings, out)
    make.add("rec", "the REC model that is refined", 0.0, Trained("rec"))
    for name in chosen_rows(asked or DEFAULT, {"all": list(ROWS)}, list(ROWS)):
        label, recipe, printed = ROWS[name]
        paper = {key: value / 100 for key, value in zip(_AT, printed, strict=False)}
        make.add(name, label, ALL, Trained(f"first-{recipe}-{ALL:g}"), printed=paper)
    tables = (
        Table(
            "[TASK] tokens, all masks",
            tuple(n for n in make.rows if n != "rec"),
            (*_AT, "oiou", "acc@0.5", "filled_box", "ellipse", "above_trivial", *BUDGET),
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
        learning=tuple(n for n in make.rows if n != "rec"),
    )
    return Plan(tuple(make.targets), report)
