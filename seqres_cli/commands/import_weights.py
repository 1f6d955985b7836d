"""Turn weights trained elsewhere into a model artifact: released checkpoints, darknet trunks, exported folders.

Reads .pth files of SeqTR and Partial-RES (raw and averaged weights), .weights files of darknet, and folders
written by export-weights. Nothing in the file is executed: objects other than tensors are refused by name.
Tensors that are missing, unknown or of another shape are listed.
"""

from __future__ import annotations

from seqres_cli.options import InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="import-weights",
    help=__doc__,
    inputs=(InputPath("source", "file or folder to read", metavar="PATH"),),
    examples=(
        "seqres import-weights --source det_best.pth --vocabulary token_to_ix.pkl --out rec.h5",
        "seqres import-weights --source segm_best.pth --vocabulary token_to_ix.pkl --max-words 20 --out res.h5",
        "seqres import-weights --source yolov3.weights --vocabulary token_to_ix.pkl --word-vectors word_emb.npz --out trunk.h5",
        "seqres import-weights --source exported/ --out res.h5",
    ),
    panel="Files and models",
)
