"""What few masks are worth: every part of the method at 1 % of the masks, and the curve over the share of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seqres_cli.experiments import recipes
from seqres_cli.experiments.build import ALL, Bench, Plan, RowMaker, Settings, Trained, chosen_rows
from seqres_cli.experiments.graph import Graph
from seqres_cli.experiments.table1 import make_rec_row
from stages.experiment_report import Curve, Experiment, Table


@dataclass(frozen=True)
class Method:
    """A way to learn from few masks.

    Attributes:
        variant: the training, a key of recipes.VARIANTS.
        basis: the method that this one adds one thing to.
        few: flags added where only masks are learned from.
        prompt: how pseudo labels are drawn, a key of recipes.PSEUDO; None = no pseudo labels.
        select: what of them is kept, a key of recipes.SELECT.
        refined: they are redrawn by colour before (refine-masks).
        rounds: further trainings, each with labels that the model before draws, or with the masks alone.
        keep: `--init-keep`: a round goes on from the model before; empty = it starts from the box model.
        reference: the row that is 100 %.
    """

    name: str
    label: str
    variant: str
    basis: str | None
    reference: str
    few: str = ""
    prompt: str | None = None
    select: str = "plain"
    refined: bool = False
    rounds: int = 0
    keep: str = ""


_AUGMENTED = f"{recipes.FEW_MASKS_ZOOM} {recipes.AUGMENTED}"

METHODS = (
    Method("naive", "naive: plain SeqTR fine-tuned", "naive", None, "naive-all"),
    Method("task-token", "+ learnable [TASK] token", "task-token", "naive", "paper-all"),
    Method("cctf", "+ CCTF", "cctf", "task-token", "paper-all"),
    Method("pmca", "+ PMCA", "pmca", "cctf", "paper-all"),
    Method("rpp", "+ RPP: the paper's method", "pmca", "pmca", "paper-all", prompt="free", rounds=1),
    Method(
        "box-contour", "box, then contour (PMCA row; no pseudo labels)", "box-contour", "pmca", "full-all",
        few=recipes.FEW_MASKS,
    ),
    Method(
        "point-content", "+ finer content of finished points", "point-content", "box-contour", "full-all",
        few=recipes.FEW_MASKS,
    ),
    Method(
        "box-prompt", "+ pseudo labels drawn in the true box", "point-content", "point-content", "full-all",
        few=recipes.FEW_MASKS, prompt="box", rounds=1, keep="all",
    ),
    Method(
        "second-look", "point content + second look (no pseudo labels)", "zoom", "point-content", "full-all",
        few=recipes.FEW_MASKS_ZOOM,
    ),
    Method(
        "augmentation", "+ few masks turned and pasted", "zoom", "second-look", "full-all", few=_AUGMENTED,
    ),
    Method(
        "more-steps", "+ as many steps as a round, with the masks alone", "zoom", "augmentation", "full-all",
        few=_AUGMENTED, rounds=1, keep="all",
    ),
    Method(
        "most-steps", "+ as many steps as all rounds, with the masks alone: the full method", "zoom", "more-steps", "full-all",
        few=_AUGMENTED, rounds=recipes.ROUNDS, keep="all",
    ),
    Method(
        "outlines", "turned and pasted + pseudo labels drawn in the true box", "zoom", "augmentation", "full-all",
        few=_AUGMENTED, prompt="box-all", rounds=1, keep="all",
    ),
    Method(
        "fit", "the same, fitted to their box", "zoom", "outlines", "full-all",
        few=_AUGMENTED, prompt="box-all", select="fit", rounds=1, keep="all",
    ),
    Method(
        "curved", "the same, curves between their points", "zoom", "outlines", "full-all",
        few=_AUGMENTED, prompt="box-all", select="curve", rounds=1, keep="all",
    ),
    Method(
        "refined", "the same curves, redrawn along edges of colour", "zoom", "curved", "full-all",
        few=_AUGMENTED, prompt="box-all", select="curve", refined=True, rounds=1, keep="all",
    ),
    Method(
        "rounds", "+ rounds", "zoom", "curved", "full-all",
        few=_AUGMENTED, prompt="box-all", select=recipes.FULL_METHOD_SELECT, rounds=recipes.ROUNDS, keep="all",
    ),
    Method(
        "refined-rounds", "+ rounds, all redrawn along edges of colour", "zoom", "refined", "full-all",
        few=_AUGMENTED, prompt="box-all", select=recipes.FULL_METHOD_SELECT, refined=True, rounds=recipes.ROUNDS, keep="all",
    ),
)  # fmt: skip
# Run only when named
MORE_METHODS = (
    Method(
        "weighting", "curves, weighted by agreement", "zoom", "curved", "full-all",
        few=_AUGMENTED, prompt="box-all", select="weighted", rounds=1, keep="all",
    ),
    Method(
        "keep-encoder", "curves, the round from the encoder before", "zoom", "curved", "full-all",
        few=_AUGMENTED, prompt="box-all", select="curve", rounds=1, keep="encoder",
    ),
    Method(
        "anew", "curves, the round from the box model", "zoom", "curved", "full-all",
        few=_AUGMENTED, prompt="box-all", select="curve", rounds=1,
    ),
)  # fmt: skip
# Two rounds of pseudo labels, redrawn or not, earn no more than as many steps with the masks alone
# (docs/EXPERIMENTS.md), so this method has none
OF_CURVE = {"naive": "naive", "paper": "rpp", "full": "most-steps"}
SECOND_NAMES = {"paper": ["rpp"], "full": ["most-steps"]}
CURVE_LABELS = {"naive": "naive", "paper": "the paper's method", "full": "the full method"}
ALL_MASKS = {
    "naive-all": Method("naive-all", "naive, all masks", "naive", None, "naive-all"),
    "paper-all": Method("paper-all", "the paper's method, all masks", "pmca", None, "paper-all"),
    "full-all": Method(
        "full-all", "the full method, all masks, as many steps", "zoom", None, "full-all",
        few=_AUGMENTED, rounds=recipes.ROUNDS, keep="all",
    ),
}  # fmt: skip

# Rows whose model is also asked for contours in the true box, and for what it marks
_LOOKED_AT = ("most-steps", "rounds", "refined-rounds", "full-all")
_BESIDE = tuple(recipes.BESIDE)
SCORES = (
    "miou", "oiou", "pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9", "acc@0.5", "filled_box", "ellipse",
    "above_trivial", "gain", "percent_of_full", *recipes.BESIDE,
)  # fmt: skip
OF_LABELS = (
    "pseudo_referents", "pseudo_kept_share", "pseudo_all", "pseudo_ellipse", "pseudo_filled_box", "pseudo_all_kept",
    "pseudo_kept_outlines", "pseudo_kept_ellipse", "pseudo_kept_filled_box",
)  # fmt: skip


def train(bench: Bench, method: Method, ratio: float) -> Trained:
    """The nodes of a method at a share of the masks. Files are named by what made them, so methods share them."""
    variant = recipes.VARIANTS[method.variant]
    base = method.variant + ("-augmented" if recipes.AUGMENTED in method.few else "")
    role = "first" if method.few else "masks"
    model = bench.res(f"first-{base}", ratio, role, f"{variant} {method.few}")
    in_window = recipes.FEW_MASKS_ZOOM in method.few
    flags = f"{variant} {method.few if in_window else recipes.ALL_OUTLINED if method.few else ''}"
    if method.keep:
        flags += " " + recipes.ONWARD.format(keep=method.keep)
    maker, labels = base, []
    for number in range(1, 1 + method.rounds):
        if method.prompt:
            prompt = method.prompt if number == 1 else recipes.LATER_PROMPT
            labels.append(bench.labels(maker, ratio, model, prompt, method.select, method.refined))
        kind = f"-{method.prompt}-{method.select}" if method.prompt else ""
        kind += "-refined" if method.refined else ""
        maker = f"round{number}-{base}{kind}" + (f"-{method.keep}" if method.keep else "")
        model = bench.res(
            maker,
            ratio,
            "onward" if method.keep == "all" else "second",
            flags,
            points=labels[-1][1] if labels else None,
            init=model if method.keep else None,
        )
    return Trained(model, tuple(labels))


def plan(settings: Settings, out: Path, asked: Sequence[str]) -> Plan:
    """The experiment; without `asked`, all rows but MORE_METHODS."""
    make = RowMaker(Graph(), settings, out)
    make_rec_row(make, "rec", "the REC model that all start from")
    few, shares = recipes.FEW[settings.scale], recipes.CURVE[settings.scale]
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
        "curve": curve,
        "all-masks": list(ALL_MASKS),
        **SECOND_NAMES,
    }
    names = chosen_rows(asked or [*ablation, *ALL_MASKS, *extra], groups, known)
    for name in names:
        if name in methods:
            method = methods[name]
            make.add(
                name, method.label, few, partial(train, method=method, ratio=few),
                beside=_BESIDE if name in _LOOKED_AT else (), basis=method.basis, reference=method.reference,
            )  # fmt: skip
        elif name in ALL_MASKS:
            method = ALL_MASKS[name]
            make.add(
                name, method.label, ALL, partial(train, method=method, ratio=ALL),
                beside=_BESIDE if name in _LOOKED_AT else (), reference=name,
            )  # fmt: skip
        else:
            kind, share = name.split("@")
            method, ratio = methods[OF_CURVE[kind]], float(share) / 100
            make.add(
                name, CURVE_LABELS[kind], ratio, partial(train, method=method, ratio=ratio),
                reference=method.reference,
            )  # fmt: skip
    return Plan(make.graph, _report(make, settings, curve_names, extra))


def _curve_row(kind: str, share: float, few: float) -> str:
    return OF_CURVE[kind] if share == few else f"{kind}@{100 * share:g}"


def _report(
    make: RowMaker, settings: Settings, curve_names: dict[str, list[str]], extra: list[str]
) -> Experiment:
    few = f"{100 * recipes.FEW[settings.scale]:g} %"
    steps = tuple(n for n in make.rows if n not in ALL_MASKS and n not in extra and n != "rec")
    drawn = tuple(n for n in make.rows if make.rows[n].runs[0].labels)
    tables = (
        Table(
            f"The parts at {few} of the masks",
            (*steps, *(n for n in ALL_MASKS if n in make.rows)),
            SCORES,
            "gain: mIoU minus that of the row it builds on, seed by seed; % of full supervision: of the method's own "
            "row with all masks. What does not lie above the better of its box filled and the ellipse in it has "
            "learned no contour.",
        ),
        Table(
            "Pseudo labels against the hidden masks",
            drawn,
            OF_LABELS,
            "The last round's labels, of as many box-only objects as were labelled. Measured after training with masks that no stage could "
            "read; the rows in the true box need no model.",
        ),
        Table(
            "Other shares of the masks",
            tuple(n for n in extra if n in make.rows),
            ("miou", "oiou", "pr@0.5", "pr@0.7", "pr@0.9", "acc@0.5", "above_trivial", "percent_of_full"),
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
    )
