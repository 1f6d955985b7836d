"""One file a command; each exports `COMMAND`. A file is imported when its command is asked for, and none loads a stage."""

from __future__ import annotations

import importlib
from collections import UserDict
from typing import Any

# In the order of the help: commands that are stages, which may have a table in a configuration file, and others.
_STAGE, _OTHER = True, False
_KINDS = {
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
STAGES = tuple(name for name, kind in _KINDS.items() if kind is _STAGE)


class _Commands(UserDict[str, Any]):
    """Name -> StageCommand or PlainCommand."""

    def __getitem__(self, name: str) -> Any:
        if super().__getitem__(name) is None:
            module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
            self.data[name] = module.COMMAND
        return super().__getitem__(name)


COMMANDS = _Commands(dict.fromkeys(_KINDS))
