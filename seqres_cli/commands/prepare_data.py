"""Read referring-expression data (REFER layout or generated RefShapes) into one dataset artifact.

Counts images, referents, sentences and masks of every split, and lists images that are missing by
name. The pictures stay where they are unless --embed-images puts them into the artifact.
"""

from __future__ import annotations

from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="prepare-data",
    help=__doc__,
    examples=(
        "seqres prepare-data --source refshapes --out data.h5",
        "seqres prepare-data --source refer --root refcoco_data --name refcoco --by unc --out refcoco.h5",
        "seqres prepare-data --config run.toml --out data.h5 --json",
    ),
)
