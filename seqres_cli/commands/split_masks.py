"""Choose which training referents may show their mask; all others are known by their box only.

Smaller shares are contained in larger ones of the same seed (1 % in 5 % in 10 %). Later stages cannot
read a mask that the split hides.
"""

from __future__ import annotations

from seqres_cli.options import DATASET
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="split-masks",
    help=__doc__,
    inputs=(DATASET,),
    examples=(
        "seqres split-masks --dataset data.h5 --ratio 0.05 --out split.h5",
        "seqres split-masks --dataset data.h5 --ratio 0.05 --seed 3 --out split-3.h5 --dry-run",
        "seqres split-masks --dataset refcoco.h5 --import-list instances_sample_5.json --out split.h5",
    ),
)
