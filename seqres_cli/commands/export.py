"""Take masks with their expressions to other programs: COCO, Label Studio, LabelMe, YOLO, PNG or a table.

Of a dataset, its true masks (with --split only those that may be seen; of the others the box), or with --labels what
pseudo-label, refine-masks, resample-points or evaluate made of it; or what predict wrote. coco, coco-results, labelstudio
and csv are files, labelme, yolo and png folders. In tables, text that a spreadsheet would take for a formula (it begins
with =, +, - or @) has an apostrophe before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqres_cli.options import InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="export",
    help=__doc__,
    inputs=(
        InputPath("dataset", "Dataset artifact (prepare-data).", required=False),
        InputPath("labels", "Pseudo, refined or resampled labels, or an evaluation, of it.", required=False),
        InputPath("split", "Split artifact: hides the true masks that it hides.", required=False),
        InputPath("predictions", "Document of predict, instead.", required=False, metavar="FILE.json"),
    ),
    examples=(
        "seqres export --dataset data.h5 --to coco --out masks.json",
        "seqres export --dataset data.h5 --labels refined.h5 --to labelstudio --out review.json",
        "seqres export --predictions masks.json --to labelme --copy-images --out labelme",
        "seqres export --dataset data.h5 --labels eval.h5 --to coco-results --out results.json",
    ),
    panel="Artifacts",
    out=Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PATH", help="File or folder to write (required)."),
    ],
)
