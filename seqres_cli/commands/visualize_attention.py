"""Show where the model attends while it predicts single contour points, and compare contours.

Writes the attention artifact and a folder of PNG pictures with one HTML page: the picture, the expression, the
contour with the chosen points in red, and the cross-attention map of each point.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="visualize-attention",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath("model", "segmentation model (train-res)"),
        InputPath("compare_model", "second model, shown as a second row", required=False),
        InputPath("pseudo", "pseudo labels to show (pseudo-label)", required=False),
        InputPath("points", "resampled pseudo labels to show (resample-points)", required=False),
        InputPath("split", "split artifact that the pseudo labels were made with", required=False),
    ),
    examples=(
        "seqres visualize-attention --dataset data.h5 --model res.h5 --out attention.h5",
        "seqres visualize-attention --dataset data.h5 --model new.h5 --compare-model old.h5 --out att.h5",
    ),
)
