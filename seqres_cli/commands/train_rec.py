"""Train the comprehension model (expression to box) on the boxes of all training referents.

No mask is read. Validates after every epoch and keeps the last weights and their average. --resume continues an
interrupted training exactly where it stopped. SiRi: --retrain-rounds starts over from the encoder alone; --init does
one such round from an existing model.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, RESUME, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="train-rec",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath("init", "existing model for one SiRi round (train-rec)", required=False),
    ),
    extras=(RESUME,),
    examples=(
        "seqres train-rec --dataset data.h5 --out rec.h5",
        "seqres train-rec --dataset data.h5 --out rec.h5 --epochs 20 --device cuda",
        "seqres train-rec --dataset data.h5 --out rec.h5 --resume",
        "seqres train-rec --dataset data.h5 --model refshapes-small-mdetr --init mdetr.h5 --out siri.h5",
    ),
)
