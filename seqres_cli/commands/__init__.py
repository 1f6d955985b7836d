"""One file a command, read when its command is asked for; none loads a stage.

A stage whose command needs no code is told in NAME.toml: its help, its inputs, its examples. Others export `COMMAND`.
"""

import importlib
import tomllib
from collections import UserDict
from importlib import resources
from pathlib import Path
from typing import Any

from seqres_cli.command_names import NAMES, STAGES
from seqres_cli.options import SHARED, ExtraOption, InputPath, out_option
from seqres_cli.stage_command import StageCommand

__all__ = ["COMMANDS", "STAGES"]


class _Commands(UserDict[str, Any]):
    """Name -> StageCommand or PlainCommand."""

    def __getitem__(self, name: str) -> Any:
        if super().__getitem__(name) is None:
            told = resources.files(__name__) / f"{name}.toml"
            if told.is_file():
                self.data[name] = _command(name, told.read_text("utf-8"))
            else:
                module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
                self.data[name] = module.COMMAND
        return super().__getitem__(name)


def _command(name: str, text: str) -> StageCommand:
    """The command that a TOML file tells; a bare word among its inputs or extras is one that commands share."""
    table = tomllib.loads(text)
    inputs = [SHARED[i] if isinstance(i, str) else InputPath(**i) for i in table.pop("inputs", [])]
    extras = [
        SHARED[i] if isinstance(i, str) else ExtraOption(type=Path, **i) for i in table.pop("extras", [])
    ]
    out = out_option(**table.pop("out", {}))
    return StageCommand(name, inputs=inputs, extras=extras, out=out, **table)


COMMANDS = _Commands(dict.fromkeys(NAMES))
