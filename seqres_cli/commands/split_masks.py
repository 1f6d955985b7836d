"""Choose which training referents may show their mask; the others are known by their box alone.

Smaller shares are contained in larger ones of the same seed (1 % in 5 % in 10 %). Later stages cannot
read a mask that the split hides. With a comprehension model (train-rec needs boxes only), the choice can prefer
referents that differ (--strategy diverse) or whose boxes are least certain (--strategy uncertain); no mask is read
for this. Where no masks exist yet, --candidates all --export-list FILE lists the referents to annotate.
"""

from __future__ import annotations

from seqres_cli.options import DATASET, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="split-masks",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath(
            "rec",
            "comprehension model for --strategy diverse and uncertain (train-rec)",
            required=False,
        ),
        InputPath(
            "export_list",
            "also list the chosen referents (ids, picture, box, expressions), e.g. for annotation",
            required=False,
            metavar="FILE.csv",
        ),
        InputPath(
            "decisions",
            "decisions of a person about pseudo masks (decisions.json of seqres report); see --accepted-masks",
            required=False,
            metavar="FILE.json",
        ),
        InputPath("pseudo", "pseudo masks that --decisions is about", required=False),
    ),
    examples=(
        "seqres split-masks --dataset data.h5 --ratio 0.05 --out split.h5",
        "seqres split-masks --dataset data.h5 --ratio 0.05 --seed 3 --out split-3.h5 --dry-run",
        "seqres split-masks --dataset refcoco.h5 --import-list instances_sample_5.json --out split.h5",
        "seqres split-masks --dataset data.h5 --rec rec.h5 --strategy diverse --ratio 0.01 --out split.h5",
        "seqres split-masks --dataset photos.h5 --rec rec.h5 --strategy uncertain --candidates all --count 200 "
        "--export-list todo.csv --out plan.h5",
        "seqres split-masks --dataset photos-with-masks.h5 --import-list todo.csv --out split.h5",
        "seqres split-masks --dataset data.h5 --ratio 0.05 --decisions decisions.json --pseudo pseudo.h5 "
        "--accepted-masks --out split-2.h5",
    ),
)
