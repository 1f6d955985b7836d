"""Real photographs and annotations: the counts of the little RefCOCO and RefCOCOg, and masks on their boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.data.dataset import ReferringDataset
from stages.geometry.boxes import box_iou_pairwise
from stages.prepare_data import Config, run


@pytest.fixture
def root(real_data_dir: Path) -> Path:
    folder = real_data_dir / "refcoco_mini"
    if not folder.is_dir():
        pytest.skip(f"no refcoco_mini in {real_data_dir}")
    return folder


@pytest.mark.parametrize(
    ("name", "by", "referents", "with_mask"),
    [
        ("refcoco", "unc", {"train": 44, "val": 5, "testA": 42, "testB": 4}, 40),
        ("refcoco", "unc_masked", {"train": 23, "val": 5, "testA": 10, "testB": 2}, 40),
        ("refcocog", "umd", {"train": 12}, 9),
        ("refcocog", "google", {"val": 2}, None),
    ],
)
@pytest.mark.parametrize("embed", [True, False])
def test_counts(
    root: Path,
    tmp_path: Path,
    name: str,
    by: str,
    referents: dict[str, int],
    with_mask: int | None,
    embed: bool,
) -> None:
    config = Config(source="refer", root=str(root), name=name, by=by, embed_images=embed)
    splits = run(config, out=tmp_path / "d.h5").summary["splits"]
    assert {s: row["referents"] for s, row in splits.items() if s != "total"} == referents
    assert splits["total"]["referents"] == sum(referents.values())
    assert with_mask in (None, splits["total"]["with_mask"])


def test_masks_lie_in_their_boxes(root: Path, tmp_path: Path) -> None:
    run(Config(source="refer", root=str(root), name="refcoco", by="unc"), out=tmp_path / "d.h5")
    data = ReferringDataset.open(tmp_path / "d.h5", masks="all")
    for referent in np.flatnonzero(data.has_mask).tolist():
        mask = data.mask(referent)
        image = data.image(int(data.referent_image[referent]))
        assert mask.shape == image.shape[:2]
        rows, columns = np.nonzero(mask)
        extent = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
        iou = box_iou_pairwise(extent, data.boxes_xyxy[referent][None])
        assert iou.min() > 0.9, data.ref_ids[referent]
