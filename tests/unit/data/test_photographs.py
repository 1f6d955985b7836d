"""Requests and photographs of predict and refine-masks: every broken line and file named before the work begins."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.data.photographs import Photographs, requests_of_phrases, requests_of_table
from stages.errors import ArtifactError
from tests.oracles.tool_files import picture


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return picture(tmp_path / "photo.png", (60, 90))


def test_broken_requests_are_listed_with_their_lines(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (60, 90))
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8 no picture")
    whole = cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:-30])
    table = tmp_path / "list.csv"
    table.write_text(
        "image,phrase,x1,y1,x2,y2\na.png,star,,,,\nb.jpg,star,,,,\nno.jpg,star,,,,\nno.jpg,moon,,,,\n"
        "cut.jpg,star,,,,\na.png,star,80,10,120,50\na.png,star,80,10,90.4,50\na.png,star,9,9,9,9\n"
    )
    with pytest.raises(ArtifactError, match="5 requests cannot be answered") as caught:
        Photographs.open(requests_of_table(table))
    assert [fact.split(" (")[0] for fact in caught.value.facts] == [
        "line 3: image b.jpg: cannot be decoded",
        "line 4: image no.jpg: no such file",
        "line 6: image cut.jpg: cannot be decoded: its end is missing",
        "line 7: box",
        "line 9: box",
    ]
    assert "lies outside its 90x60 image" in caught.value.facts[3]
    table.write_text("image,phrase,x1,y1,x2,y2\na.png,star,80,10,90.4,50\n")
    opened = Photographs.open(requests_of_table(table))
    assert opened.boxes_xyxy.tolist() == [[80, 10, 90, 50]], "an overshoot of less than a pixel is cut"
    assert opened.notices == {"boxes cut to their image": 1}


def test_invalid_lines_are_listed(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (60, 90))
    table = tmp_path / "list.csv"
    table.write_text(
        "image,phrase,x1,y1,x2,y2\na.png, ,,,,\n,star,,,,\na.png,star,1,2,,4\na.png,star,1,2,wide,4\na.png,star,1,2,nan,4\n"
    )
    with pytest.raises(ArtifactError, match="5 invalid lines") as caught:
        requests_of_table(table)
    assert caught.value.facts == (
        "line 2: empty expression",
        "line 3: no image",
        "line 4: a box without x2",
        "line 5: box ['1', '2', 'wide', '4'] is not four numbers",
        "line 6: a box without x2",
    )
    lines = [
        {"image": "a.png", "phrase": "star", "x1": x1, "y1": 2, "x2": 30, "y2": 40}
        for x1 in ([1], {}, 10**400, True)
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ArtifactError, match="4 invalid lines") as caught:
        requests_of_table(tmp_path / "list.jsonl")
    assert caught.value.facts[0] == "line 1: box [[1], 2, 30, 40] is not four numbers"
    assert max(map(len, caught.value.facts)) < 200
    table.write_text("picture,phrase\na.png,star\n")
    with pytest.raises(ArtifactError, match="has no column image"):
        requests_of_table(table)
    table.write_text("image,phrase\n,star\n")
    with pytest.raises(ArtifactError, match="1 invalid line"):
        requests_of_table(table)
    table.write_text("image,phrase\n../a.png,star\n")
    with pytest.raises(ArtifactError, match="leaves the image folder"):
        requests_of_table(table)


def test_giant_pictures_are_refused_by_their_header(tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    chunk = b"\x00\x00\x00\rIHDR" + (60_000).to_bytes(4) + (60_000).to_bytes(4) + b"\x08\x02\x00\x00\x00"
    huge.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(ArtifactError, match="is 60000x60000, more than the 256 megapixels"):
        Photographs.open(requests_of_phrases(huge, ["star"]))


def test_a_picture_that_breaks_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture(path, (60, 90))
    photographs = Photographs.open(requests_of_phrases(path, ["star"]))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ArtifactError, match=r"a\.png cannot be decoded"):
        photographs.image(0)
    path.unlink()
    with pytest.raises(ArtifactError, match="cannot read image"):
        photographs.image(0)


@pytest.mark.parametrize("text", ["[12, 8, 60, 50]", "12;8;60;50", "(12 8 60 50)", "12,8,60,50"])
def test_boxes_as_programs_print_them(photo: Path, text: str) -> None:
    (request,) = requests_of_phrases(photo, ["sun"], [text])
    assert request.box_xyxy == (12, 8, 60, 50)


def test_a_picture_that_is_not_there_is_told_with_the_one_that_is(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no such file, there is .*photo\.png"):
        Photographs.open(requests_of_phrases(photo.with_suffix(".jpg"), ["sun"]))
    page = tmp_path / "page.jpg"
    page.write_text("<!DOCTYPE html><title>sign in</title>")
    with pytest.raises(ArtifactError, match="is a web page"):
        Photographs.open(requests_of_phrases(page, ["sun"]))
