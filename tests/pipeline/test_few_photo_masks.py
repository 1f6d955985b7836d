"""scripts/few_photo_masks.sh from a table of photographs, phrases and boxes to masks and pictures of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.artifacts import open_artifact
from stages.data.dataset import ReferringDataset
from stages.figures.overlays import png_bytes
from stages.geometry.rasterise import box_to_rle, ellipse_to_rle
from stages.metrics.segmentation import overlaps
from stages.prepare_data import Config, run
from tests.oracles.tiny_onnx import write_pair


def write_table(folder: Path) -> tuple[Path, ReferringDataset, list[int]]:
    """Twelve generated objects as photographs with phrases and boxes, and where they come from."""
    run(Config(scale="tiny"), out=folder / "shapes.h5")
    data = ReferringDataset.open(folder / "shapes.h5", masks="all")
    lines, referents = ["image,phrase,x1,y1,x2,y2"], list(range(12))
    for r in referents:
        image = int(data.referent_image[r])
        (folder / f"{image}.png").write_bytes(png_bytes(data.image(image)))
        lines.append(
            f"{image}.png,{data.texts[data.sentence_offsets[r]]},{','.join(map(str, data.boxes_xyxy[r]))}"
        )
    (folder / "photos.csv").write_text("\n".join(lines) + "\n")
    return folder / "photos.csv", data, referents


def call(project_root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["scripts/few_photo_masks.sh", *arguments], cwd=project_root, env={**os.environ, **environment},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("segmenter", ["grabcut", "onnx"])
def test_two_commands_from_a_table_to_masks_and_pictures(
    segmenter: str, project_root: Path, tmp_path: Path
) -> None:
    table, data, referents = write_table(tmp_path)
    seqres, out = tmp_path / "seqres", tmp_path / "out"
    seqres.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/calls\nexec {sys.executable} -m seqres_cli "$@"\n')
    seqres.chmod(0o755)
    name = segmenter if segmenter == "grabcut" else str(write_pair(tmp_path / "pair"))
    done = call(project_root, str(table), str(out), SEQRES=str(seqres), SEGMENTER=name)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "calls").read_text().split() == ["prepare-data", "refine-masks"]
    images = {int(data.referent_image[r]) for r in referents}
    assert len(list((out / "drawn").glob("*.png"))) == len(images)
    with open_artifact(out / "masks.h5", "pseudo_points") as a:
        assert len(a["referent_index"]) == len(referents)
    if segmenter == "grabcut":
        judge(out, data, referents)
    again = call(project_root, str(table), str(out), SEQRES=str(seqres), SEGMENTER=name)
    assert again.stdout.count("up to date") == 2


def judge(out: Path, data: ReferringDataset, referents: list[int]) -> None:
    """Better than the box filled, and than the ellipse in it."""
    from stages.geometry.rasterise import polygon_to_rle

    photos = ReferringDataset.open(out / "photos.h5")
    truth = {tuple(data.boxes_xyxy[r].round(2)): data.mask_rle(r) for r in referents}
    with open_artifact(out / "masks.h5") as a:
        boxes = photos.boxes_xyxy[a["referent_index"]]
        true = [truth[tuple(box.round(2))] for box in boxes]
        ours = [polygon_to_rle(ring, t["size"]) for ring, t in zip(a.ragged("points_xy"), true, strict=True)]
    for trivial in (ellipse_to_rle, box_to_rle):
        theirs = [trivial(box, t["size"]) for box, t in zip(boxes, true, strict=True)]
        assert overlaps(ours, true).iou.mean() > overlaps(theirs, true).iou.mean() + 0.05


def test_a_missing_table_is_named(project_root: Path, tmp_path: Path) -> None:
    done = call(project_root, str(tmp_path / "no.csv"), SEGMENTER="grabcut")
    assert (done.returncode, done.stderr) == (3, f"no such file: {tmp_path / 'no.csv'}\n")


def test_the_audit_tells_how_it_is_called(project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/audit_pseudo.py", "one"], cwd=project_root, capture_output=True, text=True
    )
    assert done.returncode == 2 and "DATASET PSEUDO POINTS" in done.stderr
