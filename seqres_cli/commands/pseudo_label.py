"""Predict a contour for every training referent without a visible mask.

Each contour has its token probabilities and its projection score against the known box. Masks of training
referents are never read. The summary compares with a filled box and an inscribed ellipse. Without a model,
--start ellipse writes the ellipse in each known box, from which refine-masks can start. With --shard i/n, one part of
the work is done, and seqres merge joins the n parts.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, SPLIT, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="pseudo-label",
    help=__doc__,
    inputs=(
        DATASET,
        SPLIT,
        InputPath("model", "segmentation model (train-res)", required=False),
    ),
    examples=(
        "seqres pseudo-label --dataset data.h5 --split split.h5 --model res.h5 --out pseudo.h5",
        "seqres pseudo-label --dataset data.h5 --split split.h5 --model res.h5 --shard 1/2 --out pseudo-1.h5",
        "seqres pseudo-label --dataset data.h5 --split split.h5 --start ellipse --out starts.h5",
    ),
)
