"""Draw a contour for every training referent without a visible mask, with the segmentation model.

Each contour carries its token probabilities and its projection score against the true box. Masks are
never read; the summary compares with what a filled box and an inscribed ellipse would score. Without a model,
--start ellipse writes the ellipse in each known box: a start for refine-masks.
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
        InputPath("model", "Segmentation model that draws the contours (train-res).", required=False),
    ),
    examples=(
        "seqres pseudo-label --dataset data.h5 --split split.h5 --model res.h5 --out pseudo.h5",
        "seqres pseudo-label --dataset data.h5 --split split.h5 --start ellipse --out starts.h5",
    ),
)
