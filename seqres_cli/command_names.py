"""What the commands are called."""

# In the order of the help: commands that are stages, which may have a table in a configuration file, and others.
_STAGE, _OTHER = True, False
KINDS = {
    "prepare-data": _STAGE,
    "split-masks": _STAGE,
    "train-rec": _STAGE,
    "train-res": _STAGE,
    "pseudo-label": _STAGE,
    "refine-masks": _STAGE,
    "resample-points": _STAGE,
    "evaluate": _STAGE,
    "visualize-attention": _STAGE,
    "report": _OTHER,
    "predict": _STAGE,
    "merge": _STAGE,
    "export": _STAGE,
    "reproduce": _OTHER,
    "import-weights": _STAGE,
    "export-weights": _STAGE,
    "inspect": _OTHER,
    "verify": _OTHER,
    "doctor": _OTHER,
}
STAGES = tuple(name for name, kind in KINDS.items() if kind is _STAGE)
