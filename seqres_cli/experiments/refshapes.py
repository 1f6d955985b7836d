"""What few masks are worth: every part of the method at 1 % of the masks, and the curve over the share of masks."""

from __future__ import annotations

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
    ROUNDS,
    Plan,
    RowMaker,
    Settings,
    Trained,
    chosen_rows,
)
from stages.experiment_report import Curve, Experiment, Table

FULL = "zoom-augmented"  # the full method's recipe


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
    basis: str | None
    reference: str
    labels: str = ""
    rounds: int = 0
    keep: str = ""


METHODS = (
    Method("naive", "naive: plain SeqTR fine-tuned", "naive", None, "naive-all"),
    Method("task-token", "+ learnable [TASK] token", "task-token", "naive", "paper-all"),
    Method("cctf", "+ CCTF", "cctf", "task-token", "paper-all"),
    Method("pmca", "+ PMCA", "pmca", "cctf", "paper-all"),
    Method("rpp", "+ RPP: the paper's method, two trainings of half the length", "paper", "pmca", "paper-all", "free-plain", 1),
    Method("box-contour", "box, then contour (PMCA row; no pseudo labels)", "box-contour", "pmca", "full-all"),
    Method("point-content", "+ finer content of finished points", "point-content", "box-contour", "full-all"),
    Method("box-prompt", "+ pseudo labels, predicted with the box prompt", "point-content", "point-content", "full-all", "box-plain", 1, "all"),
    Method("second-look", "point content + crop refinement (no pseudo labels)", "zoom", "point-content", "full-all"),
    Method("augmentation", "+ few masks rotated and pasted", FULL, "second-look", "full-all"),
    Method("more-steps", "+ as many steps as a round, with the masks alone", FULL, "augmentation", "full-all", "", 1, "all"),
    Method("most-steps", "+ as many steps as all rounds, with the masks alone: the full method", FULL, "more-steps", "full-all", "", ROUNDS, "all"),
    Method("outlines", "rotated and pasted + pseudo labels, predicted with the box prompt", FULL, "augmentation", "full-all", "box-all-plain", 1, "all"),
    Method("fit", "the same, fitted to their box", FULL, "outlines", "full-all", "box-all-fit", 1, "all"),
    Method("curved", "the same, curves between their points", FULL, "outlines", "full-all", "box-all-curve", 1, "all"),
    Method("refined", "the same curves, refined by colour", FULL, "curved", "full-all", "box-all-curve-refined", 1, "all"),
    Method("rounds", "+ rounds", FULL, "curved", "full-all", "box-all-curve", ROUNDS, "all"),
    Method("refined-rounds", "+ rounds, all refined by colour", FULL, "refined", "full-all", "box-all-curve-refined", ROUNDS, "all"),
)  # fmt: skip
# Run only when named
MORE_METHODS = (
    Method("pmca-alone", "+ PMCA without CCTF", "pmca-alone", "task-token", "paper-all"),
    Method("weighting", "curves, weighted by agreement", FULL, "curved", "full-all", "box-all-weighted", 1, "all"),
    Method("keep-encoder", "curves, the round from the encoder before", FULL, "curved", "full-all", "box-all-curve", 1, "encoder"),
    Method("anew", "curves, the round from the box model", FULL, "curved", "full-all", "box-all-curve", 1),
)  # fmt: skip
# Two rounds of pseudo labels, refined or not, earn no more than as many steps with the masks alone
# (docs/EXPERIMENTS.md), so this method has none
OF_CURVE = {"naive": "naive", "paper": "rpp", "full": "most-steps"}
SECOND_NAMES = {"paper": ["rpp"], "full": ["most-steps"]}
CURVE_LABELS = {"naive": "naive", "paper": "the paper's method", "full": "the full method"}
ALL_MASKS = {
    "naive-all": Method("naive-all", "naive, all masks", "naive", None, "naive-all"),
    "paper-all": Method("paper-all", "the paper's method, all masks", "pmca", None, "paper-all"),
    "full-all": Method("full-all", "the full method, all masks, as many steps", FULL, None, "full-all", "", ROUNDS, "all"),
}  # fmt: skip

# Rows whose model is also scored with the box prompt, and by its auxiliary mask
# Rows whose cross-attention is measured: plain, with CCTF, with PMCA, with both
_ATTENTION = {
    "naive": "naive", "cctf": "CCTF", "pmca-alone": "PMCA", "pmca": "CCTF and PMCA", "naive-all": "naive, all masks",
    "paper-all": "CCTF and PMCA, all masks",
}  # fmt: skip
_LOOKED_AT = ("most-steps", "rounds", "refined-rounds", "full-all")
SCORES = (
    "miou", "oiou", "pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9", "acc@0.5", "filled_box", "ellipse",
    "above_trivial", "gain", "percent_of_full", *BESIDE, *BUDGET,
)  # fmt: skip
OF_LABELS = (
    "pseudo_referents", "pseudo_kept_share", "pseudo_all", "pseudo_ellipse", "pseudo_filled_box", "pseudo_all_kept",
    "pseudo_kept_outlines", "pseudo_kept_ellipse", "pseudo_kept_filled_box",
)  # fmt: skip

