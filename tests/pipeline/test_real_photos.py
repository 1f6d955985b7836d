"""All eight stages on real photographs, as scripts/real_photos.sh runs them; skipped only without the photographs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.artifacts import open_artifact, verify_artifact

ARTIFACTS = ("dataset", "split", "rec", "first", "pseudo", "points", "final", "train", "attention")


@pytest.mark.slow
@pytest.mark.parametrize("data", ["refcoco/unc", "refcocog/umd"])
def test_contours_of_the_training_masks_are_learned_from_photographs(
    data: str, real_data_dir: Path, project_root: Path, tmp_path: Path
) -> None:
    root = real_data_dir / "refcoco_mini"
    if not root.is_dir():
        pytest.skip(f"no refcoco_mini in {real_data_dir}")
    seqres = tmp_path / "seqres"
    seqres.write_text(f'#!/bin/sh\nexec {sys.executable} -m seqres_cli "$@"\n')
    seqres.chmod(0o755)
    environment = {**os.environ, "SEQRES": str(seqres), "PYTHON": sys.executable, "SETS": data}
    done = subprocess.run(
        ["scripts/real_photos.sh", str(root), str(tmp_path)], cwd=project_root, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = tmp_path / data.replace("/", "-")
    findings = {name: verify_artifact(folder / f"{name}.h5") for name in ARTIFACTS}
    assert not any(findings.values()), findings
    with open_artifact(folder / "train.h5", "evaluation") as scores:
        assert scores.json("summary")["splits"]["train"]["res"]["model"]["miou"] >= 0.80
    with open_artifact(folder / "attention.h5", "attention") as shown:
        names = shown.json("summary")["figures"]
    assert names
    assert {"index.html", *names} == {p.name for p in (folder / "attention_figures").iterdir()}
