"""What commands share: input paths, extra options, and the options that every stage has."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.config import Panel


@dataclass(frozen=True)
class InputPath:
    """An artifact that a stage reads: `--dataset data.h5` becomes `run(dataset=Path("data.h5"))`."""

    name: str
    help: str
    required: bool = True
    metavar: str = "FILE.h5"


@dataclass(frozen=True)
class ExtraOption:
    """A further keyword of `run` that is neither configuration nor an input: `--resume`.

    `type` is an annotation that typer understands; None (not given) is not passed on.
    `positional=True` makes an argument of it; with a `flag` of its own, `--name` is still taken.
    """

    name: str
    type: Any
    help: str
    positional: bool = False
    metavar: str | None = None
    panel: Panel = "Inputs and output"
    flag: str | None = None

    def former_flags(self) -> dict[str, str]:
        return {self.name: self.flag} if self.flag else {}


DATASET = InputPath("dataset", "dataset artifact (prepare-data)")
SPLIT = InputPath("split", "split artifact: whose masks may be used (split-masks)")
RESUME = ExtraOption("resume", bool, "go on with an interrupted run of the same configuration", panel="Run")
# by the word that NAME.toml has for it
SHARED: dict[str, Any] = {one.name: one for one in (DATASET, SPLIT, RESUME)}

_running = functools.partial(typer.Option, rich_help_panel="Run")
Json = Annotated[bool, _running("--json", help="print exactly one JSON object on stdout")]
Quiet = Annotated[bool, _running("--quiet", "-q", help="no progress and notes on stderr; warnings stay")]
Force = Annotated[bool, _running("--force", help="run even if OUT exists, and replace it")]
DryRun = Annotated[bool, _running("--dry-run", help="say whether it would run, and why; write nothing")]
ConfigFile = Annotated[
    Path | None,
    _running(
        "--config",
        metavar="RECIPE",
        help="shipped recipe (NAME or NAME:RECIPE) or FILE.toml with a table for this stage; flags win",
    ),
]
PrintConfig = Annotated[bool, _running("--print-config", help="print every value and where it is from")]


def out_option(metavar: str = "OUT.h5", help: str = "artifact to write [required]") -> Any:
    """The annotation of --out."""
    option = typer.Option("--out", "-o", metavar=metavar, help=help, rich_help_panel="Inputs and output")
    return Annotated[Path | None, option]


Out = out_option()
