"""Read referring-expression data (public formats, your own table, RefShapes) into one dataset artifact.

Counts images, referents, expressions and masks of every split, and lists missing images by name. The pictures
stay where they are unless --embed-images copies them into the artifact. --source says what is read: a REFER folder
(refer), instances.json of the SeqTR release (seqtr), finetune_*.json of MDETR (mdetr), grefs(<by>).json (grefcoco),
your own table (table), or generated pictures (refshapes).
"""

from __future__ import annotations

from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="prepare-data",
    help=__doc__,
    examples=(
        "seqres prepare-data --source refshapes --out data.h5",
        "seqres prepare-data --source refer --root refcoco_data --name refcoco --by unc --out refcoco.h5",
        "seqres prepare-data --source table --root photos/photos.csv --out photos.h5",
        "seqres prepare-data --source seqtr --root data/annotations/refcoco-unc --out refcoco.h5",
        "seqres prepare-data --source mdetr --root mdetr_annotations --name refcoco+ --images train2014 --out refcoco+.h5",
        "seqres prepare-data --source grefcoco --root grefcoco --images train2014 --out grefcoco.h5",
        "seqres prepare-data --source coco --root instances.json --images photos --out coco.h5",
        "seqres prepare-data --source labelstudio --root export.json --images photos --errors-to errors.txt --out studio.h5",
        "seqres prepare-data --source labelme --root labelme --out labelme.h5",
        "seqres prepare-data --source masks --root scans --out scans.h5",
        "seqres prepare-data --config run.toml --out data.h5 --json",
    ),
)
