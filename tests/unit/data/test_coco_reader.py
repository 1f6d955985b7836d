"""COCO instances with expressions: phrases wherever tools put them, ids, splits, places, and what is wrong in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError, UsageError
from stages.prepare_data import Config, run
from tests.oracles.tool_files import block, picture, write_json

MUG = {
    "id": 7,
    "image_id": 1,
    "category_id": 3,
    "bbox": [10, 5, 20, 15],
    "expressions": ["the mug", "red thing"],
}


def instances(*annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
        "annotations": list(annotations),
        "categories": [{"id": 3, "name": "mug"}],
        **more,
    }


def read(tmp_path: Path, content: Any, **options: Any) -> ReferringDataset:
    picture(tmp_path / "images/a.png")
    path = write_json(tmp_path / "instances.json", content)
    result = run(Config(source="coco", root=str(path), **options), out=tmp_path / "d.h5")
    return ReferringDataset.open(result.path, masks="all")


def test_ids_phrases_categories_and_masks_are_kept(tmp_path: Path) -> None:
    rle = coco.encode(np.asfortranarray(block(10, 5, 30, 20).astype(np.uint8)))
    masked = {**MUG, "segmentation": {"size": [40, 60], "counts": rle["counts"].decode()}, "split": "val"}
    data = read(tmp_path, instances(masked, {**MUG, "id": 8, "bbox": [40, 5, 10, 10]}))
    assert data.split_names == ["train", "val"]
    assert data.ref_ids.tolist() == [8, 7] and data.image_ids.tolist() == [1]
    assert data.texts == ["the mug", "red thing"] * 2 and data.categories == ["mug"]
    assert data.has_mask.tolist() == [False, True]
    assert (data.mask(1) == block(10, 5, 30, 20)).all()


@pytest.mark.parametrize(
    "entry",
    [
        {"caption": "the mug"},
        {"captions": ["the mug", ""]},
        {"phrase": " the mug "},
        {"sentences": [{"sent": "the mug", "raw": "The mug"}]},
        {"attributes": {"description": "the mug"}},
        {"expressions": [], "refexp": "the mug"},
    ],
    ids=lambda e: next(iter(e)),
)
def test_phrases_stand_where_tools_put_them(tmp_path: Path, entry: dict[str, Any]) -> None:
    plain = {key: value for key, value in MUG.items() if key != "expressions"}
    assert read(tmp_path, instances(plain | entry)).texts == ["the mug"]


def test_a_category_with_its_place_is_a_phrase_on_request(tmp_path: Path) -> None:
    def at(identity: int, x: float) -> dict[str, Any]:
        return {"id": identity, "image_id": 1, "category_id": 3, "bbox": [x, 5, 8, 8]}

    row = instances(*(at(k, 10.0 * k) for k in (1, 2, 3, 4)))
    with pytest.raises(ArtifactError, match=r"no annotation of .* has an expression") as caught:
        read(tmp_path, row)
    assert caught.value.hint and "--expressions category" in caught.value.hint
    assert read(tmp_path / "c", row, expressions="category").texts == ["mug"] * 4
    places = read(tmp_path / "p", row, expressions="category-position").texts
    assert places == [f"{n} mug from the left" for n in ("1st", "2nd", "3rd", "4th")]
    three = read(
        tmp_path / "t", instances(*(at(k, 10.0 * k) for k in (3, 1, 2))), expressions="category-position"
    )
    assert dict(zip(three.ref_ids.tolist(), three.texts, strict=True)) == {
        1: "left mug", 2: "middle mug", 3: "right mug",
    }  # fmt: skip
    with pytest.raises(UsageError, match="--expressions is for --source coco"):
        Config(source="table", root="x.csv", expressions="category") and run(
            Config(source="table", root="x.csv", expressions="category"), out=tmp_path / "x.h5"
        )


def test_some_annotations_without_a_phrase_are_left_out_and_told(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    bare = {"id": 9, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}
    path = write_json(tmp_path / "i.json", instances(MUG, bare))
    summary = run(Config(source="coco", root=str(path)), out=tmp_path / "d.h5").summary
    assert summary["notices"] == {"annotations without a phrase left out": 1}


def test_files_of_several_splits_share_no_ids(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "images/b.png")
    other = instances(
        {**MUG, "category_id": 5}, categories=[{"id": 5, "name": "mug"}, {"id": 3, "name": "cup"}]
    )
    other["images"][0]["file_name"] = "b.png"
    write_json(tmp_path / "instances_train.json", instances(MUG))
    write_json(tmp_path / "instances_val.json", other)
    result = run(Config(source="coco", root=str(tmp_path)), out=tmp_path / "d.h5")
    data = ReferringDataset.open(result.path)
    assert data.split_names == ["train", "val"] and len(set(data.ref_ids.tolist())) == 2
    assert [data.categories[c] for c in data.category_index] == ["mug", "mug"]
    assert len(set(data.image_ids.tolist())) == 2


def test_a_box_is_the_extent_of_the_mask_where_none_is_given(tmp_path: Path) -> None:
    entry = {**MUG, "segmentation": [[10, 5, 30, 5, 30, 20, 10, 20]]}
    del entry["bbox"]
    assert read(tmp_path, instances(entry)).boxes_xyxy.tolist() == [[10, 5, 30, 20]]


def test_all_that_is_wrong_is_listed_with_its_place(tmp_path: Path) -> None:
    wrong = [{**MUG, "id": 100 + k, "bbox": [100, 5, 20, 15]} for k in range(30)]
    wrong[2] |= {"image_id": 5}
    wrong[3] |= {"category_id": 77}
    wrong[4] |= {"id": "seven"}
    listed = tmp_path / "errors.txt"
    with pytest.raises(ArtifactError, match="has 30 invalid entries") as caught:
        read(tmp_path, instances(*wrong, MUG), errors_to=str(listed))
    facts = caught.value.facts
    assert "annotations[2]: image 5 is not in images" in facts
    assert "annotations[3]: category 77 is not in categories" in facts
    assert "annotations[4]: id is 'seven', not a whole number" in facts
    assert facts[20:] == ("and 10 more", f"all of them: {listed}")
    lines = listed.read_text("utf-8").splitlines()
    assert len(lines) == 31 and lines[30].startswith("annotations[29]: box [100, 5, 20, 15]")
    # corrected, the list of the run before is replaced; what is left out is told as well
    data = read(tmp_path, instances(*wrong[:1], MUG), errors_to=str(listed), skip_invalid=True)
    assert len(data.texts) == 2 and len(listed.read_text("utf-8").splitlines()) == 2


def test_the_list_of_errors_replaces_nothing_else(tmp_path: Path) -> None:
    listed = tmp_path / "notes.txt"
    listed.write_text("mine\n")
    with pytest.raises(ArtifactError, match="is no list of errors"):
        read(tmp_path, instances(MUG), errors_to=str(listed))
    assert listed.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [([], "is a list, perhaps of COCO results"), ({"images": []}, "has no list 'annotations'")],
    ids=["results", "no annotations"],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize("category", ["x", [], {"id": 3}, 10**400])
def test_a_category_that_is_none_leaves_the_annotation_out(tmp_path: Path, category: Any) -> None:
    content = instances(MUG, {**MUG, "id": 8, "category_id": category})
    with pytest.raises(ArtifactError, match="1 invalid"):
        read(tmp_path, content, expressions="category")
    assert read(tmp_path, content, expressions="category", skip_invalid=True).ref_ids.tolist() == [7]


def test_an_annotation_without_a_category_keeps_its_own_phrases(tmp_path: Path) -> None:
    data = read(tmp_path, instances(MUG, {**MUG, "id": 8, "category_id": None}), expressions="category")
    assert data.ref_ids.tolist() == [7, 8] and data.texts == ["the mug", "red thing"] * 2


@pytest.mark.parametrize("categories", [3, "mug", {"id": 3}])
def test_categories_that_are_no_list_are_told(tmp_path: Path, categories: Any) -> None:
    with pytest.raises(ArtifactError, match="no list 'categories'"):
        read(tmp_path, instances(MUG, categories=categories))
    bare = {key: value for key, value in MUG.items() if key != "category_id"}
    assert read(tmp_path, instances(bare, categories=None)).texts == ["the mug", "red thing"]
