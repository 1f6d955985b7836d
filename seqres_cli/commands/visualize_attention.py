"""Draw what the model looked at while it placed single contour points, and compare contours.

Writes the attention artifact, and beside it a folder of PNG pictures with one HTML page: the picture,
the sentence, the contour with the chosen points in red and the cross-attention map of each.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="visualize-attention",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath("model", "Segmentation model (train-res)."),
        InputPath("compare_model", "A second model, shown as a second row.", required=False),
        InputPath("pseudo", "Pseudo contours to show (pseudo-label).", required=False),
        InputPath("points", "Resampled pseudo points to show (resample-points).", required=False),
        InputPath("split", "Split artifact that the pseudo contours were made with.", required=False),
    ),
    examples=(
        "seqres visualize-attention --dataset data.h5 --model res.h5 --out attention.h5",
        "seqres visualize-attention --dataset data.h5 --model new.h5 --compare-model old.h5 --out att.h5",
    ),
)
