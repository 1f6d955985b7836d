"""Find the cases of a folder and run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from golden_checks import geometry, mdetr, training
from golden_checks.models import check_model
from golden_checks.table import Report, Row

CHECKS: dict[str, Callable[[Path], Report]] = {**geometry.CHECKS, **training.CHECKS}


def check_folder(folder: Path, *, only: str | None = None) -> tuple[list[Row], list[str]]:
    """All rows, and what was left out and why."""
    rows: list[Row] = []
    for name, check in cases(folder):
        if only is None or only in name:
            rows += guarded(name, check).rows
    notes = [f"{path.relative_to(folder)} is left out: no check of that name" for path in _unknown(folder)]
    return rows, notes


def cases(folder: Path) -> list[tuple[str, Callable[[], Report]]]:
    """(name, check) of every case in the folder, models grouped so that weights are made once."""
    found: list[tuple[str, Callable[[], Report]]] = []
    for path in sorted((folder / "models").glob("*.json")):
        found.append((path.stem, lambda path=path: check_model(folder, path)))
    for stem, check in CHECKS.items():
        for suffix in (".json", ".npz"):
            path = folder / "geometry" / f"{stem}{suffix}"
            if path.exists():
                found.append((stem, lambda path=path, check=check: check(path)))
                break
    for path in sorted((folder / "mdetr").glob("*.json")):
        kind = mdetr.kind_of(json.loads(path.read_text()))
        if kind is not None:
            found.append((f"mdetr/{path.stem}", lambda path=path, check=mdetr.CHECKS[kind]: check(path)))
    return found


def _unknown(folder: Path) -> list[Path]:
    """JSON and npz files beside the known ones: said aloud, so that nothing seems to have been checked."""
    files = [p for p in sorted((folder / "geometry").glob("*")) if p.suffix in (".json", ".npz")]
    detector = sorted((folder / "mdetr").glob("*.json"))
    return [p for p in files if p.stem not in CHECKS] + [
        p for p in detector if mdetr.kind_of(json.loads(p.read_text())) is None
    ]


def guarded(name: str, check: Callable[[], Report]) -> Report:
    """A case that raises is one missed row, and the others still run."""
    try:
        return check()
    except Exception as error:
        report = Report(name)
        report.failed(error)
        return report
