"""SeqTR's lists, MDETR's files and gRefCOCO: the same data as the REFER folder, and every way in which they refuse."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import open_artifact, verify_artifact
from stages.data.dataset import ReferringDataset
from stages.data.readers.grefcoco import find_gref_files, read_grefcoco
from stages.data.readers.mdetr import find_mdetr_files, read_mdetr
from stages.data.readers.records import LARGEST_FILE
from stages.data.readers.refer import find_refer_files, read_refer
from stages.data.readers.seqtr import find_seqtr_files, picture_name, read_seqtr
from stages.data.readers.tables import ReferringTables
from stages.errors import ArtifactError, UsageError
from stages.geometry.rasterise import rle_to_mask
from stages.prepare_data import Config, run
from tests.oracles.public_formats import (
    gref,
    mdetr_tables,
    seqtr_lists,
    write_grefcoco,
    write_mdetr,
    write_seqtr,
)
from tests.oracles.refer_folder import ReferFolder


@pytest.fixture
def folder(tmp_path: Path) -> ReferFolder:
    made = ReferFolder(tmp_path / "data")
    made.write()
    return made


def refer(folder: ReferFolder) -> ReferringTables:
    return read_refer(find_refer_files(folder.root, "toy", None))


def seqtr(folder: ReferFolder, **options: Any) -> ReferringTables:
    return read_seqtr(find_seqtr_files(folder.root, "toy", "unc"), **options)


def mdetr(folder: ReferFolder, **options: Any) -> ReferringTables:
    return read_mdetr(find_mdetr_files(folder.root, "toy", "unc"), **options)


def grefcoco(folder: ReferFolder, **options: Any) -> ReferringTables:
    return read_grefcoco(find_gref_files(folder.root, None, None), **options)


def same(a: ReferringTables, b: ReferringTables, *names: str) -> None:
    for name in names:
        assert np.asarray(getattr(a, name)).tolist() == np.asarray(getattr(b, name)).tolist(), name


def contents(t: ReferringTables) -> list[tuple[Any, ...]]:
    """Each referent without its id, in an order of their own."""
    said = [t.texts[a:b] for a, b in zip(t.sentence_offsets[:-1], t.sentence_offsets[1:], strict=True)]
    columns = (t.split, t.image_index, t.is_crowd, t.boxes_xyxy)
    return sorted(zip(*(c.tolist() for c in columns), t.rles, said, strict=True))


# ---- SeqTR ----


def test_seqtr_reads_to_what_refer_reads_to(folder: ReferFolder) -> None:
    write_seqtr(folder)
    a, b = refer(folder), seqtr(folder)
    same(a, b, "split_names", "image_ids", "image_files", "image_sizes_hw", "image_index", "split")
    assert contents(a) == contents(b)
    assert (b.name, b.by, b.counts()) == ("toy", "unc", a.counts())
    assert len(set(b.ref_ids.tolist())) == 7
    assert [b.category_names[k] for k in b.category_index] == ["1"] * 7


def test_boxes_without_masks_are_normal(folder: ReferFolder) -> None:
    write_seqtr(folder, "flickr30k", masks=False)
    tables = read_seqtr(find_seqtr_files(folder.root / "flickr30k", None, None))
    assert (tables.name, tables.by) == ("flickr30k", "release")
    assert not tables.has_mask.any()
    assert tables.image_files[0] == "11.jpg"
    assert tables.notices == {}


@pytest.mark.parametrize(
    ("name", "entry", "expected"),
    [
        ("refcoco+", {}, "COCO_train2014_000000000072.jpg"),
        ("referitgame", {}, "72.jpg"),
        ("mixed", {"data_source": "coco"}, "mscoco/train2014/COCO_train2014_000000000072.jpg"),
        ("mixed", {"data_source": "visual-genome"}, "visual-genome/72.jpg"),
        ("mixed", {"data_source": "flickr"}, "flickr30k/72.jpg"),
        ("mixed", {"data_source": "coco", "file_name": "a.png"}, "a.png"),
    ],
)
def test_names_of_pictures(name: str, entry: dict[str, Any], expected: str) -> None:
    assert picture_name(name, 72, entry) == expected


def test_which_list_of_the_release(folder: ReferFolder) -> None:
    for name in ("refcoco-unc", "refcocoplus-unc", "refcocog-umd", "refcocog-google"):
        write_seqtr(folder, name)
    (folder.folder / "instances.json").unlink()
    root = folder.root
    assert find_seqtr_files(root, "refcoco+", None).folder.name == "refcocoplus-unc"
    assert find_seqtr_files(root, "refcocog", "google").by == "google"
    assert find_seqtr_files(root / "refcocog-umd", None, None).name == "refcocog"
    assert find_seqtr_files(root, "refcocoplus-unc", None).name == "refcoco+"
    for name, by in (("refcocog", None), (None, None)):
        with pytest.raises(UsageError, match="several data sets fit") as caught:
            find_seqtr_files(root, name, by)
        assert "refcocog-umd: --name refcocog --by umd" in caught.value.facts
    with pytest.raises(UsageError, match="no data sets fit") as caught:
        find_seqtr_files(root, "refcocg", None)
    assert caught.value.hint == "did you mean --name refcocog?"
    with pytest.raises(ArtifactError, match="no such folder"):
        find_seqtr_files(root / "absent", None, None)


def edit(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.update(changes)


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("image_id"), "image_id is None, not a whole number"),
        (edit(image_id="a12"), "image_id is 'a12'"),
        (edit(image_id=2**70), "not a whole number"),
        (edit(width=0), "has the size 0x24"),
        (edit(height="tall"), "has the size 32x'tall'"),
        (edit(width=10**9), "has the size 1000000000x24"),
        (edit(width=64), "is 64x24 here and 32x24 elsewhere"),
        (edit(bbox=[1, 2, 3]), "not x, y, width, height"),
        (edit(bbox=None), "box is None"),
        (edit(bbox=[1, 2, float("nan"), 3]), "is not finite"),
        (edit(bbox=[1, 2, 0, 3]), "has no area"),
        (edit(bbox=[1, 2, 300, 3]), "lies outside its 32x24 image"),
        (edit(expressions={}), "no expressions"),
        (edit(expressions="the thing"), "no expressions"),
        (edit(expressions=["", " ", None]), "only empty expressions"),
        (edit(mask=[[1, 2, 3]]), "even number of coordinates"),
        (edit(mask={"size": [9, 9], "counts": "11"}), "does not match its image"),
        (edit(mask={"size": [24, 32], "counts": [1, 2]}), "cover 3 pixels"),
        (edit(mask="everything"), "segmentation must be polygons"),
    ],
)
def test_bad_entries_are_named_by_their_place(
    folder: ReferFolder, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    lists = seqtr_lists(folder)
    change(lists["train"][1])
    write_seqtr(folder).write_text(json.dumps(lists))
    with pytest.raises(ArtifactError, match="1 invalid entry") as caught:
        seqtr(folder)
    assert caught.value.facts[0].startswith("train[1]: ")
    assert message in caught.value.facts[0]
    assert len(seqtr(folder, skip_invalid=True).ref_ids) == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is an empty file"),
        ("version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        ('{"train": [', "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("[]", "no list of the SeqTR release"),
        ("{}", "no list of the SeqTR release"),
        ('{"train": {}}', "no list of the SeqTR release"),
        ('{"images": [], "annotations": []}', "is a COCO file"),
        ('{"train": []}', "holds no valid referent"),
        ('{"train": [3]}', "1 invalid entry"),
        ('{"\\u0000": [{}]}', "1 invalid entry"),
    ],
)
def test_damaged_lists(folder: ReferFolder, content: str, message: str) -> None:
    write_seqtr(folder).write_text(content)
    with pytest.raises(ArtifactError, match=message):
        seqtr(folder)


def test_a_file_of_impossible_size_is_not_read(folder: ReferFolder) -> None:
    path = write_seqtr(folder)
    with open(path, "wb") as stream:
        stream.truncate(LARGEST_FILE + 1)  # a hole: it takes no space
    with pytest.raises(ArtifactError, match=r"has 4\.0 GiB, more than annotations can have"):
        seqtr(folder)


def test_seqtr_becomes_a_dataset(folder: ReferFolder, tmp_path: Path) -> None:
    path = write_seqtr(folder)
    config = Config(source="seqtr", root=str(path.parent), images=str(folder.pictures))
    summary = run(config, out=tmp_path / "d.h5").summary
    assert summary["splits"]["total"] == {"images": 3, "referents": 7, "sentences": 8, "with_mask": 6}
    assert verify_artifact(tmp_path / "d.h5") == []
    assert ReferringDataset.open(tmp_path / "d.h5", masks="all").mask(0).sum() == 100
    (folder.pictures / "COCO_train2014_000000000012.jpg").unlink()
    with pytest.raises(ArtifactError, match="1 of 3 images are missing") as caught:
        run(config, out=tmp_path / "e.h5")
    assert caught.value.facts == ("COCO_train2014_000000000012.jpg: no such file",)


# ---- MDETR ----


def test_mdetr_reads_to_what_refer_reads_to(folder: ReferFolder) -> None:
    folder.refs = [r for r in folder.refs if r["ref_id"] != 6]  # two refs on one annotation become one
    write_mdetr(folder)
    folder.write()
    a, b = refer(folder), mdetr(folder)
    same(a, b, "split_names", "image_ids", "image_files", "image_sizes_hw", "image_index", "split", "texts")
    same(a, b, "boxes_xyxy", "is_crowd", "sentence_offsets", "ann_ids", "category_index", "category_names")
    assert not b.has_mask.any()
    assert b.n_targets is None


def test_expressions_of_one_annotation_are_one_referent(folder: ReferFolder) -> None:
    write_mdetr(folder)
    tables = mdetr(folder)
    row = tables.ann_ids.tolist().index(105)
    assert np.diff(tables.sentence_offsets)[row] == 2
    assert tables.counts()["val"] == {"images": 1, "referents": 1, "sentences": 2, "with_mask": 0}


def test_masks_of_mdetr_files_are_used_when_there_are_any(folder: ReferFolder) -> None:
    write_mdetr(folder)
    content = mdetr_tables(folder, "testA")
    content["annotations"][0]["segmentation"] = folder.annotation(106)["segmentation"]
    (folder.root / "finetune_toy_testA.json").write_text(json.dumps(content))
    assert mdetr(folder).has_mask.tolist() == [False] * 5 + [True]


def test_which_files_of_mdetr(folder: ReferFolder) -> None:
    for name in ("refcoco", "refcoco+", "refcocog"):
        write_mdetr(folder, name)
    root = folder.root
    (root / "finetune_refcocog_testA.json").rename(root / "finetune_refcocog_test.json")
    assert list(find_mdetr_files(root, "refcocog", None).files) == ["test", "train", "val"]
    assert find_mdetr_files(root, "refcoco+", None).by == "unc"
    assert find_mdetr_files(root, "refcocog", None).by == "umd"
    single = find_mdetr_files(root / "finetune_refcoco_val.json", None, None)
    assert (single.name, list(single.files)) == ("refcoco", ["val"])
    with pytest.raises(UsageError, match="holds 3 data sets") as caught:
        find_mdetr_files(root, None, None)
    assert "refcocog: test, train, val" in caught.value.facts
    with pytest.raises(UsageError, match="no data set 'refcocg'") as caught:
        find_mdetr_files(root, "refcocg", None)
    assert caught.value.hint == "did you mean --name refcocog?"
    with pytest.raises(ArtifactError, match="no such folder"):
        find_mdetr_files(root / "absent", None, None)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("images", edit(caption=" "), "empty caption"),
        ("images", edit(original_id="x"), "original_id is 'x'"),
        ("images", edit(file_name=None), "no file name"),
        ("images", edit(width=-3), "has the size -3x24"),
        ("images", edit(id=1), "no annotation has the image_id 1"),
        ("annotations", edit(bbox=[0, 0, 99, 3]), "lies outside"),
        ("annotations", edit(image_id=None), "no annotation has the image_id 7000"),
        ("annotations", edit(segmentation=[[1]]), "even number"),
    ],
)
def test_bad_entries_of_mdetr(
    folder: ReferFolder, part: str, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    write_mdetr(folder)
    content = mdetr_tables(folder, "testA")
    change(content[part][0])
    (folder.root / "finetune_toy_testA.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="1 invalid entry") as caught:
        mdetr(folder)
    assert "finetune_toy_testA.json images[0]" in caught.value.facts[0]
    assert message in caught.value.facts[0]
    assert "testA" not in mdetr(folder, skip_invalid=True).split_names


def test_phrase_grounding_is_refused_and_several_targets_are_joined(folder: ReferFolder) -> None:
    write_mdetr(folder)
    content = mdetr_tables(folder, "testA")
    more = {**content["annotations"][0], "id": 9000, "original_id": 108, "bbox": [1, 2, 3, 4]}
    path = folder.root / "finetune_toy_testA.json"
    content["annotations"].append(more)
    path.write_text(json.dumps(content))
    tables = mdetr(folder)
    assert tables.boxes_xyxy[-1].tolist() == [1, 2, 26, 16]
    assert tables.n_targets is not None
    assert (tables.n_targets[-1], tables.ann_ids[-1]) == (2, -1)
    more["tokens_positive"] = [[4, 9]]
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError) as caught:
        mdetr(folder)
    assert "phrase grounding" in caught.value.facts[0]
    (folder.root / "finetune_toy_testA.json").write_text('{"images": []}')
    with pytest.raises(ArtifactError, match="has no list 'annotations'"):
        mdetr(folder)


# ---- gRefCOCO ----

REFS = [
    gref(1, [101], 11, "train", "left square"),
    gref(2, [101, 102], 11, "train", "both", "the two"),
    gref(3, [-1], 11, "train", "the zebra", no_target=True),
    gref(4, [101, 104], 12, "val"),
    gref(5, [-1], 13, "testA", "nobody", "no one"),
]


@pytest.fixture
def general(folder: ReferFolder) -> ReferFolder:
    folder.annotation(101)["image_id"] = 11
    write_grefcoco(folder, [*REFS[:3], gref(4, [104, 105], 12, "val"), REFS[4]])
    return folder


def test_several_targets_are_one_hull_and_one_union(general: ReferFolder) -> None:
    tables = grefcoco(general)
    assert tables.ref_ids.tolist() == [1, 2, 4]
    assert tables.n_targets is not None
    assert tables.n_targets.tolist() == [1, 2, 2]
    assert tables.ann_ids.tolist() == [101, -1, -1]
    assert tables.boxes_xyxy[1].tolist() == [2, 2, 12, 12]
    mask = rle_to_mask({"size": [24, 32], "counts": tables.rles[1]})
    expected = np.zeros((24, 32), bool)
    expected[2:12, 2:12] = True
    assert (mask == expected).all()  # the second lies inside the first
    assert not tables.has_mask[2]  # 104 has no mask, so half of one would be wrong
    assert list(tables.notices) == [
        "referents with several targets, not all of them with a mask, taken as box only"
    ]


def test_sentences_without_target_are_kept_apart_and_counted(general: ReferFolder, tmp_path: Path) -> None:
    counts = grefcoco(general).counts()
    assert counts["train"] == {
        "images": 1, "referents": 2, "sentences": 3, "with_mask": 2,
        "several_targets": 1, "no_target": 1, "no_target_sentences": 1,
    }  # fmt: skip
    assert (counts["testA"]["referents"], counts["testA"]["no_target_sentences"]) == (0, 2)
    config = Config(source="grefcoco", root=str(general.root))
    summary = run(config, out=tmp_path / "g.h5").summary
    assert summary["splits"]["total"]["no_target_sentences"] == 3
    assert summary["published"]["total"]["sentences"] == "7 of 278232"
    assert verify_artifact(tmp_path / "g.h5") == []
    with open_artifact(tmp_path / "g.h5") as a:
        assert a.strings("no_target/text") == ["the zebra", "nobody", "no one"]
        assert [a.attrs["split_names"][k] for k in a["no_target/split"]] == ["train", "testA", "testA"]
        assert a["referents/n_targets"].tolist() == [1, 2, 2]
    data = ReferringDataset.open(tmp_path / "g.h5", masks="all")
    assert len(data.referents_in("testA")) == 0
    assert "the zebra" not in data.texts


def test_a_pickle_of_grefs_is_read_too(general: ReferFolder) -> None:
    path = general.root / "grefcoco" / "grefs(unc).json"
    refs = json.loads(path.read_text())
    path.unlink()
    (path.parent / "grefs(unc).p").write_bytes(pickle.dumps(refs))
    assert grefcoco(general).ref_ids.tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (gref(4, [104, 999], 12, "val"), "annotation 999 is not in instances.json"),
        (REFS[3], "annotation 101 belongs to image 11, not 12"),
        (gref(4, [104], 99, "val"), "image 99 is not in instances.json"),
        (gref(4, ["a"], 12, "val"), "ann_id is 'a'"),
        (gref(4, [[1]], 12, "val"), "ann_id is [1]"),
        (gref(4, [104], 12, "val", no_target=True), "marked as without target"),
        (gref(1, [104], 12, "val"), "a second referent with this id"),
        (gref(4, [-1], 12, "val", ""), "empty expression"),
        (gref(4, [104], 12, ""), "split is ''"),
    ],
)
def test_bad_grefs(folder: ReferFolder, ref: dict[str, Any], message: str) -> None:
    write_grefcoco(folder, [REFS[0], ref])
    with pytest.raises(ArtifactError, match="1 invalid entry") as caught:
        grefcoco(folder)
    assert message in caught.value.facts[0]
    assert grefcoco(folder, skip_invalid=True).ref_ids.tolist() == [1]


def test_where_grefs_may_be(general: ReferFolder, tmp_path: Path) -> None:
    inside = general.root / "grefcoco"
    assert find_gref_files(inside, None, "unc").one("refs") == inside / "grefs(unc).json"
    with pytest.raises(UsageError, match=r"no grefs\(umd\)\.json") as caught:
        find_gref_files(inside, None, "umd")
    assert caught.value.hint is not None
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no files"):
        find_gref_files(tmp_path / "empty", None, None)
    (inside / "instances.json").unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        find_gref_files(inside, None, None)
    with pytest.raises(ArtifactError, match="no such folder"):
        find_gref_files(tmp_path / "absent", None, None)


def test_only_sentences_without_target(folder: ReferFolder) -> None:
    write_grefcoco(folder, [REFS[4]])
    with pytest.raises(ArtifactError, match="holds no valid referent"):
        grefcoco(folder)
