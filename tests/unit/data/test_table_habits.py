"""What spreadsheets, pandas and annotation tools do to a table: undone, or named with the line where it begins."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.data.photographs import requests_of_table
from stages.data.readers.table import read_table
from stages.data.readers.table_file import open_table
from stages.data.readers.tables import ReferringTables
from stages.data.readers.values import is_nothing, label_of, text_of
from stages.errors import ArtifactError
from stages.geometry.rasterise import rle_area

HEAD = "image,phrase,x1,y1,x2,y2,split,mask"
LINE = "a.png,the mug,2,2,12,12,val,m.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((24, 32, 3), 90, np.uint8))
    mask = np.zeros((24, 32), np.uint8)
    mask[2:12, 2:12] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    return tmp_path


def read(path: Path, **options: Any) -> ReferringTables:
    return read_table(open_table(path), None, **options)


def is_the_mug(t: ReferringTables) -> bool:
    return (
        (t.texts, t.split_names, t.has_mask.tolist()) == (["the mug"], ["val"], [True])
        and t.boxes_xyxy.tolist() == [[2, 2, 12, 12]]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("t.csv", f"{HEAD}\n{LINE}\n", "utf-8-sig"),
        ("t.csv", f"{HEAD}\r\n{LINE}\r\n", "utf-16"),
        ("t.csv", f"{HEAD}\n{LINE}\n".replace(",", ";"), "utf-8-sig"),
        ("t.csv", f"sep=;\n{HEAD}\n{LINE}\n".replace(",", ";"), "utf-8-sig"),
        ("t.csv", f"{HEAD}\n{LINE}\n".replace(",", "\t"), "utf-16"),
        ("t.csv", f"{HEAD},,,\n{LINE},,,\n,,,,,,,,,,\n", "utf-8"),
        ("t.csv", f"{HEAD},note,\n{LINE}\n", "utf-8"),  # the last empty cells of a line are dropped
        ("t.csv", f"{HEAD}\n{LINE},,\n", "utf-8"),
        ("t.csv", f",{HEAD}\n0,{LINE}\n", "utf-8"),  # the index of pandas
        ("t.csv", f"{HEAD}\n{LINE.replace('2,2,12,12', '2.0,2.00, 12 ,1.2e1')}\n", "utf-8"),
    ],
)
def test_spreadsheets_save_the_same_table(folder: Path, name: str, text: str, encoding: str) -> None:
    (folder / name).write_text(text, encoding=encoding, newline="")
    assert is_the_mug(read(folder / name))


def test_byte_order_marks_of_json(folder: Path) -> None:
    row = {"image": "a.png", "phrase": "the mug", "x1": 2, "y1": 2, "x2": 12, "y2": 12, "split": "val"}
    (folder / "m.json").write_text(json.dumps([[2, 2, 12, 2, 12, 12, 2, 12]]), encoding="utf-8-sig")
    for encoding in ("utf-8-sig", "utf-16"):
        (folder / "t.jsonl").write_text(json.dumps({**row, "mask": "m.json"}), encoding=encoding)
        assert is_the_mug(read(folder / "t.jsonl"))


@pytest.mark.parametrize("nothing", ["", " ", "NaN", "nan", "None", "null", "NULL", "<NA>", "N/A", "#N/A"])
def test_nothing_is_nothing_in_every_column(folder: Path, nothing: str) -> None:
    head = f"{HEAD},category,mask_value"
    (folder / "t.csv").write_text(
        f"{head}\na.png,the mug,2,2,12,12,{nothing},{nothing},{nothing},{nothing}\n"
    )
    t = read(folder / "t.csv")
    assert (t.split_names, t.has_mask.tolist(), t.category_names) == (["train"], [False], [])
    for line in (f"a.png,{nothing},2,2,12,12,,,,", f"{nothing},mug,2,2,12,12,,,,"):
        (folder / "t.csv").write_text(f"{head}\n{line}\n")
        with pytest.raises(ArtifactError, match=r"empty expression|no image"):
            read(folder / "t.csv")
    (folder / "t.csv").write_text(f"image,phrase,x1,y1,x2,y2\na.png,mug,{','.join([nothing] * 4)}\n")
    assert requests_of_table(folder / "t.csv")[0].box_xyxy is None


def test_nothing_in_json_lines(folder: Path) -> None:
    row = {"image": "a.png", "phrase": "the mug", "x1": 2, "y1": 2, "x2": 12, "y2": 12}
    for nothing in (None, float("nan"), "", []):
        (folder / "t.jsonl").write_text(json.dumps({**row, "split": None, "mask": nothing, "category": None}))
        assert read(folder / "t.jsonl").has_mask.tolist() == [False]
    (folder / "t.jsonl").write_text(json.dumps({**row, "phrase": float("nan")}))
    with pytest.raises(ArtifactError, match="empty expression"):
        read(folder / "t.jsonl")


def test_labels_that_are_numbers(folder: Path) -> None:
    assert [label_of(v) for v in (3, 3.0, "3.0", "3", " a ", True, None)] == [
        "3",
        "3",
        "3",
        "3",
        "a",
        "True",
        "",
    ]
    assert text_of("none of the cups") == "none of the cups"
    assert is_nothing(float("nan"))
    assert not is_nothing(0)
    row = {"image": "a.png", "phrase": "the mug", "x1": 2, "y1": 2, "x2": 12, "y2": 12, "category": 7}
    (folder / "t.jsonl").write_text(json.dumps(row))
    assert read(folder / "t.jsonl").category_names == ["7"]


def test_a_quote_that_is_never_closed_is_named_where_it_opens(folder: Path) -> None:
    lines = [f"a.png,mug {k},2,2,12,12,," for k in range(20)]
    lines[1] = 'a.png,"mug 1,2,2,12,12,,'
    (folder / "t.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    with pytest.raises(ArtifactError, match=r"t\.csv line 3: a quote is opened and never closed") as caught:
        read(folder / "t.csv")
    assert caught.value.facts == ("read on to line 21",)
    lines[9] = 'a.png,"mug, left",2,2,12,12,,'  # meets another quote
    (folder / "t.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    with pytest.raises(ArtifactError, match=r"t\.csv line 3: "):
        read(folder / "t.csv")


def test_lines_after_a_phrase_of_two_lines_keep_their_numbers(folder: Path) -> None:
    (folder / "t.csv").write_text(
        f'{HEAD}\na.png,"the mug\non the left",2,2,12,12,,\n\na.png,far,50,2,60,9,,\n'
    )
    with pytest.raises(ArtifactError, match="1 invalid entry") as caught:
        read(folder / "t.csv")
    assert caught.value.facts[0].startswith("line 5: box (50")
    assert read(folder / "t.csv", skip_invalid=True).texts == ["the mug\non the left"]


def test_a_table_linked_into_a_store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Names are relative to where the table is seen; else to where it lies."""
    store = tmp_path_factory.mktemp("store")
    (store / "8f3a.csv").write_text(f"{HEAD}\n{LINE}\n")
    os.symlink(store / "8f3a.csv", folder / "t.csv")
    assert is_the_mug(read(folder / "t.csv"))
    assert open_table(folder / "t.csv").mask_files() == (folder / "m.png",)
    assert requests_of_table(folder / "t.csv")[0].path == folder / "a.png"
    (elsewhere := store / "work").mkdir()
    (folder / "real.csv").write_text(f"{HEAD}\n{LINE}\n")
    os.symlink(folder / "real.csv", elsewhere / "t.csv")
    assert is_the_mug(read(elsewhere / "t.csv"))


