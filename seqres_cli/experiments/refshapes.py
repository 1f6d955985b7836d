"""What few masks are worth: every part of the method at 1 % of the masks, and the curve over the share of masks."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seqres_cli.experiments.settings import (
    ALL,
    BESIDE,
    BUDGET,
    CURVE,
    FEW,
    LATER_PROMPT,
    Plan,
    RowMaker,
    Settings,
    Trained,
    chosen_rows,
)
from stages.experiment_report import Curve, Experiment, Table


@dataclass(frozen=True)
class Method:
    """A way to learn from few masks.

    Attributes:
        recipe: of the first training; rounds take RECIPE-all, RECIPE-encoder or RECIPE-anew.
        basis: the method that this one adds one thing to.
        reference: the row that is 100 %.
        labels: how pseudo labels are predicted and what is kept of them, two recipes, "-refined" behind them where
            they are refined before; empty = no pseudo labels.
        rounds: further trainings, each with labels of the model before, or with the masks alone.
        keep: `--init-keep`: a round goes on from the model before; empty = it starts from the box model.
    """

    name: str
    label: str
    recipe: str
    reference: str
    basis: str | None = None
    labels: str = ""
    rounds: int = 0
    keep: str = ""


_ROWS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_METHODS, _MORE_METHODS, _ALL_MASKS = (
    {name: Method(name, **row) for name, row in _ROWS[part].items()}
    for part in ("methods", "more-methods", "all-masks")
)
_CURVES, _SHOWN, _COLUMNS = _ROWS["curves"], _ROWS["shown"], _ROWS["columns"]


def trained(method: Method, ratio: float) -> Trained:
    """The files of a method at a share of the masks. Their names say what made them, so methods share them."""
    maker, model, pairs = method.recipe, f"first-{method.recipe}-{ratio:g}", []
    models = [model]
    refined = "-refined" if method.labels.endswith("-refined") else ""
    prompt, _, select = method.labels.removesuffix(refined).rpartition("-")
    suffix = "".join(f"-{part}" for part in (method.labels, method.keep) if part)
    for number in range(1, 1 + method.rounds):
        if method.labels:
            source = f"{maker}-{prompt if number == 1 else LATER_PROMPT}{refined}"
            pairs.append((f"pseudo-{source}-{ratio:g}", f"points-{source}-{select}-{ratio:g}"))
        maker = f"round{number}-{method.recipe}{suffix}"
        model = f"{maker}-{ratio:g}"
        models.append(model)
    return Trained(model, tuple(models[:-1]), tuple(pairs))


def plan(settings: Settings, out: Path, asked: Sequence[str]) -> Plan:
    """The experiment; without `asked`, all rows but those that run only when named."""
    make = RowMaker(settings, out)
    make.add("rec", "the REC model that all start from", 0.0, Trained("rec"))
    few, shares = FEW[settings.scale], CURVE[settings.scale]
    methods = _METHODS | _MORE_METHODS
    curve_names = {
        kind: [_curve_row(kind, share, few) for share in shares if share < ALL] for kind in _CURVES
    }
    ablation = [*_METHODS, *_ALL_MASKS]
    extra = [name for names in curve_names.values() for name in names if name not in methods]
    groups = {
        "ablation": ablation,
        "attention": _SHOWN["attention"],
        "curve": [n for kind, names in curve_names.items() for n in (*names, _CURVES[kind]["all"])],
        "all-masks": list(_ALL_MASKS),
        **{kind: [curve["method"]] for kind, curve in _CURVES.items() if kind not in methods},
    }
    names = chosen_rows(asked or [*ablation, *extra], groups, [*methods, *_ALL_MASKS, *extra])
    for name in names:
        kind, _, share = name.partition("@")
        method = _ALL_MASKS.get(name) or methods[_CURVES[kind]["method"] if share else name]
        ratio = ALL if name in _ALL_MASKS else float(share) / 100 if share else few
        make.add(
            name,
            _CURVES[kind]["label"] if share else method.label,
            ratio,
            trained(method, ratio),
            beside=tuple(BESIDE) if name in _SHOWN["beside"] else (),
            attention=name in _SHOWN["attention"],
            basis=None if share else method.basis,
            reference=method.reference,
        )
    return Plan(tuple(make.targets), _report(make, settings, curve_names, extra))


def _curve_row(kind: str, share: float, few: float) -> str:
    return str(_CURVES[kind]["method"]) if share == few else f"{kind}@{100 * share:g}"


def _report(
    make: RowMaker, settings: Settings, curve_names: dict[str, list[str]], extra: list[str]
) -> Experiment:
    few = f"{100 * FEW[settings.scale]:g} %"
    steps = tuple(n for n in make.rows if n not in _ALL_MASKS and n not in extra and n != "rec")
    drawn = tuple(n for n in make.rows if make.rows[n].runs[0].labels)
    tables = (
        Table(
            f"The parts at {few} of the masks",
            (*steps, *(n for n in _ALL_MASKS if n in make.rows)),
            (*_COLUMNS["parts"], *BESIDE, *BUDGET),
            "gain: mIoU minus that of the row it builds on, seed by seed; % of full supervision: of the method's own "
            "row with all masks; steps, steps × images and minutes: of all its trainings on masks. What does not lie above the better of its box filled and the ellipse in it has "
            "learned no contour.",
        ),
        Table(
            "Pseudo labels against the hidden masks",
            drawn,
            tuple(_COLUMNS["labels"]),
            "The last round's labels, of as many box-only objects as were labelled. Measured after training with masks that no stage could "
            "read; the rows in the ground-truth box need no model.",
        ),
        Table(
            "Other shares of the masks",
            tuple(n for n in extra if n in make.rows),
            (*_COLUMNS["other-shares"], *BUDGET),
        ),
        Table(
            "Cross-attention of the last decoder layer",
            tuple(n for n in _SHOWN["attention"] if n in make.rows),
            tuple(_COLUMNS["attention"]),
            "Over all expressions of the split, mean of the steps that predict the contour.",
        ),
        Table("Comprehension", ("rec",), ("acc@0.5", "mean_box_iou")),
        Table(
            "What needs no model",
            tuple(n for n in _ALL_MASKS if n in make.rows),
            ("true_filled_box", "true_ellipse", "upper_bound"),
        ),
    )
    lines = tuple(
        Curve(curve["label"], (*curve_names[kind], curve["all"]), level=True)
        for kind, curve in _CURVES.items()
    )
    return Experiment(
        name="refshapes",
        title="Few masks: which part earns what",
        intro=f"Scale {settings.scale}; mean ± standard deviation over the seeds "
        f"{', '.join(map(str, settings.seeds))}; the data are the same for all, splits and trainings differ.",
        rows=tuple(make.rows.values()),
        tables=tables,
        curves=lines,
        learning=tuple(
            run[0] for names in _SHOWN["learning"] if (run := [n for n in names if n in make.rows])
        ),
    )
