"""Score a model on every sentence of the chosen splits, at the pictures' original resolution.

Comprehension: Acc@0.5 and mean box IoU. Segmentation: mIoU, oIoU and Pr@0.5 to 0.9, beside the two
trivial rows (predicted box filled, ellipse inscribed in it). Results of every sample are stored.
With --compare, the files given are printed as one table and nothing is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqres_cli.options import DATASET, ExtraOption, InputPath
from seqres_cli.output import Answer, table_lines
from seqres_cli.stage_command import StageCommand
from stages.errors import UsageError


def _compare(extras: Mapping[str, Any]) -> Answer | None:
    """`--compare A.h5 B.h5 …`: the rows of all summaries below each other."""
    files: list[Path] = extras.get("files", [])
    if not extras.get("compare"):
        if files:
            raise UsageError(
                f"unexpected argument {str(files[0])!r}", hint=f"seqres evaluate --compare {files[0]}"
            )
        return None
    if not files:
        raise UsageError("--compare needs evaluation files", hint="seqres evaluate --compare a.h5 b.h5")
    from stages.artifacts import open_artifact

    rows: list[dict[str, Any]] = []
    for path in files:
        with open_artifact(path, "evaluation") as artifact:
            rows += comparison_rows(path, artifact.json("summary"))
    return Answer({"rows": rows}, table_lines(rows, indent=""))


def comparison_rows(path: Path, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for every table row in a summary, led by the file's name."""
    rows = []
    for key, value in summary.items():
        if isinstance(value, Mapping):
            value = [
                {key.rstrip("s"): name, **row} for name, row in value.items() if isinstance(row, Mapping)
            ]
        if isinstance(value, list):
            rows += [{"file": path.name, **row} for row in value if isinstance(row, Mapping)]
    return rows


COMMAND = StageCommand(
    name="evaluate",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath("model", "Model to score (train-rec or train-res)."),
        InputPath(
            "split",
            "Split artifact, to tell training referents with and without a mask apart.",
            required=False,
        ),
    ),
    extras=(
        ExtraOption("compare", bool, "Print the scores of the FILES below each other."),
        ExtraOption("files", list[Path], "Evaluation artifacts for --compare.", positional=True),
    ),
    instead=_compare,
    examples=(
        "seqres evaluate --dataset data.h5 --model res.h5 --out eval.h5",
        "seqres evaluate --compare naive.h5 full.h5 all-masks.h5",
    ),
)