@pytest.mark.parametrize(
    "cell",
    [
        "[[2,2],[12,2],[12,12],[2,12]]",
        '{"points": [[2,2],[12,2],[12,12],[2,12]]}',
        '[{"x":2,"y":2},{"x":12,"y":2},{"x":12,"y":12},{"x":2,"y":12}]',
    ],
)
def test_a_polygon_written_into_a_cell_or_a_file(folder: Path, cell: str) -> None:
    (folder / "m.json").write_text(cell)
    quoted = '"' + cell.replace('"', '""') + '"'
    for mask in ("m.json", quoted):
        (folder / "t.csv").write_text(f"{HEAD}\na.png,the mug,2,2,12,12,val,{mask}\n")
        t = read(folder / "t.csv")
        assert is_the_mug(t)
        assert rle_area({"size": [24, 32], "counts": t.rles[0]}) == 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"version": "5", "shapes": [{}, {}], "imagePath": "a.png"}, "is a LabelMe file with 2 shapes"),
        ({"images": [], "annotations": [{}]}, "is a COCO file with 1 annotations"),
        ({"type": "FeatureCollection", "features": []}, "is GeoJSON"),
        ({"label": "mug"}, "got an object with label"),
    ],
)
def test_files_of_whole_pictures_are_said_as_what_they_are(
    folder: Path, content: dict[str, Any], message: str
) -> None:
    (folder / "m.json").write_text(json.dumps(content))
    (folder / "t.csv").write_text(f"{HEAD}\na.png,the mug,2,2,12,12,val,m.json\n")
    with pytest.raises(ArtifactError, match="1 invalid entry") as caught:
        read(folder / "t.csv")
    assert message in caught.value.facts[0]


