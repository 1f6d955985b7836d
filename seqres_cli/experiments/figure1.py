"""The supplement's figure 1: IoU against the share of masks, SeqTR and MDETR (made stronger by SiRi)."""

from collections.abc import Sequence
from pathlib import Path

from seqres_cli.experiments.settings import (
    BUDGET,
    FIGURE1,
    SIRI_ROUNDS,
    Plan,
    RowMaker,
    Settings,
    Trained,
    chosen_rows,
)
from stages.experiment_report import Curve, Experiment, Table

# family -> label, recipe of its training on a share of the masks
FAMILIES = {
    "seqtr": ("SeqTR", "naive"),
    "mdetr-published": ("MDETR as published", "mdetr-published"),
    "mdetr": ("MDETR with sentence gate and auxiliary mask", "mdetr"),
    "siri": ("MDETR + SiRi", "siri"),
}
# rows of comprehension: label, file
RECS = {
    "rec": ("SeqTR", "rec"),
    "mdetr-published": ("MDETR as published, trained longer", "mdetr-published"),
    "mdetr": ("MDETR with sentence gate and auxiliary mask", "mdetr"),
    "siri": ("MDETR + SiRi", f"siri{SIRI_ROUNDS}"),
    "siri-control": ("MDETR, as many steps, nothing re-initialised", f"siri-control{SIRI_ROUNDS}"),
}


def plan(settings: Settings, out: Path, asked: Sequence[str]) -> Plan:
    """The experiment; groups are seqtr, mdetr-published, mdetr, siri and comprehension."""
    make = RowMaker(settings, out)
    shares = FIGURE1[settings.scale]
    curves = {family: [f"{family}@{100 * share:g}" for share in shares] for family in FAMILIES}
    known = [*RECS, *(name for names in curves.values() for name in names)]
    groups: dict[str, Sequence[str]] = {
        "comprehension": list(RECS),
        "seqtr": ["rec", *curves["seqtr"]],
        "mdetr-published": ["mdetr-published", *curves["mdetr-published"]],
        "mdetr": ["mdetr", *curves["mdetr"]],
        "siri": ["siri", "siri-control", *curves["siri"]],
    }
    for name in chosen_rows(asked or known, groups, known):
        if name in RECS:
            label, file = RECS[name]
            make.add(name, label, 0.0, Trained(file))
        else:
            family, percent = name.split("@")
            (label, recipe), ratio = FAMILIES[family], float(percent) / 100
            trained = Trained(f"first-{recipe}-{ratio:g}")
            make.add(name, label, ratio, trained, reference=f"{family}@100")
    return Plan(tuple(make.targets), _report(make, settings, curves))


def _report(make: RowMaker, settings: Settings, curves: dict[str, list[str]]) -> Experiment:
    columns = (
        "miou", "oiou", "pr@0.5", "pr@0.7", "pr@0.9", "acc@0.5", "filled_box", "ellipse", "above_trivial",
        "percent_of_full", *BUDGET,
    )  # fmt: skip
    tables = (
        Table(
            "Comprehension",
            tuple(n for n in make.rows if n in RECS),
            ("acc@0.5", "mean_box_iou"),
            "The comparison of masks is one at similar box accuracy. SiRi starts over "
            f"{SIRI_ROUNDS} more time(s) from the encoder alone; the control goes on with all weights.",
        ),
        *(
            Table(
                f"{FAMILIES[f][0]}, fine-tuned on a share of the masks",
                tuple(n for n in names if n in make.rows),
                columns,
            )
            for f, names in curves.items()
        ),
    )
    return Experiment(
        name="figure1",
        title="Figure 1 of the supplement: IoU against the share of masks",
        intro=f"Scale {settings.scale}; mean ± standard deviation over the seeds "
        f"{', '.join(map(str, settings.seeds))}; masks alone, no pseudo labels. The paper's claims: with all masks "
        "MDETR lies above SeqTR, with 1 % SeqTR far above MDETR. It prints no numbers for its figure; its headline is "
        "RefCOCO+ testA, 1 % of the masks: 52.06 mIoU with its own method against 58.93 with all masks (88.3 %).",
        rows=tuple(make.rows.values()),
        tables=tables,
        curves=tuple(Curve(FAMILIES[f][0], tuple(names), level=True) for f, names in curves.items()),
        learning=tuple(
            n
            for f in ("seqtr", "mdetr-published", "mdetr")
            for n in (curves[f][0], curves[f][-1])
            if n in make.rows
        ),
    )
