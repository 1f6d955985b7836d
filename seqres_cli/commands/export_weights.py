"""Write a model's weights as safetensors and its configuration as JSON, for other programs.

The folder holds config.json, vocabulary.json, model.safetensors (the weights that prediction uses) and, where
the model has them, further groups of weights. import-weights reads it back without loss.
"""

from __future__ import annotations

from seqres_cli.options import InputPath
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="export-weights",
    help=__doc__,
    inputs=(InputPath("model", "model artifact (train-rec, train-res or import-weights)"),),
    examples=(
        "seqres export-weights --model res.h5 --out exported",
        "seqres import-weights --source exported --out res-again.h5",
    ),
    panel="Files and models",
)
