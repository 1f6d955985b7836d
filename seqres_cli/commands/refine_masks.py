"""Make masks with edges out of boxes or pseudo labels; keep what agrees with the box and the predicted contour.

With --pseudo it goes between pseudo-label and resample-points, which takes either file. Without, every referent whose
mask --split does not show (without --split: every referent) starts from the ellipse in its box. No mask of the dataset is
read. Colours decide where the object ends (GrabCut), or a promptable segmenter that is asked with the box: a checkpoint
for transformers (SAM, SAM-HQ, SAM 2, EdgeTAM ...: a local folder with config.json and model.safetensors, or a hub id), or
a pair of ONNX files (image encoder and prompt decoder). What leaves the box is cut. A killed run goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from seqres_cli.options import DATASET, ExtraOption, InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="refine-masks",
    help=__doc__,
    inputs=(
        DATASET,
        InputPath("pseudo", "Pseudo labels to refine (pseudo-label).", required=False),
        InputPath("split", "Without --pseudo: whose masks are known already (split-masks).", required=False),
    ),
    extras=(
        ExtraOption(
            "overlays", Path, "Draw all masks of each photograph into this folder.", metavar="FOLDER"
        ),
    ),
    examples=(
        "seqres refine-masks --dataset photos.h5 --segmenter mobile-sam --overlays drawn --out masks.h5",
        "seqres refine-masks --dataset data.h5 --pseudo pseudo.h5 --out refined.h5",
        "seqres refine-masks --dataset data.h5 --pseudo pseudo.h5 --segmenter sam-vit-base --device cuda --out refined.h5",
        "seqres refine-masks --dataset data.h5 --split split.h5 --segmenter encoder.onnx,decoder.onnx --out refined.h5",
        "seqres resample-points --dataset data.h5 --pseudo refined.h5 --out points.h5",
    ),
)
