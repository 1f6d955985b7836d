"""What export writes, read by other readers: pycocotools, and small ones that follow the published formats."""

from __future__ import annotations

import base64
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco
from pycocotools.coco import COCO

from stages import export, prepare_data
from stages.artifacts import RunOptions, write_artifact
from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.geometry.rasterise import mask_to_rle
from stages.geometry.runs import pack_rles
from tests.oracles.small_artifacts import digest, write_split
from tests.oracles.tool_files import SIZE_HW, Bits, block, picture, read_brush, ring_with_hole, write_json

# of pycocotools itself, with this numpy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
PARTS = block(2, 2, 9, 9) | block(20, 20, 41, 33)
MASKS = {"the ring": ring_with_hole(), "two parts": PARTS, "=1+1": block(30, 3, 50, 12), "a box": None}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four objects in two pictures, one of them without a mask; one phrase begins like a formula."""
    root = tmp_path_factory.mktemp("data")
    picture(root / "images/x/a.png")
    picture(root / "images/b.jpg")
    annotations: list[dict[str, Any]] = [
        {"id": 11, "image_id": 1, "category_id": 2, "expressions": ["the ring", "thing on the left"],
         "segmentation": _runs(MASKS["the ring"])},
        {"id": 12, "image_id": 1, "category_id": 3, "phrase": "two parts", "segmentation": _runs(PARTS)},
        {"id": 13, "image_id": 2, "category_id": 2, "phrase": "=1+1", "segmentation": _runs(MASKS["=1+1"])},
        {"id": 14, "image_id": 2, "category_id": 3, "phrase": "a box", "bbox": [1.5, 2, 20, 10], "split": "val"},
    ]  # fmt: skip
    size = {"height": SIZE_HW[0], "width": SIZE_HW[1]}
    content = {
        "images": [{"id": 1, "file_name": "x/a.png", **size}, {"id": 2, "file_name": "b.jpg", **size}],
        "annotations": annotations,
        "categories": [{"id": 2, "name": "thing"}, {"id": 3, "name": "cup"}],
    }
    path = write_json(root / "i.json", content)
    config = prepare_data.Config(source="coco", root=str(path))
    return prepare_data.run(config, out=root / "data.h5").path


def _runs(mask: Bits | None) -> dict[str, Any]:
    assert mask is not None
    rle = mask_to_rle(mask)
    return {"size": list(SIZE_HW), "counts": rle["counts"].decode()}


def exported(to: Any, out: Path, *, force: bool = False, **options: Any) -> Path:
    inputs = {k: options.pop(k) for k in ("dataset", "labels", "split", "predictions") if k in options}
    config = export.Config(to=to, **options)
    return export.run(config, out=out, options=RunOptions(force=force), **inputs).path


def truth(path: Path) -> dict[str, Bits | None]:
    """First text of each referent -> its mask."""
    data = ReferringDataset.open(path, masks="all")
    return {
        data.texts[s]: data.mask(r) if data.has_mask[r] else None
        for r, s in enumerate(data.sentence_offsets[:-1].tolist())
    }


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert set(found) == set(wanted)
    for text, mask in wanted.items():
        assert (found[text] is None) == (mask is None), text
        assert mask is None or (found[text] == mask).all(), text


# ---------------------------------------------------------------- read by others


def test_pycocotools_reads_instances(dataset: Path, tmp_path: Path) -> None:
    api = COCO(str(exported("coco", tmp_path / "c.json", dataset=dataset)))
    anns = {ann["expressions"][0]: ann for ann in api.anns.values()}
    assert sorted(api.anns) == [11, 12, 13, 14] and api.cats[3]["name"] == "cup"
    assert anns["the ring"]["expressions"] == ["the ring", "thing on the left"]
    assert isinstance(anns["two parts"]["segmentation"], list) and len(anns["two parts"]["segmentation"]) == 2
    for text, mask in MASKS.items():
        if mask is None:
            assert anns[text]["segmentation"] == [] and anns[text]["bbox"] == [1.5, 2, 20, 10]
        else:
            assert (api.annToMask(anns[text]) == mask).all() and anns[text]["area"] == mask.sum()


def test_pycocotools_loads_results(dataset: Path, tmp_path: Path) -> None:
    truth_file = exported("coco", tmp_path / "c.json", dataset=dataset)
    labels = pseudo(dataset, tmp_path / "pseudo.h5")
    results = exported("coco-results", tmp_path / "r.json", dataset=dataset, labels=labels)
    loaded = COCO(str(truth_file)).loadRes(str(results))
    assert sorted(ann["score"] for ann in loaded.anns.values()) == [0.25, 0.75]
    assert (loaded.annToMask(next(a for a in loaded.anns.values() if a["score"] == 0.75)) == PARTS).all()


def test_labelme_files_hold_the_same_masks(dataset: Path, tmp_path: Path) -> None:
    out = exported("labelme", tmp_path / "lm", dataset=dataset)
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*.json")):
        if path.name == export.MARK:
            continue
        content = json.loads(path.read_text())
        assert (path.parent / content["imagePath"]).is_file()
        for shape in content["shapes"]:
            text = shape["description"].split("\n")[0]
            if shape["shape_type"] == "rectangle":
                assert shape["points"] == [[1.5, 2], [21.5, 12]]
                found[text] = None
                continue
            mask = np.zeros(SIZE_HW, bool)
            if shape["shape_type"] == "mask":  # window between two pixels, both included
                (x1, y1), (x2, y2) = np.array(shape["points"]).astype(int)
                png = np.frombuffer(base64.b64decode(shape["mask"]), np.uint8)
                mask[y1 : y2 + 1, x1 : x2 + 1] = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) > 0
            else:
                mask = inside(np.array(shape["points"]))
            found[text] = mask | found.get(text, False)
    assert_same(found, MASKS)


def inside(points: np.ndarray) -> Bits:
    """Even-odd fill at pixel centres: another way than that of COCO."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    odd = np.zeros(SIZE_HW, bool)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crosses = (y1 > y) != (y2 > y)
        odd ^= crosses & (x < (x2 - x1) * (y - y1) / ((y2 - y1) or 1) + x1)
    return odd


