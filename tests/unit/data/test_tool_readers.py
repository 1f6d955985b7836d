"""What LabelMe and Label Studio save, and folders of masks: shapes, phrases, names of pictures, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.data.dataset import ReferringDataset
from stages.data.readers import export_names
from stages.data.readers.export_names import spellings
from stages.errors import ArtifactError
from stages.prepare_data import Config, run
from tests.oracles.tool_files import (
    SIZE_HW,
    block,
    brush_bits,
    picture,
    png_text,
    ring_with_hole,
    write_json,
)

SQUARE = [[10, 5], [30, 5], [30, 20], [10, 20]]


def prepared(source: Any, root: Path, **options: Any) -> ReferringDataset:
    out = root.parent / f"{root.name}-{len(list(root.parent.iterdir()))}.h5"
    return ReferringDataset.open(
        run(Config(source=source, root=str(root), **options), out=out).path, masks="all"
    )


def masks_of(data: ReferringDataset) -> dict[str, Any]:
    """First text of each referent -> its mask."""
    first = data.sentence_offsets[:-1]
    return {data.texts[s]: data.mask(r) if data.has_mask[r] else None for r, s in enumerate(first)}


# ---------------------------------------------------------------- LabelMe


def labelme(folder: Path, *shapes: dict[str, Any], name: str = "a", **more: Any) -> Path:
    picture(folder / f"{name}.png")
    size = {"imageHeight": SIZE_HW[0], "imageWidth": SIZE_HW[1]}
    shapes_ = [{"label": "mug", "shape_type": "polygon", "group_id": None, "flags": {}, **s} for s in shapes]
    return write_json(
        folder / f"{name}.json", {"imagePath": f"{name}.png", **size, "shapes": shapes_, **more}
    )


def test_labelme_shapes_are_masks_and_boxes(tmp_path: Path) -> None:
    root = tmp_path / "set"
    labelme(
        root,
        {"points": SQUARE, "description": "the red mug\nmug on the left"},
        {"points": [[40, 8], [50, 18]], "shape_type": "rectangle", "label": "cup"},
        {"points": [[30.0, 30.0], [30.0, 36.0]], "shape_type": "circle", "label": "plate"},
        {"points": [[5, 5], [49, 29]], "shape_type": "mask", "label": "ring",
         "mask": png_text(ring_with_hole()[5:30, 5:50])},
        {"points": [[1, 1]], "shape_type": "point", "label": "dot"},
    )  # fmt: skip
    data = prepared("labelme", root)
    masks = masks_of(data)
    assert (masks["the red mug"] == block(10, 5, 30, 20)).all()
    assert "mug on the left" in data.texts and sorted(data.categories) == ["cup", "mug", "plate", "ring"]
    assert masks["cup"] is None
    assert [40, 8, 50, 18] in data.boxes_xyxy.tolist()
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    assert (masks["plate"] != ((x - 30) ** 2 + (y - 30) ** 2 <= 36)).sum() <= 2
    assert (masks["ring"] == ring_with_hole()).all()


def test_labelme_groups_are_parts_of_one_object(tmp_path: Path) -> None:
    root = tmp_path / "set"
    right = [[40, 5], [50, 5], [50, 20], [40, 20]]
    labelme(
        root,
        {"points": SQUARE, "group_id": 1, "description": "two halves"},
        {"points": right, "group_id": 1},
        {"points": right, "group_id": 1, "label": "other"},
    )
    data = prepared("labelme", root)
    assert (masks_of(data)["two halves"] == (block(10, 5, 30, 20) | block(40, 5, 50, 20))).all()
    assert len(data.ref_ids) == 2


def test_labelme_folders_and_flags_are_splits(tmp_path: Path) -> None:
    root = tmp_path / "set"
    labelme(root / "train", {"points": SQUARE}, name="a")
    labelme(root / "val", {"points": SQUARE}, name="b")
    labelme(root / "train", {"points": SQUARE}, name="c", flags={"test": True, "blurred": False})
    data = prepared("labelme", root)
    assert data.split_names == ["train", "val", "test"]
    assert data.image_files == ["train/a.png", "val/b.png", "train/c.png"]


def test_labelme_names_of_another_machine_are_found(tmp_path: Path) -> None:
    root = tmp_path / "set"
    path = labelme(root / "json", {"points": SQUARE})
    path.write_text(path.read_text().replace('"a.png"', '"..\\\\photos\\\\a.png"'))
    (root / "photos").mkdir()
    (root / "json/a.png").rename(root / "photos/a.png")
    assert prepared("labelme", root).image_files == ["photos/a.png"]


def test_a_name_of_many_folders_is_not_followed_end_by_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may mean any of its 3,000 ends; following each through links took more than 5 s."""
    followed: list[str] = []
    real = export_names.path_below
    monkeypatch.setattr(
        export_names, "path_below", lambda root, name: followed.append(name) or real(root, name)
    )
    path = labelme(tmp_path / "set", {"points": SQUARE})
    path.write_text(path.read_text().replace('"a.png"', json.dumps("a/" * 3000)))
    with pytest.raises(ArtifactError):
        prepared("labelme", tmp_path / "set")
    assert len(followed) < 3


