"""Pseudo masks against masks that no stage may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages import resample_points
from stages.artifacts import open_artifact
from stages.errors import ArtifactError
from stages.geometry.rasterise import box_to_rle, ellipse_to_rle, polygon_to_rle
from stages.metrics.hidden_truth import audit_pseudo_labels, cached_audit
from stages.metrics.segmentation import overlaps
from tests.oracles.small_artifacts import SIZE, boxes_of, diamond, write_dataset, write_pseudo

# referents 0 to 2 are labelled; every true mask is the ellipse in its box, but 2 has none
ROWS = [(0, 0, 0.9, []), (0, 1, 0.9, []), (1, 2, 0.9, []), (2, 4, 0.9, [])]


def corners(box: list[float]) -> list[list[float]]:
    x1, y1, x2, y2 = box
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Referent 0: a far too small shape, and (second sentence) its diamond. 1: a shape off its box. 2: its box."""
    data = write_dataset(tmp_path / "data.h5", ["train"] * 3 + ["val"], masked=[True, True, False, True])
    b = boxes_of(3).tolist()
    small = [b[0][0], b[0][1], b[0][0] + 5, b[0][1] + 5]
    rings = [
        corners(small),
        diamond(b[0]),
        corners([b[1][0] + 10, b[1][1], b[1][2] + 10, b[1][3]]),
        corners(b[2]),
    ]
    rows = [(r, s, c, ring) for (r, s, c, _), ring in zip(ROWS, rings, strict=True)]
    pseudo = write_pseudo(tmp_path / "pseudo.h5", data, rows, n_points=8)
    points = tmp_path / "points.h5"
    resample_points.run(resample_points.Config(), dataset=data, pseudo=pseudo, out=points)
    return data, pseudo, points


def test_by_hand(files: tuple[Path, Path, Path]) -> None:
    found = audit_pseudo_labels(*files)
    boxes = boxes_of(2).tolist()
    truth = [ellipse_to_rle(b, SIZE) for b in boxes]
    shifted = [boxes[1][0] + 10, boxes[1][1], boxes[1][2] + 10, boxes[1][3]]
    drawn = overlaps(
        [polygon_to_rle(diamond(boxes[0]), SIZE), polygon_to_rle(corners(shifted), SIZE)], truth
    ).iou
    filled = overlaps([box_to_rle(b, SIZE) for b in boxes], truth).iou
    # the diamond agrees with its box and is kept, the shifted shape is not; referent 2 has no true mask
    assert (found["referents"], found["kept"], found["kept_share"]) == (2, 1, 0.5)
    assert found["all"] == pytest.approx(drawn.mean())
    assert found["all_kept"] == pytest.approx(drawn[0])
    assert found["kept_outlines"] == pytest.approx(drawn[0], abs=0.05)
    assert found["ellipse"] == found["kept_ellipse"] == 1.0
    assert found["filled_box"] == pytest.approx(filled.mean())
    assert found["kept_filled_box"] == pytest.approx(filled[0])


def test_a_comparison_is_kept_by_content(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first = cached_audit(*files, tmp_path / "audits")
    (kept,) = (tmp_path / "audits").iterdir()
    kept.write_text('{"all": 2}')
    assert cached_audit(*files, tmp_path / "audits") == {"all": 2} != first


def test_files_that_do_not_belong_together(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    data, pseudo, points = files
    other = write_dataset(tmp_path / "other.h5", ["train"] * 4 + ["val"])
    with pytest.raises(ArtifactError, match=r"pseudo\.h5 was not made from .*other\.h5"):
        audit_pseudo_labels(other, pseudo, points)
    again = write_pseudo(tmp_path / "again.h5", data, [(0, 0, 0.5, diamond(boxes_of(1)[0].tolist()))])
    with pytest.raises(ArtifactError, match=r"points\.h5 was not made from .*again\.h5"):
        audit_pseudo_labels(data, again, points)


def test_masks_count_where_there_are_no_points(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data.h5", ["train", "val"])
    box = boxes_of(1)[0].tolist()
    pseudo = write_pseudo(tmp_path / "pseudo.h5", data, [(0, 0, 0.9, [])], masks=[box], n_points=8)
    resample_points.run(resample_points.Config(), dataset=data, pseudo=pseudo, out=tmp_path / "points.h5")
    found = audit_pseudo_labels(data, pseudo, tmp_path / "points.h5")
    assert found["all"] == pytest.approx(found["filled_box"])
    assert found["kept"] == 1
    with open_artifact(tmp_path / "points.h5") as artifact:
        assert len(artifact["referent_index"]) == 1
