"""Keep the pseudo contours that agree with their box, and resample them evenly along their length.

The reason for keeping or dropping is stored for every referent; the summary counts them and shows the
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
        InputPath("pseudo", "Pseudo contours (pseudo-label, refine-masks)."),
        InputPath(
            "decisions",
            "A person's decisions about them (decisions.json of seqres report): they count more than the score.",
            required=False,
            metavar="FILE.json",
        ),
    ),
    examples=(
        "seqres resample-points --dataset data.h5 --pseudo pseudo.h5 --out points.h5",
        "seqres resample-points --dataset data.h5 --pseudo pseudo.h5 --decisions decisions.json --out points.h5",
    ),
)
