"""Draw what phrases refer to in photographs of your own; needs the model file and the pictures, nothing else.

Writes one JSON document: a row a phrase with the box, the contour in pixels of the picture as stored (EXIF
orientation ignored), the mask as compressed COCO RLE (pycocotools reads it) and a confidence. A table has the
columns image and phrase, and x1, y1, x2, y2 where a box is known; names are relative to its folder or --images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqres_cli.options import ExtraOption, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="predict",
    help=__doc__,
    inputs=(
        InputPath("model", "Model artifact (train-res, train-rec or import-weights)."),
        InputPath("image", "Picture to ask about.", required=False, metavar="FILE"),
        InputPath(
            "table", "Many: CSV, TSV or JSONL; instead of --image.", required=False, metavar="FILE.csv"
        ),
        InputPath("images", "Folder of the table's pictures.", required=False, metavar="FOLDER"),
        InputPath("overlays", "Also draw every answer as a PNG in here.", required=False, metavar="FOLDER"),
    ),
    extras=(
        ExtraOption("phrase", list[str], "What to find in the --image [repeat for several].", metavar="TEXT"),
        ExtraOption(
            "box",
            list[str],
            "Known box in pixels, one a phrase; a box-then-contour model draws what is in it.",
            metavar="X1,Y1,X2,Y2",
        ),
    ),
    examples=(
        'seqres predict --model res.h5 --image photo.jpg --phrase "the red cup" --out masks.json',
        'seqres predict --model res.h5 --image photo.jpg --phrase "the red cup" --box 120,80,210,190 --out masks.json',
        "seqres predict --model res.h5 --table list.csv --out masks.json --overlays pictures",
    ),
    out=Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.json", help="Document to write (required)."),
    ],
)
