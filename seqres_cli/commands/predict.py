"""Predict masks for expressions about your own photographs; needs only the model file and the pictures.

Writes one JSON document. Each expression has an entry with the box, the contour in pixels of the picture as stored
(EXIF orientation is ignored), the mask as compressed COCO RLE (pycocotools reads it) and a confidence. A table has
the columns image and expression (or phrase), and x1, y1, x2, y2 where a box is known. File names are relative to
the table's folder, or to --images.

With --shard i/n, one part of the work is done, and seqres merge joins the n parts.

--image is a picture, a folder or a pattern, as often as you like; every expression is asked about each picture. With
--table - the lines are JSON on standard input, with --out - the answers are JSON lines on standard output.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqres_cli.options import ExtraOption, InputPath, out_option
from seqres_cli.stage_command import StageCommand
from stages.errors import UsageError


def _streams(paths: Mapping[str, Path], as_json: bool) -> dict[str, Any]:
    """Standard input and output as JSON lines."""
    found: dict[str, Any] = {}
    if str(paths.get("table")) == "-":
        found["lines"] = sys.stdin
    if str(paths["out"]) == "-":
        if as_json:
            raise UsageError("--out - already prints the answers as JSON lines", hint="leave out --json")
        found["emit"] = lambda line: print(line, flush=True)
    return found


COMMAND = StageCommand(
    name="predict",
    help=__doc__,
    inputs=(
        InputPath("model", "model artifact (train-res, train-rec or import-weights)"),
        InputPath(
            "table",
            "instead: table of pictures and expressions (CSV, TSV, JSONL; - = stdin)",
            required=False,
            metavar="FILE.csv",
        ),
        InputPath("images", "folder of the table's pictures", required=False, metavar="FOLDER"),
        InputPath(
            "overlays", "also save a PNG of every prediction in this folder", required=False, metavar="FOLDER"
        ),
        InputPath(
            "overlay", "picture with the predictions about one picture", required=False, metavar="OUT.png"
        ),
        InputPath("mask", "mask of one picture, 0 and 255", required=False, metavar="OUT.png"),
    ),
    extras=(
        ExtraOption("image", list[str], "picture, folder or pattern [repeat for several]", metavar="PATH"),
        ExtraOption("pictures", list[str], "more pictures", positional=True),
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
        'seqres predict --model res.h5 --image photo.jpg --expression "the red cup" --out masks.json --overlay overlay.png --mask mask.png',
        'seqres predict --model res.h5 --image photos --expression "the red cup" --segmenter grabcut --out masks.json',
        "seqres predict --model res.h5 --table list.csv --out masks.json --overlays pictures",
        "seqres predict --model res.h5 --table - --out - < requests.jsonl > answers.jsonl",
    ),
    streams=_streams,
    panel="Your own photographs",
    out=out_option("OUT.json", "document to write, - for JSON lines on stdout [required]"),
)
