"""Redraw pseudo labels along edges; keep what agrees with the box and the old outline (optional step).

Goes between pseudo-label and resample-points, which takes either file. No mask of the dataset is read. Colours decide
where the object ends (GrabCut between the outline's middle and the known box), or a SAM checkpoint that is asked with
the box and points inside the outline: a local folder with config.json and model.safetensors (pickles are refused), or
a hub id where the hub can be reached.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="refine-masks",
    help=__doc__,
    inputs=(DATASET, InputPath("pseudo", "Pseudo labels to refine (pseudo-label).")),
    examples=(
        "seqres refine-masks --dataset data.h5 --pseudo pseudo.h5 --out refined.h5",
        "seqres refine-masks --dataset data.h5 --pseudo pseudo.h5 --sam sam-vit-base --out refined.h5",
        "seqres refine-masks --dataset data.h5 --pseudo pseudo.h5 --sam sam-vit-base --min-box-iou 0.9 --device cuda --out refined.h5",
        "seqres resample-points --dataset data.h5 --pseudo refined.h5 --out points.h5",
    ),
)
