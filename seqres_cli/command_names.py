"""What the commands are called, in the order of the help."""

NAMES = (
    "prepare-data", "split-masks", "train-rec", "train-res", "pseudo-label", "refine-masks", "resample-points", "evaluate",
    "visualize-attention", "report", "predict", "merge", "export", "reproduce", "import-weights", "export-weights",
    "inspect", "verify", "doctor",
)  # fmt: skip
_NO_STAGES = ("report", "reproduce", "inspect", "verify", "doctor")
STAGES = tuple(name for name in NAMES if name not in _NO_STAGES)  # may have a table in a configuration file