def test_a_labelme_name_with_half_a_character_is_told(tmp_path: Path) -> None:
    path = labelme(tmp_path / "set", {"points": SQUARE})
    path.write_text(path.read_text().replace("a.png", "\\ud800"))
    with pytest.raises(ArtifactError, match="half a character"):
        prepared("labelme", tmp_path / "set")


def test_labelme_errors_name_file_and_shape(tmp_path: Path) -> None:
    root = tmp_path / "set"
    labelme(root, {"points": SQUARE}, {"points": [[1, 1], [5, 5]]}, {"points": SQUARE, "label": ""}, name="a")
    labelme(
        root, {"points": SQUARE, "shape_type": "spiral"}, {"points": [["x", 1], [2, 2], [3, 3]]}, name="b"
    )
    labelme(root, {"points": SQUARE}, name="c", imageHeight=41)
    write_json(root / "d.json", {"version": "x"})
    with pytest.raises(ArtifactError, match="5 invalid entries") as caught:
        prepared("labelme", root)
    assert list(caught.value.facts) == [
        "a.json shapes[1]: a polygon with 2 points",
        "b.json shapes[0]: a shape of the type 'spiral', which is not read",
        "b.json shapes[1]: polygon must be a flat list of numbers, got 'x'",
        "a.json shapes[2]: empty expression",
        "c.json shapes[0]: annotated at 60x41, but c.png is 60x40",
    ]


# ---------------------------------------------------------------- Label Studio


