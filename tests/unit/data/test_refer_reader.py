"""The REFER layout: what is read, what is repaired, what is refused and how it is said."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.refer import find_refer_files, read_refer
from stages.data.readers.tables import ReferringTables
from stages.errors import ArtifactError, UsageError
from stages.geometry.rasterise import rle_to_mask
from tests.oracles.refer_folder import ReferFolder, ref, sentence


@pytest.fixture
def folder(tmp_path: Path) -> ReferFolder:
    return ReferFolder(tmp_path / "data")


def read(folder: ReferFolder, **options: Any) -> ReferringTables:
    return read_refer(find_refer_files(folder.write(), "toy", None), **options)


def mask_of(tables: ReferringTables, ref_id: int) -> np.ndarray:
    row = tables.ref_ids.tolist().index(ref_id)
    size = tables.image_sizes_hw[tables.image_index[row]].tolist()
    return rle_to_mask({"size": size, "counts": tables.rles[row]})


def test_every_form_of_mask(folder: ReferFolder) -> None:
    tables = read(folder)
    assert tables.ref_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert tables.has_mask.tolist() == [True, True, True, False, True, True, True]
    assert tables.is_crowd.tolist() == [False, False, True, False, False, False, False]
    block = np.zeros((24, 32), bool)
    block[2:6, 3:9] = True
    assert (mask_of(tables, 2) == block).all()
    assert (mask_of(tables, 3) == block).all()
    union = np.zeros((24, 32), bool)
    union[1:9, 1:13] = True
    assert (mask_of(tables, 5) == union).all()  # overlapping parts count once
    assert (mask_of(tables, 6) == union).all()  # two refs may share an annotation
    assert mask_of(tables, 1).sum() == 100


def test_tables(folder: ReferFolder) -> None:
    tables = read(folder)
    assert (tables.name, tables.by, tables.split_names) == ("toy", "unc", ["train", "val", "testA"])
    assert tables.image_ids.tolist() == [11, 12, 13]  # 14 is not referred to
    assert tables.image_files[0] == "COCO_train2014_000000000011.jpg"  # not the ref's name with its ann id
    assert tables.boxes_xyxy[3].tolist() == [5.5, 4.5, 15.5, 12.5]
    assert tables.texts[:2] == ["left square", "the square on the left"]
    assert tables.sentence_offsets.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]
    assert tables.counts() == {
        "train": {"images": 2, "referents": 4, "sentences": 5, "with_mask": 3},
        "val": {"images": 1, "referents": 2, "sentences": 2, "with_mask": 2},
        "testA": {"images": 1, "referents": 1, "sentences": 1, "with_mask": 1},
    }
    assert tables.notices == {}


def test_order_of_the_refs_does_not_matter(folder: ReferFolder, tmp_path: Path) -> None:
    first = read(folder)
    folder.refs.reverse()
    second = read(folder)
    assert first.ref_ids.tolist() == second.ref_ids.tolist()
    assert first.texts == second.texts


def test_split_names_are_taken_exactly(folder: ReferFolder) -> None:
    """ "testA" does not hold "testAB", which the public loader takes for both (golden/ODDITIES.md H12)."""
    folder.refs += [ref(8, 106, 13, "testAB"), ref(9, 106, 13, "test")]
    counts = read(folder).counts()
    assert list(counts) == ["train", "val", "testA", "test", "testAB"]
    assert counts["testA"]["referents"] == 1


def test_sent_else_raw_else_tokens(folder: ReferFolder) -> None:
    folder.ref(4)["sentences"] = [
        {"sent_id": 1, "sent": "clean", "raw": "RAW!", "tokens": ["t"]},
        {"sent_id": 2, "sent": " ", "raw": "Raw only", "tokens": ["t"]},
        {"sent_id": 3, "tokens": ["from", "tokens"]},
    ]
    tables = read(folder)
    assert tables.texts[tables.sentence_offsets[3] : tables.sentence_offsets[4]] == [
        "clean",
        "Raw only",
        "from tokens",
    ]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickle_protocols(folder: ReferFolder, protocol: int) -> None:
    root = folder.write(protocol=protocol)
    assert len(read_refer(find_refer_files(root, "toy", "unc")).ref_ids) == 7


def test_pickles_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "p"
    for data, text in (
        (b"(dp0\nS'sent'\np1\nS'caf\\xc3\\xa9'\np2\ns.", "café"),  # UTF-8 bytes in a str
        (b"(dp0\nS'sent'\np1\nS'caf\\xe9'\np2\ns.", "café"),  # Latin-1 bytes in a str
        (b"(dp0\nS'sent'\np1\nVcaf\xe9\np2\ns.", "café"),  # a unicode object
        (b"\x80\x02}q\x00U\x04sentq\x01U\x03manq\x02s.", "man"),
    ):
        path.write_bytes(data)
        assert load_plain_pickle(path) == {"sent": text}
    path.write_bytes(b"\x80\x02c__builtin__\nset\nq\x00]q\x01K\x01a\x85q\x02Rq\x03.")
    assert load_plain_pickle(path) == {1}


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Hostile(), "system"),
        ([np.datetime64("2020-01-01").astype(object)], "datetime"),
        (np.random.default_rng, "numpy"),
        (Path("x"), "pathlib"),
    ],
)
def test_refused_objects_are_named(folder: ReferFolder, content: Any, named: str) -> None:
    root = folder.write()
    (folder.folder / "refs(unc).p").write_bytes(pickle.dumps(content))
    with pytest.raises(ArtifactError, match=rf"refs\(unc\)\.p asks for \S*{named}"):
        read_refer(find_refer_files(root, "toy", "unc"))


@pytest.mark.parametrize("data", [b"", b"hello", b"\x80\x05]\x94(K\x01", b"\x80\x02}q\x00(", b"cos\nsystem"])
def test_damaged_pickles(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"refs\(unc\)\.p"):
        load_plain_pickle(path)


def test_cut_off_anywhere_is_an_error_and_never_a_crash(folder: ReferFolder) -> None:
    root = folder.write()
    whole = (folder.folder / "refs(unc).p").read_bytes()
    for length in range(0, len(whole) - 1, 97):
        (folder.folder / "refs(unc).p").write_bytes(whole[:length])
        with pytest.raises(ArtifactError):
            read_refer(find_refer_files(root, "toy", "unc"))


def bend_box(box: list[Any]) -> Any:
    return lambda f: f.annotation(106).update(bbox=box)


INVALID = {
    "outside": (bend_box([20, 10, 14, 6]), r"ref 7: box \[20, 10, 14, 6\].* outside its 32x24 image"),
    "far outside": (bend_box([100, 10, 4, 6]), r"ref 7: box \[100.* outside"),
    "no width": (bend_box([20, 10, 0, 6]), r"ref 7: box \[20, 10, 0, 6\] has no area"),
    "negative": (bend_box([20, 10, -3, 6]), "ref 7: .* has no area"),
    "three numbers": (bend_box([20, 10, 3]), r"ref 7: box is \[20, 10, 3\]"),
    "not finite": (bend_box([float("nan"), 10, 3, 4]), "ref 7: .*not finite"),
    "no box": (lambda f: f.annotation(106).pop("bbox"), "ref 7: box is None"),
    "empty expression": (
        lambda f: f.ref(7).update(sentences=[sentence(70, "")]),
        r"ref 7: empty .*sentence 70",
    ),
    "one empty of two": (
        lambda f: f.ref(7)["sentences"].append(sentence(71, "  ")),
        r"ref 7: empty expression \(sentence 71\)",
    ),
    "no annotation": (
        lambda f: f.ref(7).update(ann_id=999),
        "ref 7: annotation 999 is not in instances.json",
    ),
    "no image": (lambda f: f.ref(7).update(image_id=999), "ref 7: image 999 is not in instances.json"),
    "other image": (
        lambda f: f.ref(7).update(image_id=11),
        "ref 7: annotation 106 belongs to image 13, not 11",
    ),
    "text id": (lambda f: f.ref(7).update(ann_id="a6"), "ref 7: ann_id is 'a6', not a whole number"),
    "twice": (lambda f: f.ref(7).update(ref_id=1), "ref 1: a second referent with this id"),
    "split": (lambda f: f.ref(7).pop("split"), "ref 7: split is None"),
    "size": (lambda f: f.images[2].update(height=0), "ref 7: image 13 has the size 32x0"),
    "no file name": (lambda f: f.images[2].pop("file_name"), "ref 7: image 13 has no file name"),
    "rle of another size": (
        lambda f: f.annotation(106).update(segmentation={"size": [5, 5], "counts": [25]}),
        r"ref 7: annotation 106: mask size \[5, 5\]",
    ),
    "odd polygon": (
        lambda f: f.annotation(106).update(segmentation=[[1, 2, 3]]),
        "annotation 106: .*even number",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_referents_are_listed_or_left_out(folder: ReferFolder, case: str) -> None:
    bend, message = INVALID[case]
    bend(folder)
    with pytest.raises(ArtifactError, match=message) as caught:
        read(folder)
    assert "1 invalid entry" in caught.value.message
    assert "--skip-invalid" in str(caught.value.hint)
    tables = read(folder, skip_invalid=True)
    kept = 7 if case == "one empty of two" else 6
    assert len(tables.ref_ids) == kept
    assert sum(tables.notices.values()) == 1


def test_many_problems_are_counted_and_some_listed(folder: ReferFolder) -> None:
    folder.refs += [ref(100 + k, 999, 11, "train") for k in range(30)]
    with pytest.raises(ArtifactError) as caught:
        read(folder)
    assert "30 invalid entries" in caught.value.message
    assert len(caught.value.facts) == 21
    assert caught.value.facts[-1] == "and 10 more"
    assert caught.value.hint and "--errors-to FILE lists them all" in caught.value.hint


def test_boxes_just_over_the_border_are_cut(folder: ReferFolder) -> None:
    folder.annotation(106)["bbox"] = [-0.4, 10, 6, 14.9]
    tables = read(folder)
    assert tables.boxes_xyxy[6].tolist() == [0, 10, 5.6, 24]
    assert tables.notices == {"boxes cut to their image": 1}


def test_mask_without_a_pixel_is_box_only(folder: ReferFolder) -> None:
    folder.annotation(105)["segmentation"] = [[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]]
    tables = read(folder)
    assert not tables.has_mask[4:6].any()
    assert tables.notices == {"masks without a pixel, taken as box only": 2}


def test_nothing_valid_is_left(folder: ReferFolder) -> None:
    folder.refs = [ref(1, 999, 11, "train")]
    with pytest.raises(ArtifactError, match="holds no valid referent"):
        read(folder, skip_invalid=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no valid JSON"),
        ("[]", "has no list 'images'"),
        ('{"images": [], "annotations": 3, "categories": []}', "has no list 'annotations'"),
    ],
)
def test_damaged_instances(folder: ReferFolder, content: str, message: str) -> None:
    root = folder.write()
    (folder.folder / "instances.json").write_text(content)
    with pytest.raises(ArtifactError, match=message):
        read_refer(find_refer_files(root, "toy", "unc"))


def test_where_the_files_may_be(folder: ReferFolder) -> None:
    root = folder.write()
    for found in (
        find_refer_files(root, "toy", None),
        find_refer_files(root / "toy", None, "unc"),
        find_refer_files(root / "toy", "toy", None),
    ):
        assert (found.name, found.by, found.one("refs").parent) == ("toy", "unc", root / "toy")
    assert find_refer_files(root / "toy", "refcoco", None).name == "refcoco"


def test_unknown_names_list_what_is_there(folder: ReferFolder, tmp_path: Path) -> None:
    root = folder.write()
    with pytest.raises(UsageError, match="no data set 'tov'") as caught:
        find_refer_files(root, "tov", None)
    assert caught.value.hint == "did you mean --name toy?"
    assert caught.value.facts == (f"{root / 'toy'}: by unc",)
    with pytest.raises(UsageError, match=r"holds no refs\(<by>\)\.p itself"):
        find_refer_files(root, None, None)
    with pytest.raises(UsageError, match=r"no refs\(umd\)\.p") as caught:
        find_refer_files(root, "toy", "umd")
    assert "by unc" in str(caught.value)
    (root / "toy" / "refs(google).p").write_bytes(b"")
    with pytest.raises(UsageError, match="several splits: google, unc"):
        find_refer_files(root, "toy", None)
    with pytest.raises(ArtifactError, match="no such folder"):
        find_refer_files(tmp_path / "absent", None, None)
    (root / "toy" / "instances.json").unlink()
    with pytest.raises(ArtifactError, match=r"no such file: .*instances\.json"):
        find_refer_files(root, "toy", "unc")


def test_without_images_takes_all_that_hangs_on_them(folder: ReferFolder) -> None:
    tables = read(folder).without_images([0])
    assert tables.image_ids.tolist() == [12, 13]
    assert tables.ref_ids.tolist() == [4, 5, 6, 7]
    assert tables.image_index.tolist() == [0, 0, 0, 1]
    assert tables.texts == ["box", "two squares", "the same squares", "the thing"]
    assert tables.sentence_offsets.tolist() == [0, 1, 2, 3, 4]
    assert len(tables.rles) == 4


def test_ids_beyond_64_bits_are_refused(folder: ReferFolder) -> None:
    folder.ref(7)["ref_id"] = 2**63
    with pytest.raises(ArtifactError, match=f"ref_id is {2**63}"):
        read(folder)


def test_other_json_types_in_lists_are_passed_over(folder: ReferFolder) -> None:
    root = folder.write()
    path = folder.folder / "instances.json"
    content = json.loads(path.read_text())
    content["annotations"] += [None, {"id": [1]}, {"id": True}, 5]
    content["images"] += ["x"]
    path.write_text(json.dumps(content))
    assert len(read_refer(find_refer_files(root, "toy", "unc")).ref_ids) == 7
