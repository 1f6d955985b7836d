"""A table of one's own photographs: every format, every column, and messages with line numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.artifacts import verify_artifact
from stages.artifacts.job import RunOptions
from stages.data.dataset import ReferringDataset
from stages.data.readers.table import read_table
from stages.data.readers.table_file import open_table
from stages.data.readers.tables import ReferringTables
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.geometry.rasterise import rle_to_mask
from stages.prepare_data import Config, run

HEADER = ["image", "phrase", "x1", "y1", "x2", "y2", "split", "mask"]
ROWS: list[list[Any]] = [
    ["a.jpg", "the red mug", 2, 2, 12, 12, "train", "masks/a.png"],
    ["a.jpg", "mug, left", 2, 2, 12, 12, "", ""],
    ["b.png", "a box", 5.5, 4.5, 15.5, 12.5, "train", ""],
    ["sub/c.jpg", "thé table", 0, 0, 32, 24, "val", "masks/c.json"],
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / "masks").mkdir()
    for k, name in enumerate(("a.jpg", "b.png", "sub/c.jpg")):
        cv2.imwrite(str(folder / name), np.full((24, 32, 3), 40 * k, np.uint8))
    mask = np.zeros((24, 32), np.uint8)
    mask[2:12, 2:12] = 255
    cv2.imwrite(str(folder / "masks/a.png"), mask)
    (folder / "masks/c.json").write_text(json.dumps([[0, 0, 32, 0, 32, 24, 0, 24]]))
    return folder


def write_csv(
    folder: Path,
    rows: Sequence[Sequence[Any]] = ROWS,
    header: Sequence[str] = HEADER,
    name: str = "photos.csv",
) -> Path:
    with open(folder / name, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter="\t" if name.endswith("tsv") else ",").writerows([header, *rows])
    return folder / name


def write_lines(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    (folder / "photos.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return folder / "photos.jsonl"


def as_dicts(rows: Sequence[Sequence[Any]] = ROWS) -> list[dict[str, Any]]:
    return [{k: v for k, v in zip(HEADER, row, strict=True) if v != ""} for row in rows]


def read(path: Path, **options: Any) -> ReferringTables:
    return read_table(open_table(path, None, None), None, **options)


def changed(row: int, column: str, value: Any) -> list[list[Any]]:
    rows = [list(r) for r in ROWS]
    rows[row][HEADER.index(column)] = value
    return rows


def test_all_formats_say_the_same(photos: Path) -> None:
    tables = [
        read(path)
        for path in (
            write_csv(photos),
            write_csv(photos, name="photos.tsv"),
            write_lines(photos, as_dicts()),
        )
    ]
    for t in tables:
        assert (t.name, t.by, t.split_names) == ("photos", "table", ["train", "val"])
        assert t.texts == ["the red mug", "mug, left", "a box", "thé table"]
        assert t.sentence_offsets.tolist() == [0, 2, 3, 4]  # two phrases of one object
        assert t.boxes_xyxy.tolist() == [[2, 2, 12, 12], [5.5, 4.5, 15.5, 12.5], [0, 0, 32, 24]]
        assert t.image_files == ["a.jpg", "b.png", "sub/c.jpg"]
        assert t.image_sizes_hw.tolist() == [[24, 32]] * 3
        assert t.has_mask.tolist() == [True, False, True]
        assert [rle_to_mask({"size": [24, 32], "counts": r}).sum() for r in t.rles if r] == [100, 768]
    assert len({tuple(t.ref_ids.tolist()) for t in tables}) == 1
    assert len({tuple(t.sentence_ids.tolist()) for t in tables}) == 1


def test_boxes_alone_are_enough(photos: Path, tmp_path: Path) -> None:
    path = write_csv(photos, [row[:6] for row in ROWS], HEADER[:6])
    result = run(Config(source="table", root=str(path)), out=tmp_path / "d.h5")
    assert result.summary["splits"]["train"] == {"images": 3, "referents": 3, "sentences": 4, "with_mask": 0}
    assert verify_artifact(tmp_path / "d.h5") == []
    assert ReferringDataset.open(tmp_path / "d.h5").image(0).shape == (24, 32, 3)


def test_masks_and_categories_written_into_json_lines(photos: Path) -> None:
    rows = as_dicts()
    rows[2] |= {"mask": [[5, 4, 15, 4, 15, 12, 5, 12]], "category": "box"}
    tables = read(write_lines(photos, rows))
    assert tables.has_mask.all()
    assert tables.category_names == ["box"]
    assert tables.category_index.tolist() == [-1, 0, -1]


def test_changed_masks_make_the_dataset_stale(photos: Path, tmp_path: Path) -> None:
    config, out = Config(source="table", root=str(write_csv(photos))), tmp_path / "d.h5"
    run(config, out=out)
    assert run(config, out=out).status == "up-to-date"
    cv2.imwrite(str(photos / "masks/a.png"), np.full((24, 32), 255, np.uint8))
    with pytest.raises(StaleOutputError) as caught:
        run(config, out=out)
    assert caught.value.facts[0].startswith("masks: ")
    run(config, out=out, options=RunOptions(force=True))
    assert ReferringDataset.open(out, masks="all").mask(0).sum() == 24 * 32


def test_missing_and_broken_pictures_are_listed_at_once(photos: Path, tmp_path: Path) -> None:
    path = write_csv(photos)
    (photos / "a.jpg").unlink()
    (photos / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ArtifactError, match="2 of 3 images are missing or unreadable") as caught:
        run(Config(source="table", root=str(path)), out=tmp_path / "d.h5")
    assert caught.value.facts[0].startswith("a.jpg: no such file")
    assert caught.value.facts[1:] == ("b.png: cannot be decoded: its end is missing",)
    summary = run(Config(source="table", root=str(path), skip_missing=True), out=tmp_path / "d.h5").summary
    assert summary["splits"]["total"]["referents"] == 1
    assert summary["notices"]["images left out"] == 2


def test_pictures_elsewhere(photos: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path, [row[:6] for row in ROWS], HEADER[:6])
    summary = run(Config(source="table", root=str(table), images=str(photos)), out=tmp_path / "d.h5").summary
    assert summary["splits"]["total"]["images"] == 3


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (2, "phrase", "  ", "empty expression"),
        (2, "image", "", "no image"),
        (2, "x1", "left", "x1 is 'left', not a number"),
        (2, "x1", "nan", "no x1: a box is needed"),
        (2, "x1", "", "no x1: a box is needed"),
        (2, "x2", 1, "has no area (x1, y1, x2, y2): it reads as x, y, width, height, so add x"),
        (2, "x2", -1, "has no area"),
        (2, "x2", 99, "lies outside its 32x24 image"),
        (2, "split", "a\tb", "split is"),
        (2, "mask", "masks/none.png", "mask masks/none.png: no such file"),
        (2, "mask", "masks/none.json", "no such file"),
        (2, "mask", "masks/mask.tif", "neither a PNG nor a JPEG nor a JSON file"),
        (2, "mask", "masks/large.png", "is 64x48, its picture 32x24"),
        (2, "mask", "masks/bomb.png", "is 60000x60000"),
        (2, "mask", "masks/cut.png", "cannot be decoded"),
        (2, "mask", "masks/text.png", "is no PNG"),
        (2, "mask", "masks/bad.json", "no valid JSON"),
        (2, "mask", "masks/form.json", "segmentation must be polygons"),
    ],
)
def test_bad_lines_are_named_by_number(photos: Path, row: int, column: str, value: Any, message: str) -> None:
    cv2.imwrite(str(photos / "masks/large.png"), np.zeros((48, 64), np.uint8))
    whole = (photos / "masks/a.png").read_bytes()
    (photos / "masks/cut.png").write_bytes(whole[:40])
    side = (60_000).to_bytes(4)
    (photos / "masks/bomb.png").write_bytes(whole[:16] + side + side + whole[24:])
    (photos / "masks/text.png").write_bytes(b"no picture")
    (photos / "masks/mask.tif").write_bytes(b"II*\0")
    (photos / "masks/bad.json").write_text("[[1, 2")
    (photos / "masks/form.json").write_text('"x"')
    path = write_csv(photos, changed(row, column, value))
    with pytest.raises(ArtifactError, match="1 invalid entry") as caught:
        read(path)
    assert caught.value.facts[0].startswith(f"line {row + 2}: ")
    assert message in caught.value.facts[0]
    assert "--skip-invalid" in str(caught.value.hint)
    assert len(read(path, skip_invalid=True).texts) == 3


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/passwd"])
@pytest.mark.parametrize("column", ["image", "mask"])
def test_names_stay_in_their_folder(photos: Path, tmp_path: Path, name: str, column: str) -> None:
    path = write_csv(photos, changed(2, column, name))
    with pytest.raises(ArtifactError, match="leaves the image folder"):
        run(
            Config(source="table", root=str(path), skip_invalid=True, skip_missing=True),
            out=tmp_path / "d.h5",
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\n", "has no column image, expression"),
        (b"image,phrase,x1,y1,x2,y2\n", "no line with an object"),
        (b"image,text,x1,y1,x2,y2\na.jpg,mug,1,1,2,2\n", "has no column expression"),
        (b"image,phrase,x1,y1,x2,y2,x1\n", "two columns of one name"),
        (b"image,phrase,x1,y1,x2,y2\na.jpg,mug, left,1,1,2,2\n", "line 2: 7 values for 6 columns"),
        (b'image,phrase,x1,y1,x2,y2\na.jpg,"mug,1,1,2,2\n', "line 2: a quote is opened and never closed"),
        (b"image,phrase,x1,y1,x2,y2\n\xff\xfe,1,1,1,2,2\n", "is not UTF-8 text"),
    ],
)
def test_tables_that_cannot_be_read(photos: Path, content: bytes, message: str) -> None:
    (photos / "photos.csv").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read(photos / "photos.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]\n", "line 1: not an object"),
        ('{"image": "a.jpg"\n', "line 1: no valid JSON"),
        ('{"image": "a.jpg", "x": 1}\n', "has no column expression, x1"),
    ],
)
def test_json_lines_that_cannot_be_read(photos: Path, content: str, message: str) -> None:
    (photos / "p.jsonl").write_text(content)
    with pytest.raises(ArtifactError, match=message):
        read(photos / "p.jsonl")


def test_other_files(photos: Path, tmp_path: Path) -> None:
    for path in (photos, photos / "a.jpg"):
        with pytest.raises(UsageError, match="is no table"):
            open_table(path, None, None)
    with pytest.raises(ArtifactError, match="no such file"):
        open_table(tmp_path / "absent.csv", None, None)


def test_a_byte_order_mark_and_windows_lines(photos: Path) -> None:
    path = write_csv(photos)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read(path).texts) == 4
