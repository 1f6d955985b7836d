"""Refine pseudo labels along edges, or make masks from boxes alone (optional step).

With --pseudo it goes between pseudo-label and resample-points, which takes either file. Without --pseudo, every referent
starts from the ellipse in its box; with --split, only those whose mask is not visible. No mask of the dataset is read.
GrabCut decides by colour where the referent ends. A promptable segmenter is asked with the box: a checkpoint for
transformers (SAM, SAM-HQ, SAM 2, EdgeTAM ...: a folder with config.json and model.safetensors, or a hub id), or a pair
of ONNX files (image encoder and prompt decoder). A refined mask is kept if it agrees with the box and the contour that
it replaces; what leaves the box is cut. A run that was interrupted continues where it stopped.
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
        InputPath("pseudo", "pseudo labels to refine (pseudo-label)", required=False),
        InputPath("split", "without --pseudo: whose masks are known already (split-masks)", required=False),
    ),
    extras=(
        ExtraOption(
            "overlays",
            Path,
            "also save all masks of each photograph as a PNG in this folder",
            metavar="FOLDER",
        ),
    ),
    examples=(
        "seqres refine-masks --dataset photos.h5 --segmenter mobile-sam --overlays overlays --out masks.h5",
        "seqres refine-masks --dataset data.h5 --pseudo pseudo.h5 --out refined.h5",
        "seqres refine-masks --dataset data.h5 --pseudo pseudo.h5 --segmenter sam-vit-base --device cuda --out refined.h5",
        "seqres refine-masks --dataset data.h5 --split split.h5 --segmenter encoder.onnx,decoder.onnx --out refined.h5",
        "seqres resample-points --dataset data.h5 --pseudo refined.h5 --out points.h5",
    ),
)