def test_a_mask_of_several_objects_in_the_table(folder: Path) -> None:
    values = np.zeros((24, 32), np.uint8)
    values[2:12, 2:12], values[4:8, 4:8] = 1, 2
    cv2.imwrite(str(folder / "ids.png"), values)
    head = f"{HEAD},mask_value"
    for cells, size in (("ids.png#1,", 84), ("ids.png,2", 16), ("ids.png,2.0", 16), ("ids.png#2,2", 16)):
        (folder / "t.csv").write_text(f"{head}\na.png,mug,2,2,12,12,,{cells}\n")
        table = open_table(folder / "t.csv")
        assert rle_area({"size": [24, 32], "counts": read_table(table, None).rles[0]}) == size
        assert table.mask_files() == (folder / "ids.png",)
    for cells, message in (("ids.png,", "say which one is meant"), ("ids.png#1,2", "say two values")):
        (folder / "t.csv").write_text(f"{head}\na.png,mug,2,2,12,12,,{cells}\n")
        with pytest.raises(ArtifactError, match=message):
            read(folder / "t.csv")
    (folder / "m.png").rename(folder / "m#1.png")  # a name may have a #
    (folder / "t.csv").write_text(f"{head}\na.png,the mug,2,2,12,12,val,m#1.png,\n")
    assert is_the_mug(read(folder / "t.csv"))


def test_masks_without_a_pixel_are_named(folder: Path) -> None:
    cv2.imwrite(str(folder / "m.png"), np.zeros((24, 32), np.uint8))
    (folder / "t.csv").write_text(f"{HEAD}\n{LINE}\n")
    t = read(folder / "t.csv")
    assert t.notices == {"masks without a pixel, taken as box only": 1}
    assert t.examples == {"masks without a pixel, taken as box only": ["line 2: mask m.png"]}


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (
            "file_name,caption,xmin,ymin,xmax,ymax",
            "rename 'file_name' to 'image', 'caption' to 'expression', 'xmin' to 'x1'",
        ),
        ("Image,Phrase,X1,Y1,X2,Y2", "rename 'Image' to 'image'"),
        ("image,phrase,x,y,w,h", "x2 = x1 + width"),  # never: rename x to x1
        ("image,phrase,bbox", "give the box as corners"),
    ],
)
def test_columns_of_other_tools_are_told_by_ours(folder: Path, columns: str, hint: str) -> None:
    (folder / "t.csv").write_text(columns + "\na.png,mug,1,1,2,2\n")
    with pytest.raises(ArtifactError, match="has no column") as caught:
        read(folder / "t.csv")
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x93NUMPY\x01\0", "an array of numpy"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"<?xml version='1.0'?><annotation>", "annotations of Pascal VOC"),
        (b"GIF89a", "no PNG"),
    ],
)
def test_masks_that_are_no_pictures_of_masks(folder: Path, content: bytes, what: str) -> None:
    (folder / "m.png").write_bytes(content)
    (folder / "t.csv").write_text(f"{HEAD}\n{LINE}\n")
    with pytest.raises(ArtifactError, match=f"line 2: mask m.png is {what}"):
        read(folder / "t.csv")
    (folder / "m.png").rename(folder / "M.PNG")
    with pytest.raises(ArtifactError, match=r"line 2: mask m.png: no such file, there is M.PNG"):
        read(folder / "t.csv")


def test_what_predict_writes_is_a_table(folder: Path) -> None:
    mask = {"size": [24, 32], "counts": [50, 10, *[14, 10] * 9, 492]}
    good = {"image": "a.png", "phrase": "the mug", "box_xyxy": [2, 2, 12, 12], "mask": mask, "area": 100}
    rows = [
        {**good, "split": "val"},
        {**good, "box_xyxy": None},
        {**good, "box_xyxy": [3, 3, 3, 3], "area": 0},  # of the first versions
    ]
    (folder / "p.json").write_text(json.dumps({"format": "seqres-predictions", "predictions": rows}))
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("p.json", "p.jsonl"):
        t = read(folder / name)
        assert is_the_mug(t)
        assert t.notices == {"predictions without an object left out": 2}
    whole = {**good, "image": str(folder / "a.png"), "split": "val"}
    (folder / "p.json").write_text(json.dumps({"predictions": [whole]}))
    assert is_the_mug(read(folder / "p.json"))  # a whole path below the folder
    (folder / "p.json").write_text('{"a": 1}')
    with pytest.raises(ArtifactError, match=r"p\.json is no table"):
        read(folder / "p.json")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "image,expression,x1,y1,x2,y2\na.jpg,red,1,1,2,2\n", "red"),
        ("a.csv", "image;phrase;x1;y1;x2;y2\na.jpg;red;1;1;2;2\n", "red"),
        ("a.csv", "image,phrase,expression,x1,y1,x2,y2\na.jpg,old,red,1,1,2,2\n", "red"),
        ("a.jsonl", '{"image": "a.jpg", "phrase": "red", "box_xyxy": [1, 1, 2, 2]}\n', "red"),
        ("a.json", '[{"image": "a.jpg", "expression": "red", "box_xyxy": [1, 1, 2, 2]}]', "red"),
    ],
)
def test_expressions_may_stand_under_their_former_name(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    ((_, row),) = open_table(tmp_path / name).lines
    assert row["expression"] == said
