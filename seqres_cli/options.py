"""What commands share: input paths, extra options, and the options that every stage has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer


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
    `positional=True` makes an argument of it.
    """

    name: str
    type: Any
    help: str
    positional: bool = False
    metavar: str | None = None


DATASET = InputPath("dataset", "Dataset artifact (prepare-data).")
SPLIT = InputPath("split", "Split artifact that says whose masks may be used (split-masks).")
RESUME = ExtraOption("resume", bool, "Go on with an interrupted run of the same configuration.")

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and notes on stderr; warnings stay.")]
Force = Annotated[bool, typer.Option("--force", help="Run even if OUT exists, and replace it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say whether it would run, and why; write nothing.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="RECIPE",
        help="Shipped recipe (NAME or NAME:RECIPE) or FILE.toml with a table for this stage; flags win.",
    ),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the resolved table and where each value is from.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="OUT.h5", help="Artifact to write (required).")
]
