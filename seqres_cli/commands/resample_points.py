"""Keep the pseudo labels that agree with their box, and resample their contours evenly.

The reason for keeping or dropping is stored for every referent. The summary counts the reasons and shows the
distribution of the scores.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="resample-points",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath("pseudo", "pseudo labels (pseudo-label or refine-masks)"),
        InputPath(
            "decisions",
            "decisions of a person (decisions.json of seqres report), which count more than the score",
            required=False,
            metavar="FILE.json",
        ),
    ),
    examples=(
        "seqres resample-points --dataset data.h5 --pseudo pseudo.h5 --out points.h5",
        "seqres resample-points --dataset data.h5 --pseudo pseudo.h5 --decisions decisions.json --out points.h5",
    ),
)
