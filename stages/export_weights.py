"""export-weights: a model artifact becomes a folder of safetensors and JSON that other programs can read.

In: a rec_model or res_model artifact. Out: a folder; import-weights makes an equal artifact of it again. It exists so
that trained weights are not tied to this program.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.artifacts.job import RunOptions, StageResult
from stages.artifacts.target import require_folder_target, require_writable
from stages.artifacts.whole_folder import whole_folder
from stages.errors import StaleOutputError, UsageError
from stages.reporter import Reporter, SilentReporter

STAGE = "export-weights"
STAGE_VERSION = 1


@dataclass(frozen=True)
class Config:
    """Nothing to choose: a folder always holds all the weights that the artifact has."""


def run(
    config: Config,
    *,
    model: Path,
    out: Path,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Write the folder, complete or not at all.

    Raises ArtifactError when `model` is no model, StaleOutputError when `out` exists and came from another one.
    """
    from stages.artifacts import open_artifact

    started = time.monotonic()
    out = Path(out)
    with open_artifact(model, kind=("rec_model", "res_model")) as artifact:
        status = _standing(out, artifact.digest, options)
        if status != "run":
            return StageResult(
                STAGE, "up-to-date" if status == "same" else "would-run", out, None, {}, time.monotonic() - started,
                ("made from the same model",) if status == "same" else (f"{out} does not exist",),
            )  # fmt: skip
        summary = _write(artifact, out)
    reporter.info(f"{len(summary['files'])} files")
    return StageResult(STAGE, "written", out, None, summary, time.monotonic() - started)


def _standing(out: Path, digest: str, options: RunOptions) -> str:
    """ "run", "same" (nothing to do) or "would run" (dry)."""
    if str(out) == "-":
        raise UsageError("--out -: a model is a folder", hint="give a folder: --out exported")
    require_folder_target(out, "--out")
    require_writable(out)
    if out.exists() and any(out.iterdir()):
        found = _source_digest(out)
        if found is None:
            raise StaleOutputError(
                f"{out} is not empty and holds no exported model",
                hint="choose another --out; it is left alone",
            )
        if found == digest and not options.force:
            return "same"
        if not options.force:
            raise StaleOutputError(
                f"{out} was exported from another model",
                facts=[f"its model: {found[:12]}", f"this model: {digest[:12]}"],
                hint="replace it with --force, or choose another --out",
            )
        _refuse_others(out)
    require_writable(out)
    return "would run" if options.dry_run else "run"


def _source_digest(folder: Path) -> str | None:
    try:
        description = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
        return str(description["source_digest"]) if description["format"] == "seqres-model" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_others(out: Path) -> None:
    """The folder is replaced as a whole, so nothing of somebody else may be in it."""
    files = {"config.json", "vocabulary.json", ".DS_Store"}
    others = sorted(
        p.name for p in out.iterdir() if p.name not in files and not p.match("model*.safetensors")
    )
    if others:
        raise StaleOutputError(
            f"{out} holds files that seqres did not write",
            facts=others[:3],
            hint=f"move {others[0]} elsewhere, or choose another --out",
        )


def _write(artifact: Any, out: Path) -> dict[str, Any]:
    from stages.weights.exchange import write_folder

    mask = os.umask(0)
    os.umask(mask)
    with whole_folder(out) as fresh:
        description = write_folder(artifact, fresh)
        for path in fresh.iterdir():  # safetensors makes files that only their owner can read
            path.chmod(0o666 & ~mask)
    files = {p.name: p.stat().st_size for p in sorted(out.iterdir())}
    return {"kind": description["kind"], "weights": description["weights"], "files": files}
