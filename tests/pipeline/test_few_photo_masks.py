"""scripts/few_photo_masks.sh from pictures to its judgement, with trainings of one step; and what the audit prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.artifacts import open_artifact
from stages.data.refshapes.folder import write_refer_layout

STEP = "--epochs 1 --steps-per-epoch 1 --batch-images 4 --validation-sentences 1"


@pytest.mark.slow
def test_from_photographs_to_a_judgement(project_root: Path, tmp_path: Path) -> None:
    """Any REFER folder will do: here one of shapes, which then wear each other's pictures."""
    root, out = tmp_path / "root", tmp_path / "out"
    write_refer_layout(root, "tiny", 1, counts={"train": 12, "val": 2, "testA": 1, "testB": 1})
    seqres = tmp_path / "seqres"
    seqres.write_text(f'#!/bin/sh\nexec {sys.executable} -m seqres_cli "$@"\n')
    seqres.chmod(0o755)
    look = f"{STEP} --sequence box-contour --zoom 64 --box-only-images 0"
    environment = {
        **os.environ, "SEQRES": str(seqres), "PYTHON": sys.executable, "SETS": "refshapes/unc", "SEEDS": "0 1",
        "SCALE": "tiny", "REC_FLAGS": f"{STEP} --image-size 64", "SHAPES_FLAGS": look,
        "PHOTO_FLAGS": f"{look} --mask-images 2 --ellipse-weight 0.3 --paste 0.5",
    }  # fmt: skip
    done = subprocess.run(
        ["scripts/few_photo_masks.sh", str(root), str(out)], cwd=project_root, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    head, *rows = [line.split("\t") for line in (out / "hidden.tsv").read_text("utf-8").splitlines()]
    assert [row[0] for row in rows] == ["refined-points0", "refined-points1", "all"]
    assert "\npseudo-points0\t" in (out / "hidden-drawn.tsv").read_text("utf-8")
    table = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    with (
        open_artifact(out / "refshapes-unc/split0.h5") as split,
        open_artifact(out / "refshapes-unc/dataset.h5") as data,
    ):
        hidden = int(((data["referents/split"] == 0) & ~split["visible"]).sum())
    assert int(table["refined-points0"]["referents"]) == hidden
    assert int(table["all"]["referents"]) == 2 * hidden
    ours, ellipse, box = (
        float(table["all"][key]) for key in ("kept_outlines", "kept_ellipse", "kept_filled_box")
    )
    assert 0.3 < ellipse < 0.8 and 0.3 < box < 0.8
    assert done.returncode == int(not (ours > ellipse and ours > box))
    assert ("not better than the ellipse" in done.stderr) == bool(done.returncode)
    assert (out / "refshapes-unc/attention_figures/index.html").is_file()


def test_the_audit_tells_how_it_is_called(project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/audit_pseudo.py", "one"], cwd=project_root, capture_output=True, text=True
    )
    assert done.returncode == 2 and "DATASET PSEUDO POINTS" in done.stderr
