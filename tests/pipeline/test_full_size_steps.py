"""scripts/full_size_steps.sh: what it refuses, what it judges, and the full-size model itself at a small picture size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAKE = """#!/bin/sh
case "$1" in
  train-rec) losses="$REC" ;;
  train-res) losses="$RES" ;;
  *) exit 0 ;;
esac
n=0
for loss in $losses; do n=$((n + 1)); echo "epoch $n, loss $loss, score 0.0000, seconds $((6 * n)).0"; done
exit "${CODE:-0}"
"""


def script(
    project_root: Path, arguments: list[str], seqres: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["scripts/full_size_steps.sh", *arguments], cwd=project_root, capture_output=True, text=True,
        env={**os.environ, "SEQRES": str(seqres), "PYTHON": sys.executable, **environment},
    )  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A seqres that trains in no time and tells the losses of REC and RES."""
    path = tmp_path / "seqres"
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def test_the_loss_must_go_down(project_root: Path, fake: Path, tmp_path: Path) -> None:
    arguments = [str(tmp_path), str(tmp_path / "out")]
    steps = {"REC_STEPS": "4 epochs of 3", "RES_STEPS": "8 epochs of 3"}
    falls, noisy = "6.9 6.8 6.7 6.6", "6.9 7.0 6.9 6.8 6.7 6.8 6.8 6.7"
    done = script(project_root, arguments, fake, REC=falls, RES=noisy, **steps)
    assert done.returncode == 0, done.stderr
    assert "--config partial-res-darknet53 --batch-images 4" in done.stdout
    assert "train-rec: first 3 steps 6.900, last 3 steps 6.600" in done.stdout
    assert "train-res: first 6 steps 6.950, last 6 steps 6.750" in done.stdout
    assert "train-res: 2.0 s a step, peak memory" in done.stdout
    done = script(project_root, arguments, fake, REC="6.9 6.8 6.7 6.9", RES=falls, **steps)
    assert (done.returncode, "train-rec: the loss did not go down" in done.stderr) == (1, True)
    done = script(project_root, arguments, fake, REC=falls, RES=falls, MEMORY_GB="0.000001", **steps)
    assert (done.returncode, "more than 0.000001 GiB" in done.stderr) == (1, True)


def test_a_failing_stage_is_told_with_its_code(project_root: Path, fake: Path, tmp_path: Path) -> None:
    done = script(project_root, [str(tmp_path), str(tmp_path / "out")], fake, REC="6.9", RES="", CODE="3")
    assert (done.returncode, "epoch 1, loss 6.9" in done.stderr) == (3, True)
    assert "train-res" not in done.stdout


def test_arguments(project_root: Path, fake: Path, tmp_path: Path) -> None:
    done = script(project_root, [], fake)
    assert done.returncode != 0
    assert "usage: scripts/full_size_steps.sh ROOT [OUT]" in done.stderr
    done = script(project_root, [str(tmp_path / "none")], fake)
    assert (done.returncode, "no such folder" in done.stderr) == (3, True)


@pytest.mark.slow
def test_the_recipe_lowers_the_loss_of_photographs(
    project_root: Path, real_data_dir: Path, tmp_path: Path
) -> None:
    """All layers and the whole recipe, but pictures of 64 px, and few epochs, each of which saves its state, so that it takes a minute on one core."""
    root = real_data_dir / "refcoco_mini"
    if not root.is_dir():
        pytest.skip(f"no refcoco_mini in {real_data_dir}")
    seqres = tmp_path / "seqres"
    seqres.write_text(f'#!/bin/sh\nexec {sys.executable} -m seqres_cli "$@"\n')
    seqres.chmod(0o755)
    done = script(
        project_root, [str(root), str(tmp_path / "out")], seqres,
        REC_FLAGS="--image-size 64", REC_STEPS="2 epochs of 5", RES_STEPS="3 epochs of 6",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
