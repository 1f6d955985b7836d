"""Score a model on every expression of the chosen splits, at the original resolution of the pictures.

Comprehension: Acc@0.5 and mean box IoU. Segmentation: mIoU, oIoU and Pr@0.5 to 0.9, beside two
trivial baselines: the predicted box filled, and the ellipse inscribed in it. The scores of every sample are stored.
With --compare, the given files are printed as one table: nothing is predicted. Beside each model stands its difference
from the first in mIoU, with the standard error over the expressions; models among the files add how many masks they saw
and how long they were trained on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqres_cli.options import DATASET, ExtraOption, InputPath
from seqres_cli.output import Answer, table_lines
from seqres_cli.stage_command import StageCommand
from stages.errors import UsageError

if TYPE_CHECKING:
    from stages.artifacts.job import StageResult


def _compare(extras: Mapping[str, Any]) -> Answer | None:
    """`--compare A.h5 B.h5 …` instead of a run."""
    files: Sequence[Path] = extras.get("files", [])
    if not extras.get("compare"):
        if files:
            hint = f"seqres evaluate --compare {files[0]}"
            raise UsageError(f"unexpected argument {str(files[0])!r}", hint=hint)
        return None
    if not files:
        raise UsageError("--compare needs evaluation files", hint="seqres evaluate --compare a.h5 b.h5")
    from stages.evaluate import compare

    rows = compare(files)
    return Answer({"rows": rows}, score_lines(rows))


def _render(result: StageResult) -> list[str]:
    from stages.evaluate import compare

    return score_lines(compare([result.path]))


def score_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table a split; columns that were measured nowhere are left out."""
    lines: list[str] = []
    measured = [key for key in rows[0] if any(row.get(key) is not None for row in rows)] if rows else []
    for split in dict.fromkeys(row["split"] for row in rows):
        part = [row for row in rows if row["split"] == split]
        lines += ["", f"{split}, masks compared in {part[0]['frame']} pixels"]
        columns = [key for key in measured if key not in ("split", "frame")]
        lines += table_lines([{key: row.get(key) for key in columns} for row in part])
    return lines[1:]


COMMAND = StageCommand(
    name="evaluate",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath("model", "model to score (train-rec or train-res)"),
        InputPath("split", "split artifact, needed to score masks of training referents", required=False),
    ),
    extras=(
        ExtraOption("compare", bool, "print the scores of the FILEs as one table"),
        ExtraOption(
            "files",
            list[Path],
            "evaluation artifacts for --compare, and the models (and points between them) that they scored",
            positional=True,
        ),
    ),
    instead=_compare,
    render=_render,
    examples=(
        "seqres evaluate --dataset data.h5 --model res.h5 --out eval.h5",
        "seqres evaluate --compare naive.h5 full.h5 all-masks.h5",
        "seqres evaluate --dataset data.h5 --model rec.h5 --contour ellipse --out boxes-only.h5",
    ),
)
