"""`seqres predict` through its entry point: what it prints, writes and refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.oracles.random_models import write_random_model

Seqres = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("model") / "res.h5", "box-contour")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.full((48, 64, 3), 120, np.uint8))
    return path


def test_phrases_about_a_photograph(seqres: Seqres, model: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks.json"
    asked = (
        "predict", "--model", model, "--image", photo, "--phrase", "the red star", "--phrase", "the moon",
        "--box", "1,2,30,40", "--box", "5,6,60,44", "--out", out, "--overlays", tmp_path / "drawn",
    )  # fmt: skip
    done = seqres(*asked)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith(f"wrote {out} in ")
    assert ["image", "expression", "box", "mask", "pixels", "confidence"] in [line.split() for line in lines]
    assert any("the red star" in line for line in lines)
    written = json.loads(out.read_text())
    assert [row["phrase"] for row in written["predictions"]] == ["the red star", "the moon"]
    assert [row["given_box_xyxy"] for row in written["predictions"]] == [[1, 2, 30, 40], [5, 6, 60, 44]]
    assert written["provenance"]["argv"][:2] == ["seqres", "predict"]
    assert len(list((tmp_path / "drawn").iterdir())) == 2
    again = seqres(*asked, "--json", "--quiet")
    assert (again.code, again.err) == (0, "")
    answer = json.loads(again.out)
    assert (answer["status"], answer["stage"], answer["summary"]["phrases"]) == ("up-to-date", "predict", 2)


def test_a_table(seqres: Seqres, model: Path, photo: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "list.csv", tmp_path / "masks.json"
    table.write_text('image,phrase\nphoto.jpg,the red star\nphoto.jpg,"moon, left"\n')
    asked = ("predict", "--model", model, "--table", table, "--out", out)
    planned = seqres(*asked, "--dry-run")
    assert planned.out == f"would run predict: {out} does not exist\n"
    done = seqres(*asked, "--json", "--batch-size", 1)
    assert done.code == 0, done.err
    assert json.loads(done.out)["summary"]["pictures"] == 1
    assert [row["phrase"] for row in json.loads(out.read_text())["predictions"]] == [
        "the red star",
        "moon, left",
    ]
    table.write_text("image,phrase\nphoto.jpg,heart\n")
    refused = seqres(*asked)
    assert refused.code == 3
    assert "hint: make it again with --force" in refused.err
    assert seqres(*asked, "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "error: predict needs --model, --out"),
        (["--model", "MODEL", "--out", "o.json"], 2, "give a picture with --image, or a table with --table"),
        (["--model", "MODEL", "--image", "PHOTO", "--out", "o.json"], 2, "no expression for the picture"),
        (["--model", "MODEL", "--image", "PHOTO", "--phrase", "", "--out", "o.json"], 2, "--expression is empty"),
        (
            ["--model", "MODEL", "--image", "PHOTO", "--phrase", "a", "--box", "1,2,3", "--out", "o.json"],
            2,
            "--box must be four numbers, got '1,2,3'",
        ),
        (
            ["--model", "MODEL", "--image", "PHOTO", "--phrase", "a", "--box", "1,2,99,9", "--out", "o.json"],
            3,
            "lies outside its 64x48 image",
        ),
        (["--model", "MODEL", "--image", "none.jpg", "--phrase", "a", "--out", "o.json"], 3, "no such file"),
        (["--model", "none.h5", "--image", "PHOTO", "--phrase", "a", "--out", "o.json"], 3, "no such file: none.h5"),
        (["--model", "PHOTO", "--image", "PHOTO", "--phrase", "a", "--out", "o.json"], 3, "HDF5"),
        (["--model", "MODEL", "--table", "none.csv", "--out", "o.json"], 3, "cannot read none.csv"),
        (["--model", "MODEL", "--image", "PHOTO", "--phrase", "a", "--out", "o.json", "--device", "gpu9"], 2, "gpu9"),
    ],
)  # fmt: skip
def test_mistakes(
    seqres: Seqres, model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"MODEL": str(model), "PHOTO": str(photo)}
    done = seqres("predict", *(places.get(a, a) for a in arguments))
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert not (tmp_path / "o.json").exists()


def test_lines_through_pipes(
    seqres: Seqres, model: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"image": str(photo), "phrase": "the red star"})
    monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
    done = seqres("predict", "--model", model, "--table", "-", "--out", "-", "--quiet")
    assert done.code == 0, done.err
    assert json.loads(done.out)["phrase"] == "the red star" and done.out.count("\n") == 1
    refused = seqres("predict", "--model", model, "--table", "-", "--out", "-", "--json")
    assert refused.code == 2 and "--out - already prints the answers as JSON lines" in refused.err


def test_a_pattern_that_the_shell_has_filled_in(
    seqres: Seqres, model: Path, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(photo.read_bytes())
    done = seqres(
        "predict",
        "--model",
        model,
        "--image",
        photo,
        other,
        "--phrase",
        "star",
        "--out",
        tmp_path / "o.json",
        "--json",
    )
    assert json.loads(done.out)["summary"]["pictures"] == 2
