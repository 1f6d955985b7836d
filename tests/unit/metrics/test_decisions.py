"""decisions.json: what is taken, and that nothing wrong in it gets any further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import open_artifact
from stages.errors import ArtifactError
from stages.geometry.rasterise import mask_to_rle, rle_area
from stages.metrics.decisions import Decision, read_decisions
from tests.oracles.small_artifacts import SIZE, digest, write_dataset, write_pseudo

SQUARE = [[10, 10], [20, 10], [20, 30], [10, 30]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "data.h5", ["train"] * 4)


def read(dataset: Path, folder: Path, entries: Any, **more: Any) -> dict[int, Decision]:
    content = {
        "format": "seqres-decisions",
        "version": 1,
        "dataset_digest": digest(dataset),
        "decisions": entries,
    }
    path = folder / "decisions.json"
    path.write_text(json.dumps({**content, **more}), "utf-8")
    with open_artifact(dataset) as data:
        return read_decisions(path, data)


def test_verdicts_and_edited_outlines(dataset: Path, tmp_path: Path) -> None:
    flat = [v for point in SQUARE for v in point]
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:20] = True
    rle = mask_to_rle(mask)
    entries = [
        {"ref_id": 1, "referent_index": 0, "sentence_index": 1, "verdict": "accept"},
        {"ref_id": 2, "polygon": SQUARE},
        {"ref_id": 3, "segmentation": [flat, [40, 40, 50, 40, 50, 50]], "verdict": "accept"},
        {"ref_id": 4, "segmentation": {"size": list(SIZE), "counts": rle["counts"].decode()}},
    ]
    found = read(dataset, tmp_path, entries)
    assert [found[r].word for r in range(4)] == ["accepted", "corrected", "corrected", "corrected"]
    assert found[0].sentence == 1
    assert [rle_area(found[r].mask) for r in (1, 3)] == [200, 200]  # type: ignore[arg-type]
    assert rle_area(found[2].mask) > 240  # type: ignore[arg-type]
    assert found[1].ring_xy is not None
    assert found[2].ring_xy is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (7, "decision 1 is no object, got '7'"),
        ({"verdict": "accept"}, "ref_id must be a whole number"),
        ({"ref_id": True, "verdict": "accept"}, "ref_id must be a whole number, got 'True'"),
        ({"ref_id": "1", "verdict": "accept"}, "ref_id must be a whole number, got '1'"),
        ({"ref_id": 99, "verdict": "accept"}, "names ref_id 99, which .* does not have"),
        ({"ref_id": 1, "referent_index": 2, "verdict": "accept"}, "referent_index 2, but ref_id 1 is row 0"),
        ({"ref_id": 1, "sentence_index": 5, "verdict": "accept"}, "sentence_index 5, which is none of ref_id 1"),
        ({"ref_id": 1}, "verdict must be one of accept, reject, unsure"),
        ({"ref_id": 1, "verdict": ["accept"]}, "verdict must be one of"),
        ({"ref_id": 1, "verdict": "reject", "polygon": SQUARE}, "a contour means accept"),
        ({"ref_id": 1, "polygon": SQUARE, "segmentation": [[1, 1, 2, 1, 2, 2]]}, "give one of them"),
        ({"ref_id": 1, "polygon": SQUARE[:2]}, "3 to 20000 points"),
        ({"ref_id": 1, "polygon": [[0, 0]] * 20_001}, "3 to 20000 points"),
        ({"ref_id": 1, "polygon": [[1, 2], [3, "4"], [5, 6]]}, "a point of a contour must be two numbers"),
        ({"ref_id": 1, "polygon": [[1, 2], [3, 10**400], [5, 6]]}, "a point of a contour must be two numbers"),
        ({"ref_id": 1, "polygon": [[10, 10], [200, 10], [20, 30]]}, r"point \(200, 10\), outside its picture of 80x60"),
        ({"ref_id": 1, "polygon": [[0, 0]] * 3}, "covers no pixel"),
        ({"ref_id": 1, "segmentation": [[1, 2, 3, 4, 5]]}, "a point of a contour must be two numbers"),
        ({"ref_id": 1, "segmentation": "polygon"}, "segmentation must be polygons or run lengths"),
        ({"ref_id": 1, "segmentation": {"size": [2, 2], "counts": [4]}}, "does not match its image"),
        ({"ref_id": 1, "segmentation": {"size": [["x" * 100_000]] * 2, "counts": [4]}}, "mask size .{,70} does not match"),
        ({"ref_id": 1, "segmentation": {"size": list(SIZE), "counts": [1e9]}}, "must be whole numbers"),
        ({"ref_id": 1, "segmentation": {"size": list(SIZE), "counts": [5, 10**30]}}, "mask runs"),
        ({"ref_id": 1, "segmentation": []}, "covers no pixel"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_refused_by_its_number(
    dataset: Path, tmp_path: Path, entry: Any, message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        read(dataset, tmp_path, [entry])


def test_a_referent_is_decided_about_once(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="decision 2 names ref_id 1 a second time"):
        read(dataset, tmp_path, [{"ref_id": 1, "verdict": "accept"}, {"ref_id": 1, "verdict": "reject"}])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"format": "coco"}, "is no file of decisions"),
        ({"version": 2}, "has version 2 of its format, this seqres reads 1"),
        ({"version": True}, "has version True"),
        ({"dataset_digest": "0" * 64}, "was not decided about .*data.h5"),
        ({"dataset_digest": None}, "was not decided about"),
        ({"decisions": {"1": "accept"}}, "has no list of decisions"),
    ],
)
def test_a_wrong_file_is_refused(dataset: Path, tmp_path: Path, more: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read(dataset, tmp_path, [], **more)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"a": NaN}', "[1" + "0" * 5000 + "]", b"\xff\xfe{"]
)
def test_what_is_no_json_is_said_so(dataset: Path, tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "decisions.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with open_artifact(dataset) as data, pytest.raises(ArtifactError, match="is no valid JSON"):
        read_decisions(path, data)


def test_a_file_beyond_all_measure_is_not_read(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.metrics.decisions._LARGEST", 1 << 20)
    path = tmp_path / "decisions.json"
    path.write_bytes(b" " * ((1 << 20) + 1))
    with open_artifact(dataset) as data, pytest.raises(ArtifactError, match="is larger than 1 MiB"):
        read_decisions(path, data)


def test_decisions_about_other_pseudo_masks_are_refused(dataset: Path, tmp_path: Path) -> None:
    pseudo = write_pseudo(tmp_path / "pseudo.h5", dataset, [(0, 0, 0.9, SQUARE)])
    read(dataset, tmp_path, [{"ref_id": 1, "verdict": "accept"}], pseudo_digest="1" * 64)
    with (
        open_artifact(dataset) as data,
        open_artifact(pseudo) as masks,
        pytest.raises(ArtifactError, match=r"was not decided about .*pseudo.h5") as error,
    ):
        read_decisions(tmp_path / "decisions.json", data, masks)
    assert "pseudo_digest 111111111111 in the decisions" in str(error.value)
