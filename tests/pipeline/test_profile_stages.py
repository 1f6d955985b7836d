"""scripts/profile_stages.py: where the time of a call of seqres goes, by file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyinstrument", reason="a tool of developers, left out of `make test-minimum`")


def served(project_root: Path, folder: Path, *call: str) -> subprocess.CompletedProcess[str]:
    script = project_root / "scripts" / "profile_stages.py"
    options = ["--serve", str(project_root), "--result", str(folder / "found.json"), "--"]
    return subprocess.run(
        [sys.executable, str(script), *options, *call], cwd=folder, text=True, capture_output=True
    )


def test_time_belongs_to_the_files_of_the_package(project_root: Path, tmp_path: Path) -> None:
    call = ("prepare-data", "--source", "refshapes", "--scale", "tiny", "--workers", "1", "--out", "d.h5")
    done = served(project_root, tmp_path, *call)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    files = set(found["seconds"]) - {"Python", "imports"}
    assert {"stages/data/refshapes/scenes.py", "stages/data/refshapes/sentences.py"} <= files
    assert all((project_root / file).is_file() for file in files)
    assert found["processor"] > 0 and min(found["seconds"].values()) > -1e-6


def test_a_failed_call_is_no_profile(project_root: Path, tmp_path: Path) -> None:
    done = served(
        project_root, tmp_path, "split-masks", "--ratio", "1", "--dataset", "none.h5", "--out", "s.h5"
    )
    assert done.returncode not in (0, 1) and "none.h5" in done.stderr
    assert not (tmp_path / "found.json").exists()