def region(identity: str, kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    size = {"original_width": SIZE_HW[1], "original_height": SIZE_HW[0], "image_rotation": 0}
    return {
        "id": identity,
        "type": kind,
        "from_name": kind,
        "to_name": "image",
        "value": value,
        **size,
        **more,
    }


def text(identity: str, *words: str) -> dict[str, Any]:
    return {"id": identity, "type": "textarea", "value": {"text": list(words)}}


def percent(points: list[list[float]]) -> list[list[float]]:
    return [[x * 100 / SIZE_HW[1], y * 100 / SIZE_HW[0]] for x, y in points]


def export(tmp_path: Path, *results: dict[str, Any], name: str = "/data/upload/1/0a1b2c3d-a.png") -> Path:
    picture(tmp_path / "images/a.png")
    task = {"id": 1, "data": {"image": name}, "annotations": [{"id": 1, "result": list(results)}]}
    return write_json(tmp_path / "export.json", [task])


@pytest.mark.parametrize("literal", [False, True], ids=["runs", "bytes"])
def test_label_studio_regions_are_masks_and_boxes(tmp_path: Path, literal: bool) -> None:
    path = export(
        tmp_path,
        region("p", "polygonlabels", {"points": percent(SQUARE), "polygonlabels": ["mug"]}),
        text("p", "the red mug", "mug on the left"),
        region("r", "rectanglelabels", {"x": 50, "y": 25, "width": 25, "height": 50, "rectanglelabels": ["cup"]}),
        {"id": "r", "type": "choices", "value": {"choices": ["the broken cup"]}},
        region("b", "brushlabels",
               {"format": "rle", "rle": brush_bits(ring_with_hole(), literal), "brushlabels": ["ring"]}),
        region("e", "ellipselabels",
               {"x": 50, "y": 50, "radiusX": 10, "radiusY": 25, "rotation": 90, "ellipselabels": ["egg"]}),
        region("k", "keypointlabels", {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["dot"]}),
    )  # fmt: skip
    data = prepared("labelstudio", path)
    masks = masks_of(data)
    assert data.image_files == ["images/a.png"] or data.image_files == ["a.png"]
    assert (masks["the red mug"] == block(10, 5, 30, 20)).all() and "mug on the left" in data.texts
    assert masks["the broken cup"] is None and [30, 10, 45, 30] in data.boxes_xyxy.tolist()
    assert (masks["ring"] == ring_with_hole()).all()
    # radii of 6 and 10 pixels, turned by a quarter: 10 across, 6 up
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    assert (masks["egg"] != (((x - 30) / 10) ** 2 + ((y - 20) / 6) ** 2 <= 1)).sum() <= 4
    assert set(data.categories) == {"mug", "cup", "ring", "egg"}


def test_label_studio_turned_rectangles_are_their_hull(tmp_path: Path) -> None:
    turned = {"x": 50, "y": 25, "width": 20, "height": 25, "rotation": 90, "rectanglelabels": ["mug"]}
    data = prepared("labelstudio", export(tmp_path, region("r", "rectanglelabels", turned)))
    # 12 wide and 10 high, turned clockwise about (30, 10)
    assert data.boxes_xyxy.round(6).tolist() == [[20, 10, 30, 22]]


def test_label_studio_takes_the_ground_truth_or_the_newest(tmp_path: Path) -> None:
    def annotation(words: str, **more: Any) -> dict[str, Any]:
        box = region("r", "rectanglelabels", {"x": 10, "y": 10, "width": 20, "height": 20})
        return {"result": [box, text("r", words)], **more}

    def tasks(*annotations: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"data": {"image": "a.png", "split": "val"}, "annotations": list(annotations)}]

    picture(tmp_path / "a.png")
    old = annotation("old", updated_at="2026-01-01T10:00:00Z")
    new = annotation("new", updated_at="2026-02-01T10:00:00Z")
    given_up = annotation("given up", updated_at="2026-03-01T10:00:00Z", was_cancelled=True)
    true = annotation("true", updated_at="2025-01-01T10:00:00Z", ground_truth=True)
    newest = prepared("labelstudio", write_json(tmp_path / "n.json", tasks(new, old, given_up)))
    assert newest.texts == ["new"] and newest.split_names == ["val"]
    assert prepared("labelstudio", write_json(tmp_path / "t.json", tasks(new, true, old))).texts == ["true"]


def test_label_studio_text_of_the_task_is_the_phrase_of_its_only_region(tmp_path: Path) -> None:
    box = region(
        "r", "rectanglelabels", {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["mug"]}
    )
    assert prepared("labelstudio", export(tmp_path, box, text("t", "what it says"))).texts == ["what it says"]


def test_label_studio_errors_name_the_place(tmp_path: Path) -> None:
    path = export(
        tmp_path,
        region("a", "polygonlabels", {"points": [[1, 1], [2, 2]], "polygonlabels": ["x"]}),
        region("b", "brushlabels", {"format": "rle", "rle": brush_bits(block(0, 0, 3, 3))[:9], "brushlabels": ["x"]}),
        region("c", "brushlabels", {"rle": brush_bits(block(0, 0, 3, 3, (9, 9))), "brushlabels": ["x"]}),
        region("d", "rectanglelabels", {"x": "left", "y": 1, "width": 2, "height": 3, "rectanglelabels": ["x"]}),
        region("e", "rectanglelabels", {"x": 1, "y": 1, "width": 20, "height": 30}),
        region("f", "rectanglelabels", {"x": 1, "y": 1, "width": 20, "height": 30, "rectanglelabels": ["x"]},
               original_width=61),
        region("g", "ellipselabels", {"x": 1, "y": 1, "radiusX": 10**400, "radiusY": 1, "ellipselabels": ["x"]}),
    )  # fmt: skip
    with pytest.raises(ArtifactError, match="7 invalid entries") as caught:
        prepared("labelstudio", path)
    facts = dict(fact.removeprefix("[0].annotations[0].result").split(": ", 1) for fact in caught.value.facts)
    assert facts == {
        "[0]": "a polygon with 2 points",
        "[1]": "the rle ends too early",
        "[2]": "the rle has 324 values, a picture of 60x40 has 9600",
        "[3]": "x and y are left, 1, not numbers",
        "[4]": "empty expression",
        "[5]": "annotated at 61x40, but a.png is 60x40",
        "[6]": "radiusX and radiusY are a number of 1329 bits, 1, not numbers",
    }


