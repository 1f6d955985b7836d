"""--export-list goes through spreadsheets and annotation tools, --import-list finds its referents again or refuses."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.artifacts import open_artifact
from stages.errors import ArtifactError
from stages.prepare_data import Config as DataConfig
from stages.prepare_data import run as prepare
from stages.split_masks import Config, run

HEAD = "image,phrase,x1,y1,x2,y2,mask"
THINGS = [
    ("a.png", "the red mug", "2,2,12,12"),
    ("a.png", "the spoon", "14,3,30,9.5"),
    ("b.png", "a bowl", "2,2,12,12"),
    ("c.png", "a plate", "1,1,31,23"),
]
Rows = list[dict[str, str]]


def make(folder: Path, things: list[tuple[str, str, str]], mask: str, name: str = "d.h5") -> Path:
    lines = [f"{image},{phrase},{box},{mask}" for image, phrase, box in things]
    (folder / "t.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    prepare(DataConfig(source="table", root=str(folder / "t.csv")), out=folder / name)
    return folder / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.full((24, 32, 3), ord(name[0]), np.uint8))
    mask = np.zeros((24, 32), np.uint8)
    mask[2:12, 2:12] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    return tmp_path


@pytest.fixture
def todo(folder: Path) -> Path:
    """Mug, spoon and bowl are to be drawn."""
    plan = make(folder, THINGS, "", "plan.h5")
    run(
        Config(count=4, candidates="all"),
        dataset=plan,
        out=folder / "p.h5",
        export_list=folder / "todo.csv",
    )
    change(folder / "todo.csv", lambda rows: [r for r in rows if r["image_file"] != "c.png"])
    return folder / "todo.csv"


def change(path: Path, how: Callable[[Rows], Rows], delimiter: str = ",", encoding: str = "utf-8") -> None:
    """As a person with a spreadsheet does: read, edit, save."""
    rows = how(list(csv.DictReader(io.StringIO(path.read_text()))))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(stream.getvalue(), encoding=encoding, newline="")


def shown(dataset: Path, todo: Path) -> set[str]:
    """The sentences of the referents that the list shows."""
    out = dataset.parent / "s.h5"
    out.unlink(missing_ok=True)
    run(Config(import_list=str(todo)), dataset=dataset, out=out)
    with open_artifact(out, kind="split") as split, open_artifact(dataset, kind="dataset") as data:
        texts, offsets = data.strings("sentences/text"), data["referents/sentence_offsets"]
        return {texts[offsets[r]] for r in np.flatnonzero(split["visible"]).tolist()}


CHOSEN = {"the red mug", "the spoon", "a bowl"}


def test_the_table_was_sorted_and_got_lines_and_masks(folder: Path, todo: Path) -> None:
    later = make(folder, [("a.png", "new", "20,15,30,20"), *THINGS[::-1]], "m.png")
    assert shown(later, todo) == CHOSEN


def excel(rows: Rows) -> Rows:
    """Whole floats, a column more, other order of rows and columns, rounded boxes, an empty row."""
    edited = [{"note": "done", **dict(reversed(row.items())), "ref_id": row["ref_id"] + ".0"} for row in rows]
    for row in edited:
        row["box_height_px"] = str(round(float(row["box_height_px"])))
    return [*edited[::-1], dict.fromkeys(edited[0], "")]


def in_german(rows: Rows) -> Rows:
    return [{k: v.replace(".", ",") if k.startswith("box") else v for k, v in row.items()} for row in rows]


def too_few_digits(rows: Rows) -> Rows:
    return [{**row, "ref_id": f"{float(row['ref_id']):.5E}"} for row in rows]


def of_the_first_version(rows: Rows) -> Rows:
    """Ids were line numbers once."""
    return [{**row, "ref_id": str(k)} for k, row in enumerate(rows, 2)]


def by_hand(rows: Rows) -> Rows:
    return [{k: row[k] for k in ("ref_id",)} for row in rows]


def other_names(rows: Rows) -> Rows:
    return [{**row, "image_file": ".\\" + row["image_file"]} for row in rows]


@pytest.mark.parametrize(
    ("how", "delimiter", "encoding"),
    [
        (excel, ",", "utf-8-sig"),
        (excel, "\t", "utf-16"),
        (in_german, ";", "utf-8"),
        (too_few_digits, ",", "utf-8"),
        (of_the_first_version, ",", "utf-8"),
        (by_hand, ",", "utf-8-sig"),
        (other_names, ",", "utf-8"),
    ],
)
def test_spreadsheets_edit_the_list(
    folder: Path, todo: Path, how: Callable[[Rows], Rows], delimiter: str, encoding: str
) -> None:
    change(todo, how, delimiter, encoding)
    assert shown(make(folder, THINGS, "m.png"), todo) == CHOSEN


def test_a_line_that_excel_puts_first(folder: Path, todo: Path) -> None:
    change(todo, lambda rows: rows, ";")
    todo.write_text("sep=;\n" + todo.read_text())
    assert shown(make(folder, THINGS, "m.png"), todo) == CHOSEN


def box_of_another(rows: Rows) -> Rows:
    boxes = [{k: v for k, v in row.items() if k.startswith("box")} for row in rows]
    return [{**row, **box} for row, box in zip(rows, boxes[1:] + boxes[:1], strict=True)]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (box_of_another, r"the list says x "),
        (lambda rows: [{**r, "image_file": "c.png"} for r in rows], r"is in [ab]\.png, the list says c\.png"),
        (
            lambda rows: [{**r, "ref_id": "7", "box_x_px": "5"} for r in rows],
            r"nor has [ab]\.png the box x 5 ",
        ),
        (
            lambda rows: [{**r, "ref_id": "7", "image_file": "z.png"} for r in rows],
            r"nor is its picture z\.png",
        ),
        (lambda rows: [{"ref_id": "7"}], "ref 7 is not in the dataset"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, todo: Path, how: Callable[[Rows], Rows], message: str
) -> None:
    change(todo, how)
    with pytest.raises(ArtifactError, match=r"rows of .*todo\.csv do not fit the dataset") as caught:
        shown(make(folder, THINGS, "m.png"), todo)
    assert caught.value.facts[0].startswith("line 2: ")
    assert any(re.search(message, fact) for fact in caught.value.facts)


def test_two_objects_with_one_box_are_told_apart_by_their_sentences(folder: Path, todo: Path) -> None:
    half = np.zeros((24, 32), np.uint8)
    half[2:12, 2:7] = 255
    cv2.imwrite(str(folder / "h.png"), half)
    lines = "a.png,the red mug,2,2,12,12,m.png\na.png,its handle,2,2,12,12,h.png\n"
    rest = "".join(f"{image},{phrase},{box},m.png\n" for image, phrase, box in THINGS[1:])
    (folder / "t.csv").write_text(f"{HEAD}\n{lines}{rest}")
    prepare(DataConfig(source="table", root=str(folder / "t.csv")), out=folder / "d.h5")
    assert shown(folder / "d.h5", todo) == CHOSEN
    change(todo, lambda rows: [{**row, "sentences": ""} for row in rows])
    with pytest.raises(ArtifactError) as caught:
        shown(folder / "d.h5", todo)
    assert "2 objects of a.png have its box" in caught.value.facts[0]
