"""What does not belong together is told for every source: masks and boxes, boxes and pictures, splits, copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.data.agreement import Doubt, check_agreement, check_copies
from stages.data.readers.table import read_table
from stages.data.readers.table_file import open_table
from stages.data.readers.tables import ReferringTables
from stages.errors import ArtifactError
from stages.geometry.boxes import reads_as_shares
from stages.prepare_data import Config, run
from tests.oracles.kept_warnings import KeptWarnings
from tests.oracles.refer_folder import ReferFolder

H, W = 240, 320
BIRD, ROOF = (40, 60, 120, 110), (200, 130, 290, 230)  # xyxy


def polygon(box: tuple[float, ...]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def bits(box: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def runs(flat: np.ndarray) -> dict[str, Any]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [0]])))
    return {"size": [H, W], "counts": np.diff([0, *edges.tolist(), H * W]).tolist()}


def tables(folder: Path, rows: list[dict[str, Any]]) -> ReferringTables:
    for name in {row["image"] for row in rows}:
        if not (folder / name).exists():
            cv2.imwrite(str(folder / name), np.full((H, W, 3), len(name), np.uint8))
    text = "\n".join(json.dumps({"phrase": f"thing {k}", **row}) for k, row in enumerate(rows))
    (folder / "t.jsonl").write_text(text)
    return read_table(open_table(folder / "t.jsonl"), None)


def row(box: tuple[float, ...], mask: Any = None, image: str = "a.png", **more: Any) -> dict[str, Any]:
    return {"image": image, **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)), "mask": mask, **more}


def doubts(found: list[Doubt]) -> dict[str, Doubt]:
    return {doubt.what: doubt for doubt in found}


@pytest.mark.parametrize(
    ("box", "mask", "cause"),
    [
        (BIRD, runs(~bits(BIRD).T.reshape(-1)), "the mask is inverted"),
        (BIRD, runs(bits(BIRD).reshape(-1)), "the run lengths go along the rows"),
        (BIRD, [polygon(ROOF)], None),
        ((40, 60, 80, 90), [polygon((40, 60, 120, 150))], "reads as x, y, width, height, but was given as two"),
        ((40, 60, 160, 170), [polygon((40, 60, 120, 110))], "reads as two corners, but was given as x, y, w"),
        ((60, 40, 110, 120), [polygon((40, 60, 120, 110))], "x and y of the box are exchanged"),
        ((12.5, 25, 37.5, 45.8), [polygon(BIRD)], "reads as percent"),
        ((125, 250, 375, 458), [polygon(BIRD)], None),  # leaves the picture
        (BIRD, [polygon((200, 60, 280, 110))], "the mask is mirrored"),
    ],
)  # fmt: skip
def test_masks_of_another_place_are_told_with_their_cause(
    tmp_path: Path, box: tuple[float, ...], mask: Any, cause: str | None
) -> None:
    if box[3] > H:
        with pytest.raises(ArtifactError, match="invalid entry"):
            tables(tmp_path, [row(box, mask)])
        return
    found = doubts(check_agreement(tables(tmp_path, [row(box, mask)])))
    doubt = found["masks that do not belong to their box"]
    assert doubt.n == 1
    assert "in a.png: " in doubt.examples[0]
    assert (cause or "") in doubt.examples[0]


def test_masks_of_the_next_row_are_told_by_name(tmp_path: Path) -> None:
    boxes = [BIRD, ROOF, (10, 150, 60, 220), (150, 20, 190, 100)]
    shifted = [*boxes[1:], boxes[0]]
    made = tables(
        tmp_path,
        [row(b, [polygon(m)], f"{k}.png") for k, (b, m) in enumerate(zip(boxes, shifted, strict=True))],
    )
    doubt = doubts(check_agreement(made))["masks that do not belong to their box"]
    assert doubt.n == 4
    assert len(doubt.examples) == 3
    assert f"it is the mask of ref {made.ref_ids[1]} in 1.png" in doubt.examples[0]


def test_what_fits_is_not_told(tmp_path: Path) -> None:
    star = [40, 60, 90, 75, 120, 60, 105, 85, 120, 110, 80, 95, 40, 110, 60, 85]
    tumour, part = (60, 60, 160, 160), (70, 70, 100, 95)
    small = (10.4, 10.4, 11.6, 11.6)
    rows = [row(BIRD, [star]), row(ROOF), row(tumour, [polygon(tumour)]), row(tumour, [polygon(part)])]
    rows.append(row(small, [polygon((10, 10, 12, 11))]))
    assert check_agreement(tables(tmp_path, rows)) == []


def test_run_lengths_along_the_rows_of_a_refer_folder(tmp_path: Path) -> None:
    folder = ReferFolder(tmp_path / "data")
    there = folder.annotation(101)
    x, y, w, h = (int(v) for v in there["bbox"])
    mask = np.zeros((folder.height, folder.width), bool)
    mask[y : y + h, x : x + w] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.reshape(-1).astype(int), [0]]))).tolist()
    there["segmentation"] = {"size": [*mask.shape], "counts": np.diff([0, *edges, mask.size]).tolist()}

    heard = KeptWarnings()
    config = Config(source="refer", root=str(folder.write()), name="toy")
    summary = run(config, out=tmp_path / "d.h5", reporter=heard).summary
    assert summary["notices"]["masks that do not belong to their box"] >= 1
    assert any("go along the rows" in warning for warning in heard.warnings)


@pytest.mark.parametrize("box", [(0.1, 0.2, 0.5, 0.6), (0.4, 0.5, 0.2, 0.3), (0, 0, 0.5, 1)])
def test_shares_of_the_picture_are_refused(tmp_path: Path, box: tuple[float, ...]) -> None:
    assert reads_as_shares(box)
    with pytest.raises(ArtifactError, match="1 invalid entry") as caught:
        tables(tmp_path, [row(box)])
    assert "reads as shares of the picture, so multiply x by 320 and y by 240" in caught.value.facts[0]


def test_every_box_in_the_first_pixel_is_refused(tmp_path: Path) -> None:
    assert not reads_as_shares((0, 0, 1, 1))  # one may be a pixel
    with pytest.raises(ArtifactError, match="every box lies in the first pixel") as caught:
        check_agreement(tables(tmp_path, [row((0, 0, 1, 1)), row((0, 0, 1, 1), image="bb.png")]))
    assert "multiply x by the width" in str(caught.value.hint)
    assert check_agreement(tables(tmp_path, [row((0, 0, 1, 1)), row(BIRD)])) == []


def test_boxes_that_may_be_percent_are_told(tmp_path: Path) -> None:
    found = check_agreement(tables(tmp_path, [row((15, 20, 45, 60)), row((60, 45, 85, 80))]))
    assert [(d.what[-8:], d.n) for d in found] == [("percent?", 2)]


def test_one_object_in_two_splits_is_told(tmp_path: Path) -> None:
    rows = [row(BIRD, split="train"), row(BIRD, split="val"), row(ROOF, split="val")]
    (doubt,) = check_agreement(tables(tmp_path, rows))
    assert (doubt.what, doubt.n) == ("objects in more than one split", 1)
    assert doubt.examples == ["a.png, box (40, 60, 120, 110): train and val"]


def test_copies_of_a_picture_in_two_splits_are_told(tmp_path: Path) -> None:
    made = tables(tmp_path, [row(BIRD, split="train"), row(ROOF, image="b.png", split="val")])
    doubt = check_copies(made, tmp_path)
    assert doubt is not None
    assert (doubt.n, doubt.examples) == (1, ["b.png is a.png"])
    same = tables(tmp_path, [row(BIRD, split="train"), row(ROOF, image="b.png", split="train")])
    assert check_copies(same, tmp_path) is None
