"""Train the comprehension model (sentence to box) on the boxes of all training referents.

No mask is read. Validates after every epoch, keeps the last weights and their average, and goes on exactly
where it was killed with --resume. SiRi: --retrain-rounds starts over from the encoder alone; --init does one such
round after a model that is there.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, RESUME, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="train-rec",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath(
            "init", "Model to take the encoder (or --retrain-keep all) from (train-rec).", required=False
        ),
    ),
    extras=(RESUME,),
    examples=(
        "seqres train-rec --dataset data.h5 --out rec.h5",
        "seqres train-rec --dataset data.h5 --out rec.h5 --epochs 20 --device cuda",
        "seqres train-rec --dataset data.h5 --out rec.h5 --resume",
        "seqres train-rec --dataset data.h5 --model refshapes-small-mdetr --init mdetr.h5 --out siri.h5",
    ),
)
