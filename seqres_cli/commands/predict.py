"""Predict masks for expressions about your own photographs; needs only the model file and the pictures.

Writes one JSON document. Each expression has an entry with the box, the contour in pixels of the picture as stored
(EXIF orientation is ignored), the mask as compressed COCO RLE (pycocotools reads it) and a confidence. A table has
the columns image and expression (or phrase), and x1, y1, x2, y2 where a box is known. File names are relative to
the table's folder, or to --images.
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
        InputPath("model", "model artifact (train-res, train-rec or import-weights)"),
        InputPath("image", "picture to ask about", required=False, metavar="FILE"),
        InputPath(
            "table",
            "table of pictures and expressions instead: CSV, TSV or JSONL",
            required=False,
            metavar="FILE.csv",
        ),
        InputPath("images", "folder of the table's pictures", required=False, metavar="FOLDER"),
        InputPath(
            "overlays", "also save a PNG of every prediction in this folder", required=False, metavar="FOLDER"
        ),
    ),
    extras=(
        ExtraOption(
            "phrase",
            list[str],
            "what to find in the --image [repeat for several]",
            metavar="TEXT",
            flag="expression",
        ),
        ExtraOption(
            "box",
            list[str],
            "known box in pixels, one per expression; a box-then-contour model segments what is in it",
            metavar="X1,Y1,X2,Y2",
        ),
    ),
    examples=(
        'seqres predict --model res.h5 --image photo.jpg --expression "the red cup" --out masks.json',
        'seqres predict --model res.h5 --image photo.jpg --expression "the red cup" --box 120,80,210,190 --out masks.json',
        "seqres predict --model res.h5 --table list.csv --out masks.json --overlays pictures",
    ),
    panel="Your own photographs",
    out=Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT.json",
            help="document to write [required]",
            rich_help_panel="Inputs and output",
        ),
    ],
)
