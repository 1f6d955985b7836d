"""Ids follow from content: what people do to a list in the meantime does not make them mean other objects."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.data.readers.ids import content_id, distinct_ids
from stages.data.readers.table import read_table
from stages.data.readers.table_file import open_table
from stages.data.readers.tables import ReferringTables

HEAD = "image,phrase,x1,y1,x2,y2,split,mask"
LINES = [
    "a.png,the red mug,2,2,12,12,train,",
    "a.png,the spoon,14,3,30,9,train,",
    "b.png,a bowl,5.5,4.5,15.5,12.5,val,",
    "c.png,a plate,0,0,32,24,train,",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, name in enumerate("abc"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((24, 32, 3), 40 * k, np.uint8))
    for k in (1, 2):
        mask = np.zeros((24, 32), np.uint8)
        mask[2:12, 2 : 12 // k] = 255
        cv2.imwrite(str(tmp_path / f"m{k}.png"), mask)
    return tmp_path


def read(folder: Path, *lines: str, head: str = HEAD) -> ReferringTables:
    (folder / "t.csv").write_text("\n".join([head, *lines]) + "\n")
    return read_table(open_table(folder / "t.csv"), None)


def ids(t: ReferringTables) -> dict[str, int]:
    """First phrase -> ref id."""
    return {t.texts[o]: i for o, i in zip(t.sentence_offsets.tolist(), t.ref_ids.tolist(), strict=False)}


def test_sorting_and_new_lines_keep_all_ids(folder: Path) -> None:
    first = read(folder, *LINES)
    turned = read(folder, *reversed(LINES))
    for name in ("ref_ids", "image_ids", "sentence_ids", "image_files", "texts", "boxes_xyxy", "rles"):
        assert np.array_equal(getattr(first, name), getattr(turned, name)), name
    more = read(folder, "a.png,new,20,10,30,20,train,", *LINES)
    assert ids(first).items() <= ids(more).items()


def test_editing_keeps_the_id(folder: Path) -> None:
    known = ids(read(folder, *LINES))
    edited = [LINES[0].replace("red mug", "dark red mug"), *LINES[1:]]
    assert ids(read(folder, *edited))["the dark red mug"] == known["the red mug"]
    masked = [LINES[0] + "m1.png", *LINES[1:]]
    assert ids(read(folder, *masked)) == known
    moved = [LINES[0].replace("train", "val"), *LINES[1:]]
    assert ids(read(folder, *moved))["the red mug"] == known["the red mug"]
    spelt = [LINES[0].replace("a.png", "./a.png").replace(",2,2,12,12", ",2.0,2.00,12,1.2e1"), *LINES[1:]]
    assert ids(read(folder, *spelt)) == known


def test_ids_fit_every_program_that_they_pass_through(folder: Path) -> None:
    made = read(folder, *LINES)
    for values in (made.ref_ids, made.image_ids, made.sentence_ids):
        assert len(np.unique(values)) == len(values)
        assert ((values >= 10**10) & (values < 10**11)).all()  # spreadsheets show eleven digits


def test_collisions_end_the_same_in_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert content_id("a") == content_id("a") != content_id("b")
    monkeypatch.setattr("stages.data.readers.ids._COUNT", 3)
    keys = [("a",), ("b",), ("c",)]
    made = distinct_ids(keys)
    assert sorted(made) == [10**10, 10**10 + 1, 10**10 + 2]
    assert distinct_ids(keys[::-1]) == made[::-1]


def test_one_box_with_two_masks_is_two_objects(folder: Path) -> None:
    core, edge = "a.png,core,2,2,12,12,train,m2.png", "a.png,rim,2,2,12,12,train,m1.png"
    made = read(folder, core, edge)
    assert len(made.ref_ids) == 2
    assert ids(read(folder, edge, core)) == ids(made)
    again = read(folder, core, edge, "a.png,inner part,2,2,12,12,train,m2.png")
    assert sorted(np.diff(again.sentence_offsets).tolist()) == [1, 2]
    assert sorted(again.ref_ids.tolist()) == sorted(made.ref_ids.tolist())


def test_a_line_without_a_mask_joins_the_only_one_of_its_box(folder: Path) -> None:
    for lines in (("", "m1.png"), ("m1.png", ""), ("m1.png", "./m1.png")):
        made = read(folder, *(f"a.png,mug {k},2,2,12,12,train,{m}" for k, m in enumerate(lines)))
        assert (len(made.ref_ids), made.has_mask.tolist(), made.texts) == (1, [True], ["mug 0", "mug 1"])
    with pytest.raises(Exception, match="invalid entry") as caught:
        read(folder, *(f"a.png,mug,2,2,12,12,train,{m}" for m in ("m1.png", "m2.png", "")))
    assert "line 4: 2 objects with their own masks have this box" in str(caught.value)


def test_one_picture_under_many_names(folder: Path) -> None:
    os.symlink("a.png", folder / "link.png")
    os.link(folder / "a.png", folder / "hard.png")
    (folder / "sub").mkdir()
    names = ["link.png", "./a.png", "sub/../a.png", "hard.png", "a.png", ".//a.png"]
    lines = [f"{name},the mug {k},2,2,12,12,train," for k, name in enumerate(names)]
    for made in (read(folder, *lines), read(folder, *reversed(lines))):
        assert (made.image_files, len(made.ref_ids), len(made.texts)) == (["a.png"], 1, 6)
        assert made.notices["names that mean a picture of another name"] == 2
        assert made.examples["names that mean a picture of another name"][0] == "hard.png is a.png"
    assert ids(read(folder, lines[4]))["the mug 4"] == made.ref_ids[0]


def test_the_same_line_twice_is_one(folder: Path) -> None:
    made = read(folder, LINES[0], LINES[0])
    assert (made.texts, made.notices) == (["the red mug"], {"lines left out that repeat another one": 1})
