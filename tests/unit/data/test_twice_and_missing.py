"""Ids that are there twice, values that are not there, and the ways in which files spell both."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.configs import read_layers
from stages.data.readers.grefcoco import find_gref_files, read_grefcoco
from stages.data.readers.lookups import PictureFiles
from stages.data.readers.mdetr import find_mdetr_files, read_mdetr
from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.records import load_json
from stages.data.readers.refer import find_refer_files, read_refer
from stages.data.readers.seqtr import find_seqtr_files, read_seqtr
from stages.data.readers.tables import ReferringTables
from stages.errors import ArtifactError
from stages.prepare_data import Config, run
from stages.weights.released_files import read_vocabulary
from tests.oracles.picture_bytes import encoded, jpeg_with, turned_jpeg
from tests.oracles.public_formats import mdetr_tables, seqtr_lists, write_seqtr
from tests.oracles.refer_folder import ReferFolder, ref, square


@pytest.fixture
def folder(tmp_path: Path) -> ReferFolder:
    return ReferFolder(tmp_path / "data")


def read(folder: ReferFolder, **options: Any) -> ReferringTables:
    files = find_refer_files(folder.write(), "toy", None)
    return read_refer(files, pictures=PictureFiles([folder.root]), **options)


def facts(folder: ReferFolder) -> str:
    with pytest.raises(ArtifactError) as caught:
        read(folder)
    return "\n".join(caught.value.facts)


def test_two_annotations_of_one_id_that_differ_are_refused(folder: ReferFolder) -> None:
    folder.annotations.append({**folder.annotation(106), "bbox": [1, 1, 4, 4]})
    assert "ref 7: annotation 106 is there twice, and differs: annotations[5] and annotations[7]" in facts(
        folder
    )
    assert 7 not in read(folder, skip_invalid=True).ref_ids


def test_two_images_and_two_categories_of_one_id_are_refused(folder: ReferFolder) -> None:
    folder.images.append({**folder.images[2], "file_name": "another.jpg"})
    folder.categories.append({"id": 1, "name": "something else"})
    found = facts(folder)
    assert "ref 7: image 13 is there twice, and differs: images[2] and images[4]" in found
    assert "category 1 is there twice, and differs: categories[0] and categories[2]" in found


def test_what_is_repeated_as_it_is_counts_once(folder: ReferFolder) -> None:
    folder.annotations.append(dict(folder.annotation(106)))
    folder.images.append(dict(folder.images[2]))
    folder.refs.append(dict(folder.ref(7)))
    tables = read(folder)
    assert tables.ref_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    told = [f"{what}s that are there twice, alike: taken once" for what in ("image", "annotation", "ref")]
    assert sorted(tables.notices) == sorted(told)


def test_sentence_ids_that_are_there_twice_are_told(folder: ReferFolder) -> None:
    first, second = folder.ref(1)["sentences"]
    folder.ref(1)["sentences"].append(dict(first))
    folder.ref(7)["sentences"][0]["sent_id"] = second["sent_id"]
    tables = read(folder)
    assert tables.notices == {
        "sentences that are there twice, alike: taken once": 1,
        "sentence ids that are there twice": 1,
    }
    assert tables.texts.count(first["sent"]) == 1


def test_one_key_with_two_values_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"train": [1], "train": [2]}')
    with pytest.raises(ArtifactError) as caught:
        load_json(path)
    assert "has the key 'train' twice" in caught.value.facts[0]
    path.write_text('{"train": [1], "train": [1]}')
    assert load_json(path) == {"train": [1]}


def write_mdetr(folder: ReferFolder, change: Any) -> Path:
    folder.write()
    tables = mdetr_tables(folder, "train")
    change(tables)
    (folder.root / "finetune_toy_train.json").write_text(json.dumps(tables))
    return folder.root


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("annotations", {"bbox": [0, 0, 3, 3]}, "annotation {} is there twice, and differs: annotations[0]"),
        ("images", {"caption": "other"}, "image {} is there twice, and differs: images[0]"),
        ("categories", {"name": "other"}, "category {} is there twice, and differs: categories[0]"),
    ],
)
def test_ids_of_mdetr_files(folder: ReferFolder, part: str, change: dict[str, Any], message: str) -> None:
    twice: list[int] = []

    def repeat(tables: dict[str, Any]) -> None:
        twice.append(tables[part][0]["id"])
        tables[part] = [*tables[part], {**tables[part][0], **change}]

    root = write_mdetr(folder, repeat)
    with pytest.raises(ArtifactError) as caught:
        read_mdetr(find_mdetr_files(root, "toy", None))
    assert message.format(twice[0]) in "\n".join(caught.value.facts)
    change.clear()
    plain = read_mdetr(find_mdetr_files(write_mdetr(folder, lambda tables: None), "toy", None))
    again = read_mdetr(find_mdetr_files(write_mdetr(folder, repeat), "toy", None))
    assert again.texts == plain.texts
    assert again.n_targets is None  # a repeated annotation is no second target


def test_one_image_id_for_two_files_is_told(folder: ReferFolder) -> None:
    lists = seqtr_lists(folder)
    lists["train"][0]["file_name"] = "elsewhere.jpg"
    write_seqtr(folder).write_text(json.dumps(lists))
    tables = read_seqtr(find_seqtr_files(folder.root, "toy", None))
    assert tables.notices == {"image ids that mean two pictures, which are kept apart by name": 1}


def test_refs_without_a_sentence_are_left_out_and_counted(folder: ReferFolder) -> None:
    folder.ref(7)["sentences"] = []
    folder.ref(6)["sentences"] = None
    tables = read(folder)
    assert tables.ref_ids.tolist() == [1, 2, 3, 4, 5]
    assert tables.notices == {"refs without a sentence left out": 2}
    assert tables.examples["refs without a sentence left out"] == ["ref 6", "ref 7"]


def grefs(folder: ReferFolder, *entries: dict[str, Any]) -> ReferringTables:
    folder.write()
    (folder.folder / "grefs(unc).json").write_text(json.dumps(entries))
    return read_grefcoco(find_gref_files(folder.folder, None, None))


def test_grefs_without_a_sentence_and_targets_named_twice(folder: ReferFolder) -> None:
    one = {**ref(1, 0, 11, "train", "the square"), "ann_id": ["101", 101.0]}
    tables = grefs(folder, one, {**ref(2, 0, 12, "train"), "ann_id": [104], "sentences": []})
    assert tables.ann_ids.tolist() == [101]
    assert tables.notices == {"refs without a sentence left out": 1}


@pytest.mark.parametrize("nothing", [[-1], [], None, -1, "-1", [None], ["-1"], -1.0, ..., [-1, -1]])
@pytest.mark.parametrize("flag", [True, False])
def test_no_target_in_every_spelling(folder: ReferFolder, nothing: Any, flag: bool) -> None:
    empty = {**ref(2, 0, 11, "train", "the zebra"), "ann_id": nothing, "no_target": flag}
    if nothing is ...:
        del empty["ann_id"]
    entries = {**ref(1, 0, 11, "train", "the square"), "ann_id": [101]}, empty
    if nothing is ... and not flag:
        with pytest.raises(ArtifactError, match="1 invalid entry"):
            grefs(folder, *entries)
        return
    tables = grefs(folder, *entries)
    assert [n.ref_id for n in tables.no_target] == [2]
    assert tables.ref_ids.tolist() == [1]


def test_targets_beside_none_are_refused(folder: ReferFolder) -> None:
    with pytest.raises(ArtifactError) as caught:
        grefs(folder, {**ref(1, 0, 11, "train"), "ann_id": [101, -1]})
    assert "both annotations and none" in caught.value.facts[0]


def test_ids_as_text_and_as_whole_floats(folder: ReferFolder) -> None:
    plain = read(folder)
    for image in folder.images:
        image.update(id=str(image["id"]), width=float(image["width"]))
    for a in folder.annotations:
        a.update(id=float(a["id"]), image_id=f"{a['image_id']}.0", category_id=str(a["category_id"]))
    for r in folder.refs:
        r.update(ref_id=str(r["ref_id"]), ann_id=str(r["ann_id"]), image_id=float(r["image_id"]))
    tables = {"images": folder.images, "annotations": folder.annotations, "categories": folder.categories}
    (folder.folder / "instances.json").write_text(json.dumps(tables))
    (folder.folder / "refs(unc).p").write_bytes(pickle.dumps(folder.refs, 2))
    spelt = read_refer(find_refer_files(folder.root, "toy", None))
    for column in ("ref_ids", "ann_ids", "image_ids", "category_index", "boxes_xyxy", "has_mask"):
        np.testing.assert_array_equal(getattr(spelt, column), getattr(plain, column))


def test_sizes_that_are_not_annotated_are_read_from_the_pictures(folder: ReferFolder) -> None:
    plain = read(folder)
    for image in folder.images:
        del image["width"]
        image["height"] = None
    np.testing.assert_array_equal(read(folder).image_sizes_hw, plain.image_sizes_hw)
    (folder.pictures / folder.images[2]["file_name"]).write_bytes(b"")
    files = find_refer_files(folder.root, "toy", None)
    with pytest.raises(ArtifactError) as caught:
        read_refer(files, pictures=PictureFiles([folder.root]))
    assert "ref 7: image 13 has no width and height, and they cannot be read" in caught.value.facts[0]


def test_a_box_of_the_turned_picture_is_told_as_that(folder: ReferFolder) -> None:
    folder.annotation(106)["bbox"] = [2, 20, 10, 10]  # fits 24x32, not 32x24
    folder.write()
    (folder.pictures / folder.images[2]["file_name"]).write_bytes(turned_jpeg(6))
    with pytest.raises(ArtifactError) as caught:
        read_refer(find_refer_files(folder.root, "toy", None), pictures=PictureFiles([folder.root]))
    assert "inside when it is turned by its EXIF orientation 6" in caught.value.facts[0]


def test_cut_pictures_are_found_without_embedding(folder: ReferFolder, tmp_path: Path) -> None:
    folder.write()
    whole = jpeg_with(b"JFXX\0\x10" + encoded(".jpg"), 0xE0)
    (folder.pictures / folder.images[0]["file_name"]).write_bytes(whole[:-30])
    config = Config(source="refer", root=str(folder.root), name="toy", embed_images=False)
    with pytest.raises(ArtifactError, match="1 of 3 images are missing or unreadable") as caught:
        run(config, out=tmp_path / "d.h5")
    assert caught.value.facts[0].endswith("cannot be decoded: its end is missing")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_any_json(folder: ReferFolder, encoding: str) -> None:
    plain = read(folder)
    path = folder.folder / "instances.json"
    path.write_text(path.read_text(), encoding=encoding)
    assert read_refer(find_refer_files(folder.root, "toy", None)).texts == plain.texts


@pytest.mark.parametrize("protocol", range(6))
def test_numbers_of_numpy_in_a_pickle_are_plain_numbers(tmp_path: Path, protocol: int) -> None:
    content = {
        "id": np.int64(7),
        "x": [np.float32(0.5), np.bool_(True), np.str_("a mug")],
        "box": np.array([[1.5, 2], [3, 4]]),
        "columns": np.asfortranarray(np.arange(6, dtype=">u2").reshape(2, 3)),
        "words": np.array(["left", "right"]),
        "none": np.zeros((0, 4)),
    }
    (tmp_path / "a.p").write_bytes(pickle.dumps(content, protocol))
    loaded = load_plain_pickle(tmp_path / "a.p")
    assert loaded == {
        "id": 7,
        "x": [0.5, True, "a mug"],
        "box": [[1.5, 2.0], [3.0, 4.0]],
        "columns": [[0, 1, 2], [3, 4, 5]],
        "words": ["left", "right"],
        "none": [],
    }
    assert type(loaded["id"]) is int


@pytest.mark.parametrize(
    "content", [np.array([print], object), np.datetime64("2020-01-01"), np.zeros(2, [("a", "f8")])]
)
def test_other_arrays_are_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.p").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(ArtifactError):
        load_plain_pickle(tmp_path / "a.p")


def test_an_array_whose_bytes_do_not_fill_its_shape_is_refused(tmp_path: Path) -> None:
    honest = pickle.dumps(np.zeros(3, np.uint8), 2)
    (tmp_path / "a.p").write_bytes(honest.replace(b"K\x03\x85", b"M\xff\xff\x85"))
    with pytest.raises(ArtifactError, match="is no pickle that can be read"):
        load_plain_pickle(tmp_path / "a.p")


def test_masks_in_any_nesting(folder: ReferFolder) -> None:
    plain, ring = read(folder), square(20, 10, 6)
    pairs = [ring[k : k + 2] for k in range(0, 8, 2)]
    for nested in (
        ring,
        pairs,
        [pairs],
        [[pairs]],
        [[[p] for p in pairs]],
        [{"x": x, "y": y} for x, y in pairs],
    ):
        folder.annotation(106)["segmentation"] = nested
        tables = read(folder)
        assert tables.rles == plain.rles, nested
        assert not tables.notices


def test_byte_order_marks_in_vocabularies_and_config_files(tmp_path: Path) -> None:
    words = tmp_path / "words.json"
    words.write_text('{"PAD": 0, "mug": 1}', encoding="utf-8-sig")
    assert read_vocabulary(words) == ["PAD", "mug"]
    config = tmp_path / "c.toml"
    config.write_text("[predict]\nbatch-size = 3\n", encoding="utf-8-sig")
    assert read_layers(str(config), "predict", ["predict"])[-1].values == {"batch-size": 3}