def test_other_exports_of_label_studio_are_named(tmp_path: Path) -> None:
    short = [{"image": "a.png", "label": [], "annotation_id": 1, "id": 1}]
    with pytest.raises(ArtifactError, match="JSON-MIN"):
        prepared("labelstudio", write_json(tmp_path / "min.json", short))
    with pytest.raises(ArtifactError, match="no export of Label Studio"):
        prepared("labelstudio", write_json(tmp_path / "coco.json", {"images": [], "annotations": []}))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("/data/upload/3/0a1b2c3d-scan 1.png", "scan 1.png"),
        ("/data/local-files/?d=set/a%20b.png", "set/a b.png"),
        ("s3://bucket/set/a.png", "set/a.png"),
        ("https://example.org/x/a%C3%A9.png?token=1", "x/aé.png"),
        ("C:\\work\\photos\\a.png", "photos/a.png"),
        ("../photos/a.png", "photos/a.png"),
        ("http://[photos/a.png", "a.png"),
    ],
)
def test_names_of_pictures_are_read_as_tools_write_them(name: str, meant: str) -> None:
    assert meant in spellings(name)
    assert not any(s.startswith("/") or ".." in s for s in spellings(name))


# ---------------------------------------------------------------- folders of masks


def mask_file(path: Path, mask: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask.astype(np.uint8) * 255)


@pytest.mark.parametrize(
    "name",
    ["scan1/left kidney.png", "scan1__left_kidney.png", "left-kidney/scan1.png", "val/scan1/left_kidney.png"],
)
def test_the_name_of_a_mask_is_picture_and_phrase(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    picture(root / "images/scan1.tiff", channels=1, dtype=np.uint16)
    picture(root / "images/scan.png")
    mask_file(root / "masks" / name, ring_with_hole())
    data = prepared("masks", root)
    assert data.texts == ["left kidney"] and data.image_files == ["scan1.tiff"]
    assert data.boxes_xyxy.tolist() == [[5, 5, 50, 30]] and (data.mask(0) == ring_with_hole()).all()
    assert data.split_names == ["val" if "val" in name else "train"]


def test_a_table_may_hold_the_phrases_of_masks(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "images/s1.png")
    picture(root / "images/s2.png")
    mask_file(root / "masks/s1_0.png", block(1, 1, 9, 9))
    mask_file(root / "masks/other.png", block(20, 1, 29, 9))
    table = "mask,phrase,image,split\ns1_0.png,left kidney,,\nmasks/s1_0.png,the bright one,,\nother.png,liver,s2.png,val\n"
    (root / "phrases.csv").write_text(table)
    data = prepared("masks", root)
    assert data.texts == ["left kidney", "the bright one", "liver"] and data.split_names == ["train", "val"]
    assert data.image_files == ["s1.png", "s2.png"]


def test_masks_without_picture_or_phrase_are_listed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "images/s1.png")
    for name in ("s1.png", "s9/liver.png", "s1/empty.png"):
        mask_file(root / "masks" / name, block(0, 0, 0, 0) if "empty" in name else block(1, 1, 9, 9))
    mask_file(root / "masks/s1/small.png", block(1, 1, 5, 5, (20, 20)))
    with pytest.raises(ArtifactError, match="4 invalid entries") as caught:
        prepared("masks", root)
    facts = dict(fact.split(": ", 1) for fact in caught.value.facts)
    assert facts["masks/s1.png"] == "no phrase in its name, nor in that of its folder"
    assert facts["masks/s9/liver.png"].startswith("its name begins with that of no picture")
    assert facts["masks/s1/empty.png"] == "neither a box nor a mask with a pixel"
    assert (
        facts["masks/s1/small.png"] == "mask masks/s1/small.png is 20x20, its picture 60x40 (width x height)"
    )


def test_a_table_needs_no_box_where_there_is_a_mask(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    mask_file(tmp_path / "m.png", block(10, 5, 30, 20))
    table = tmp_path / "t.csv"
    table.write_text("image,phrase,mask\na.png,the mug,m.png\na.png,the cup,\n")
    with pytest.raises(ArtifactError) as caught:
        prepared("table", table)
    assert caught.value.facts == ("line 3: no x1: a box is needed, or a mask",)
    data = prepared("table", table, skip_invalid=True)
    assert data.boxes_xyxy.tolist() == [[10, 5, 30, 20]]