OF_ATTENTION = tuple(
    f"attention_{name}" for name in ("in_mask", "in_box", "distance", "mask_share", "box_share")
)
_LEARNING = ("naive", "rpp", "naive-all", "paper-all")


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
    """The experiment; without `asked`, all rows but MORE_METHODS."""
    make = RowMaker(settings, out)
    make.add("rec", "the REC model that all start from", 0.0, Trained("rec"))
    few, shares = FEW[settings.scale], CURVE[settings.scale]
    methods = {method.name: method for method in (*METHODS, *MORE_METHODS)}
    curve_names = {
        kind: [_curve_row(kind, share, few) for share in shares if share < ALL] for kind in OF_CURVE
    }
    ablation = [method.name for method in METHODS]
    extra = [name for names in curve_names.values() for name in names if name not in methods]
    known = [*methods, *ALL_MASKS, *extra]
    curve = [*(n for names in curve_names.values() for n in names), *ALL_MASKS]
    groups = {
        "ablation": [*ablation, *ALL_MASKS],
        "attention": list(_ATTENTION),
        "curve": curve,
        "all-masks": list(ALL_MASKS),
        **SECOND_NAMES,
    }
    names = chosen_rows(asked or [*ablation, *ALL_MASKS, *extra], groups, known)
    for name in names:
        kind, _, share = name.partition("@")
        method = ALL_MASKS.get(name) or methods[OF_CURVE[kind] if share else name]
        ratio = ALL if name in ALL_MASKS else float(share) / 100 if share else few
        make.add(
            name,
            CURVE_LABELS[kind] if share else method.label,
            ratio,
            trained(method, ratio),
            beside=tuple(BESIDE) if name in _LOOKED_AT else (),
            attention=name in _ATTENTION,
            basis=None if share else method.basis,
            reference=method.reference,
        )
    return Plan(tuple(make.targets), _report(make, settings, curve_names, extra))


def _curve_row(kind: str, share: float, few: float) -> str:
    return OF_CURVE[kind] if share == few else f"{kind}@{100 * share:g}"


def _report(
    make: RowMaker, settings: Settings, curve_names: dict[str, list[str]], extra: list[str]
) -> Experiment:
    few = f"{100 * FEW[settings.scale]:g} %"
    steps = tuple(n for n in make.rows if n not in ALL_MASKS and n not in extra and n != "rec")
    drawn = tuple(n for n in make.rows if make.rows[n].runs[0].labels)
    tables = (
        Table(
            f"The parts at {few} of the masks",
            (*steps, *(n for n in ALL_MASKS if n in make.rows)),
            SCORES,
            "gain: mIoU minus that of the row it builds on, seed by seed; % of full supervision: of the method's own "
            "row with all masks; steps, steps × images and minutes: of all its trainings on masks. What does not lie above the better of its box filled and the ellipse in it has "
            "learned no contour.",
        ),
        Table(
            "Pseudo labels against the hidden masks",
            drawn,
            OF_LABELS,
            "The last round's labels, of as many box-only objects as were labelled. Measured after training with masks that no stage could "
            "read; the rows in the ground-truth box need no model.",
        ),
        Table(
            "Other shares of the masks",
            tuple(n for n in extra if n in make.rows),
            (
                "miou",
                "oiou",
                "pr@0.5",
                "pr@0.7",
                "pr@0.9",
                "acc@0.5",
                "above_trivial",
                "percent_of_full",
                *BUDGET,
            ),
        ),
        Table(
            "Cross-attention of the last decoder layer",
            tuple(n for n in _ATTENTION if n in make.rows),
            OF_ATTENTION,
            "Over all expressions of the split, mean of the steps that predict the contour.",
        ),
        Table("Comprehension", ("rec",), ("acc@0.5", "mean_box_iou")),
        Table(
            "What needs no model",
            tuple(n for n in ALL_MASKS if n in make.rows),
            ("true_filled_box", "true_ellipse", "upper_bound"),
        ),
    )
    lines = tuple(
        Curve(CURVE_LABELS[kind], (*curve_names[kind], f"{kind}-all"), level=True) for kind in OF_CURVE
    )
    return Experiment(
        name="refshapes",
        title="Few masks: which part earns what",
        intro=f"Scale {settings.scale}; mean ± standard deviation over the seeds "
        f"{', '.join(map(str, settings.seeds))}; the data are the same for all, splits and trainings differ.",
        rows=tuple(make.rows.values()),
        tables=tables,
        curves=lines,
        learning=tuple(n for n in _LEARNING if n in make.rows),
    )
