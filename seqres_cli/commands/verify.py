"""Read whole artifacts and report everything that is wrong with them.

Checks the structure, that offsets rise, that indices stay inside their tables, and recomputes the
content digest. Exits with code 3 if anything was found.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from seqres_cli.options import Json, Quiet
from seqres_cli.output import Answer, RichReporter
from seqres_cli.stage_command import PlainCommand
from stages.errors import ArtifactError


def verify_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="artifacts", show_default=False)],
    json: Json = False,
    quiet: Quiet = False,
) -> Answer:
    records = []
    with RichReporter(quiet=quiet or len(files) == 1).progress("verify", len(files), "file") as progress:
        for path in files:
            records.append(_verify(path))
            progress.advance()
    lines = []
    for record in records:
        findings = record["findings"]
        count = f"{len(findings)} problem{'s' if len(findings) > 1 else ''}"
        lines.append(f"{record['path']}: {count if findings else 'ok'}")
        lines += [f"  {finding}" for finding in findings]
    ok = not any(record["findings"] for record in records)
    return Answer({"ok": ok, "files": records}, lines, 0 if ok else ArtifactError.exit_code)


def _verify(path: Path) -> dict[str, Any]:
    from stages.artifacts import verify_artifact

    try:
        findings = verify_artifact(path)
    except ArtifactError as error:
        findings = [error.message, *error.facts]
    return {"path": str(path), "ok": not findings, "findings": findings}


COMMAND = PlainCommand(
    name="verify",
    help=__doc__,
    function=verify_files,
    examples=("seqres verify data.h5", "seqres verify runs/*.h5 --json"),
)
