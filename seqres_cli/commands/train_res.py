"""Train the segmentation model (sentence to contour) from the comprehension model's weights.

Learns contours from the masks that the split shows, and from resampled pseudo points when --points is
given. Every round starts from the same --rec weights, unless --init names the model of the round before:
then its weights are taken (--init-keep encoder: without its decoder), and --rec only finds the windows of --zoom.
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
        InputPath("rec", "Comprehension model to start from (train-rec)."),
        InputPath(
            "points", "Resampled pseudo points to learn from as well (resample-points).", required=False
        ),
        InputPath("init", "Model of the round before to start from (train-res).", required=False),
    ),
    extras=(RESUME,),
    examples=(
        "seqres train-res --dataset data.h5 --split split.h5 --rec rec.h5 --out res.h5",
        "seqres train-res --dataset data.h5 --split split.h5 --rec rec.h5 --points points.h5 --out res2.h5",
        "seqres train-res --dataset data.h5 --split split.h5 --rec rec.h5 --points points2.h5 --init res2.h5 --out res3.h5",
    ),
)