def test_label_studio_reads_brush_and_rectangles(dataset: Path, tmp_path: Path) -> None:
    tasks = json.loads(exported("labelstudio", tmp_path / "ls.json", dataset=dataset).read_text())
    found: dict[str, Any] = {}
    for task in tasks:
        results = task["annotations"][0]["result"]
        texts = {r["id"]: r["value"]["text"] for r in results if r["type"] == "textarea"}
        for region in results:
            text = texts[region["id"]][0]
            assert (region["original_height"], region["original_width"]) == SIZE_HW
            if region["type"] == "brushlabels":
                found[text] = read_brush(region["value"]["rle"], SIZE_HW)
            elif region["type"] == "rectanglelabels":
                assert region["value"]["x"] == pytest.approx(2.5) and region["value"][
                    "width"
                ] == pytest.approx(100 / 3)
                found[text] = None
    assert_same(found, MASKS)
    labels = pseudo(dataset, tmp_path / "pseudo.h5")
    waiting = json.loads(
        exported("labelstudio", tmp_path / "p.json", dataset=dataset, labels=labels).read_text()
    )
    assert [task["annotations"] for task in waiting] == [[], []]
    assert [task["predictions"][0]["score"] for task in waiting] == [0.75, 0.25]


def test_yolo_lines_hold_the_same_masks(dataset: Path, tmp_path: Path) -> None:
    out = exported("yolo", tmp_path / "yolo", dataset=dataset, copy_images=True)
    assert 'names:\n  0: "thing"\n  1: "cup"\n' in (out / "data.yaml").read_text()
    lines = (out / "labels/train/x/a.txt").read_text().splitlines()
    masks = []
    for line in lines:
        number, *values = line.split()
        points = np.array(values, float).reshape(-1, 2) * (SIZE_HW[1], SIZE_HW[0])
        masks.append((number, inside(points)))
    assert [n for n, _ in masks] == ["0", "1"]
    assert (masks[0][1] == MASKS["the ring"]).all() and (masks[1][1] == PARTS).all()
    original = dataset.parent / "images/x/a.png"
    assert (out / "images/train/x/a.png").read_bytes() == original.read_bytes()
    summary = json.loads((out / export.MARK).read_text())
    assert summary["notices"] == {"boxes without a mask left out, beside polygons": 1}


