"""The file that a name nearly fits, what a wrong file is, and names that differ in case only."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from stages.errors import did_you_mean, nearest_hint
from stages.file_kinds import what_it_is
from stages.nearest import Neighbours, file_hint, nearest_file

NFC, NFD = (unicodedata.normalize(form, "Hängebrücke.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("asked", "lies", "found"),
    [
        ("COCO_val2014_000000004711.jpg", "000000004711.jpg", "000000004711.jpg"),
        ("000000004711.jpg", "COCO_val2014_000000004711.jpg", "COCO_val2014_000000004711.jpg"),
        ("COCO_val2014_000000004711.jpg", "train2017/000000004711.jpg", "train2017/000000004711.jpg"),
        ("cup.jpg", "cup.jpeg", "cup.jpeg"),
        ("cup.jpg", "cup.png", "cup.png"),
        ("cup.jpg", "CUP.JPG", "CUP.JPG"),
        ("cup.jpg", "inner/cup.jpg", "inner/cup.jpg"),
        ("cup.jpg", "inner/cup.jpeg", "inner/cup.jpeg"),
        ("outer/cup.jpg", "cup.jpg", "cup.jpg"),
        ("Inner/cup.jpg", "inner/cup.jpg", "inner/cup.jpg"),
        (NFC, NFD, NFD),
        (NFD, NFC, NFC),
        ("inner\\cup.jpg", "inner/cup.jpg", "inner/cup.jpg"),
        ("red%20cup.jpg", "red cup.jpg", "red cup.jpg"),
        ("file://cup.jpg", "cup.jpg", "cup.jpg"),
        ("cup.jpg ", "cup.jpg", "cup.jpg"),
        ("C:\\photos\\cup.jpg", "cup.jpg", "cup.jpg"),
        ("teapott.jpg", "teapot.jpg", "teapot.jpg"),
        ("photo-017.jpg", "photo-018.jpg", None),  # the next of a series is another picture
        ("cup.jpg", "cup.json", None),
        ("nothing.jpg", "else.bin", None),
    ],
)
def test_the_file_that_a_name_nearly_fits(tmp_path: Path, asked: str, lies: str, found: str | None) -> None:
    (tmp_path / lies).parent.mkdir(exist_ok=True)
    (tmp_path / lies).touch()
    assert Neighbours().nearest(tmp_path, asked) == found


def test_paths_are_compared_from_the_deepest_folder_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "darknet53.weights"
    file.touch()
    assert nearest_file(tmp_path / "weight" / "darknet53.weights") == str(file)
    assert file_hint(tmp_path / "weights" / "darknet35.weights") is None  # digits are no misspelling
    monkeypatch.chdir(tmp_path)
    assert file_hint("weights/Darknet53.weights") == "did you mean weights/darknet53.weights?"
    assert nearest_file("\0") is None


def test_accents_apart_from_their_letters_are_shown_as_such(tmp_path: Path) -> None:
    (tmp_path / NFD).touch()
    assert Neighbours().hint(tmp_path, NFC) == f"there is {NFD!a}"


def test_letters_alone_come_before_likeness() -> None:
    assert did_you_mean("testa", ["test", "testA", "testB"]) == "testA"
    assert did_you_mean("TRAIN-REC", ["train_res", "train_rec"]) == "train_rec"
    assert did_you_mean("xyz", ["testA"]) is None
    assert nearest_hint("vall", ["train", "val"], "--split {}") == "did you mean --split val?"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"\xef\xbb\xbf\n<!doctype HTML><html>", "a web page"),
        (b'<?xml version="1.0"?><svg xmlns="">', "an SVG drawing"),
        (b'<?xml version="1.0"?>\n<annotations><version>1.1', "annotations of CVAT"),
        (b'{"version": "5.0", "flags": {}, "shapes": [', "an annotation of labelme"),
        (b'{"images": [], "annotations": []}', "a COCO annotation file"),
        (b'{"type": "FeatureCollection", "features": []}', "a GeoJSON file"),
        (b'{"a.jpg12": {"filename": "a.jpg", "regions": [{"shape_attributes": {', "annotations of VIA"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "a HEIC picture"),
        (b"\0\0\0\x1cftypavif", "an AVIF picture"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"%PDF-1.7", "a PDF document"),
        (b"", "an empty file"),
        (b"PK\x03\x04\x14\0\x06\0" + bytes(22) + b"[Content_Types].xml", "an office document (XLSX"),
        (b"PAR1\x15\x04", "a Parquet table"),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"red,green\n", None),
    ],
)
def test_what_a_wrong_file_is(head: bytes, words: str | None) -> None:
    said = what_it_is(head, "a.jpg")
    assert said is None if words is None else said is not None and said.startswith(words)


def test_a_raw_picture_is_known_by_its_name_too() -> None:
    assert what_it_is(b"II*\0\x08\0\0\0", "a.tif") is None
    assert "DNG" in (what_it_is(b"II*\0\x08\0\0\0", "a.DNG") or "")
