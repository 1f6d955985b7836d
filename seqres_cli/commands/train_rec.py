"""Train the comprehension model (sentence to box) on the boxes of all training referents.

No mask is read. Validates after every epoch, keeps the best and the last weights, and goes on exactly
where it was killed with --resume.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, RESUME
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="train-rec",
    help=__doc__,
    inputs=(DATASET,),
    extras=(RESUME,),
    examples=(
        "seqres train-rec --dataset data.h5 --out rec.h5",
        "seqres train-rec --dataset data.h5 --out rec.h5 --epochs 20 --device cuda",
        "seqres train-rec --dataset data.h5 --out rec.h5 --resume",
    ),
)