def test_yolo_boxes_are_lines_where_there_is_no_mask(dataset: Path, tmp_path: Path) -> None:
    out = exported("yolo", tmp_path / "yolo", dataset=dataset, split_names=("val",))
    values = [float(v) for v in (out / "labels/val/b.txt").read_text().split()]
    assert values == pytest.approx([1, 11.5 / 60, 7 / 40, 20 / 60, 10 / 40])


def test_tables_are_harmless_and_whole(dataset: Path, tmp_path: Path) -> None:
    with open(exported("csv", tmp_path / "t.csv", dataset=dataset), newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["phrase"] for row in rows] == ["the ring", "thing on the left", "two parts", "'=1+1", "a box"]
    assert (coco.decode(json.loads(rows[2]["mask"])) == PARTS).all()
    assert rows[4]["mask"] == "" and [rows[4][c] for c in ("x1", "y1", "x2", "y2")] == [
        "1.5",
        "2",
        "21.5",
        "12",
    ]


# ---------------------------------------------------------------- read back


@pytest.mark.parametrize("to", ["coco", "labelme", "labelstudio", "png", "csv"])
def test_what_is_exported_is_read_back_with_the_same_masks(dataset: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / {"coco": "o.json", "labelstudio": "o.json", "csv": "o.csv"}.get(to, "o")
    exported(to, out, dataset=dataset)
    source = {"png": "table", "csv": "table"}.get(to, to)
    root = out / "masks.csv" if to == "png" else out
    images = str(dataset.parent / "images")
    config = prepare_data.Config(source=source, root=str(root), images=images)  # type: ignore[arg-type]
    back = prepare_data.run(config, out=tmp_path / "back.h5").path
    assert_same(truth(back), truth(dataset))
    old, new = ReferringDataset.open(dataset), ReferringDataset.open(back)
    assert sorted(new.texts) == sorted(old.texts) and sorted(new.image_files) == sorted(old.image_files)
    assert np.allclose(np.sort(new.boxes_xyxy, axis=0), np.sort(old.boxes_xyxy, axis=0))
    if to not in ("labelme", "labelstudio"):  # a picture has one split there
        assert new.split_names == old.split_names
    if to == "coco":
        assert sorted(new.ref_ids.tolist()) == sorted(old.ref_ids.tolist())


# ---------------------------------------------------------------- labels, splits, predictions


def pseudo(dataset: Path, path: Path) -> Path:
    """Labels with masks for two sentences of referent 12 and 13 (rows by text), the first one twice."""
    data = ReferringDataset.open(dataset)
    rows = [data.texts.index(t) for t in ("two parts", "=1+1")]
    with write_artifact(path, "pseudo_points", fingerprint="f", provenance={}) as w:
        w.attr("dataset_digest", digest(dataset))
        w.attr("model_digest", "0" * 64)
        w.column("referent_index", data.sentence_referent[rows])
        w.column("sentence_index", np.array(rows))
        w.column("tokens", np.zeros((2, 3), np.int32))
        w.column("token_probability", np.ones((2, 3), np.float32))
        w.ragged("points_xy", np.zeros((6, 2), np.float32), np.array([0, 3, 6]))
        w.column("box_xyxy", np.zeros((2, 4), np.float32))
        w.column("projection_score", np.zeros(2, np.float32))
        w.column("confidence", np.array([0.75, 0.25], np.float32))
        w.ragged("masks/rle", *pack_rles([mask_to_rle(PARTS), mask_to_rle(block(1, 1, 9, 9))]))
    return path


def test_a_split_hides_masks(dataset: Path, tmp_path: Path) -> None:
    visible = [True, False, False, False]
    split = write_split(tmp_path / "split.h5", dataset, visible)
    api = COCO(str(exported("coco", tmp_path / "c.json", dataset=dataset, split=split)))
    assert [bool(api.anns[i]["segmentation"]) for i in (11, 12, 13, 14)] == [True, False, False, False]
    with pytest.raises(UsageError, match="--split hides true masks"):
        exported("coco", tmp_path / "d.json", dataset=dataset, split=split, labels=split)


def test_labels_of_another_dataset_are_refused(dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    config = prepare_data.Config(source="coco", root=str(dataset.parent / "i.json"), name="other")
    prepare_data.run(config, out=other)
    with pytest.raises(ArtifactError, match="was not made from"):
        exported("coco", tmp_path / "c.json", dataset=other, labels=pseudo(dataset, tmp_path / "p.h5"))


def test_predictions_are_exported(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("a/1.png", "b/1.png"):
        picture(folder / name)

    def row(name: str, mask: Bits, confidence: float) -> dict[str, Any]:
        return {
            "image": str(folder / name), "phrase": "it", "size": list(SIZE_HW), "box_xyxy": [1, 1, 9, 9],
            "mask": _runs(mask), "confidence": confidence, "image_id": 1 if name[0] == "a" else 2,
        }  # fmt: skip

    rows = [
        row("a/1.png", block(1, 1, 9, 9), 0.5),
        row("b/1.png", PARTS, 0.9),
        row("b/1.png", PARTS & False, 0.1),
    ]
    images = [
        {"id": k, "file_name": str(folder / name), "height": SIZE_HW[0], "width": SIZE_HW[1]}
        for k, name in ((1, "a/1.png"), (2, "b/1.png"))
    ]
    document = {"format": "seqres-predictions", "version": 1, "images": images, "predictions": rows}
    path = write_json(tmp_path / "p.json", document)
    api = COCO(str(exported("coco", tmp_path / "c.json", predictions=path)))
    assert [api.imgs[k]["file_name"] for k in (1, 2)] == ["a/1.png", "b/1.png"]
    assert [ann["score"] for ann in api.anns.values()] == [0.5, 0.9]
    assert (api.annToMask(api.anns[2]) == PARTS).all()
    loaded = api.loadRes(str(exported("coco-results", tmp_path / "r.json", predictions=path)))
    assert len(loaded.anns) == 2
    out = exported("labelme", tmp_path / "lm", predictions=path, copy_images=True)
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == [
        "images/a/1.png",
        "images/b/1.png",
    ]
    with pytest.raises(ArtifactError, match="holds no predictions"):
        exported("coco", tmp_path / "x.json", predictions=tmp_path / "c.json")


# ---------------------------------------------------------------- what is there already


def test_the_same_again_is_up_to_date_and_other_things_stay(dataset: Path, tmp_path: Path) -> None:
    def again(to: Any, out: Path, **more: Any) -> str:
        return export.run(export.Config(to=to, **more), dataset=dataset, out=out).status

    assert (
        again("coco", tmp_path / "c.json") == "written" and again("coco", tmp_path / "c.json") == "up-to-date"
    )
    assert again("png", tmp_path / "f") == "written" and again("png", tmp_path / "f") == "up-to-date"
    for to, out in (("coco-results", tmp_path / "c.json"), ("labelme", tmp_path / "f")):
        with pytest.raises(StaleOutputError, match="holds something else"):
            again(to, out)
    exported("labelme", tmp_path / "f", dataset=dataset, force=True)
    assert not (tmp_path / "f/masks.csv").exists() and not list(tmp_path.glob(".f*"))


def test_a_folder_of_somebody_else_is_never_replaced(dataset: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(StaleOutputError, match="holds no export"):
        exported("png", mine, dataset=dataset, force=True)
    assert [p.name for p in mine.iterdir()] == ["thesis.txt"]


def test_a_folder_appears_whole_or_not_at_all(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset.parent / "images", copy / "images")
    config = prepare_data.Config(source="coco", root=str(shutil.copy(dataset.parent / "i.json", copy)))
    data = prepare_data.run(config, out=tmp_path / "d.h5").path
    (copy / "images/b.jpg").unlink()
    with pytest.raises(ArtifactError, match=r"cannot read image .*b\.jpg"):
        exported("yolo", tmp_path / "out", dataset=data, copy_images=True)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "coco", "copy_images": True}, "--copy-images is for labelme, yolo, png"),
        ({"to": "png", "tolerance_px": 1.0}, "--tolerance-px is for coco, labelme, yolo"),
        ({"to": "voc"}, "to must be one of coco"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export.Config(**options)


def test_the_ending_of_a_file_fits_its_format(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--to csv writes a \.csv file"):
        exported("csv", tmp_path / "t.json", dataset=dataset)
    with pytest.raises(UsageError, match="give a --dataset or --predictions"):
        exported("csv", tmp_path / "t.csv")
