"""Train the segmentation model (expression to contour) from the comprehension model's weights.

Learns contours from the masks that the split shows, and from resampled pseudo labels with --points. Training starts
from the --rec weights, or from those of an earlier round with --init. --rec then only finds the windows of --zoom.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, RESUME, SPLIT, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="train-res",
    help=__doc__,
    inputs=(
        DATASET,
        SPLIT,
        InputPath("rec", "comprehension model to start from (train-rec)"),
        InputPath("points", "resampled pseudo labels to learn from, too (resample-points)", required=False),
        InputPath("init", "model of an earlier round to start from (train-res)", required=False),
    ),
    extras=(RESUME,),
    examples=(
        "seqres train-res --dataset data.h5 --split split.h5 --rec rec.h5 --out res.h5",
        "seqres train-res --dataset data.h5 --split split.h5 --rec rec.h5 --points points.h5 --out res2.h5",
        "seqres train-res --dataset data.h5 --split split.h5 --rec rec.h5 --points points2.h5 --init res2.h5 --out res3.h5",
    ),
)
