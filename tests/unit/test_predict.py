"""predict: the same answers as on a dataset, for every family; boxes as prompts; documents; errors that name the line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco
from pycocotools.coco import COCO

from stages import evaluate, predict, prepare_data
from stages.artifacts import RunOptions, open_artifact
from stages.artifacts.provenance import storable
from stages.data.dataset import ReferringDataset
from stages.data.readers.table import read_table
from stages.data.readers.table_file import open_table
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.geometry.boxes import clip_boxes
from stages.geometry.rasterise import polygon_to_rle
from tests.oracles.kept_warnings import KeptWarnings
from tests.oracles.random_models import CONFIGS, write_random_model
from tests.oracles.small_artifacts import write_dataset

SENTENCES = 7
TAKES_BOX = ["box-contour", "multitask", "second look, box-contour"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: write_random_model(folder / f"{i}.h5", name, seed=4) for i, name in enumerate(CONFIGS)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "dataset.h5"
    prepare_data.run(prepare_data.Config(source="refshapes", scale="tiny"), out=out)
    return out


@pytest.fixture(scope="module")
def table(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sentences that evaluate scores, as pictures and a table with boxes."""
    folder = tmp_path_factory.mktemp("photos")
    data = ReferringDataset.open(dataset)
    lines = ["image\tphrase\tx1\ty1\tx2\ty2"]
    with open_artifact(dataset) as a:
        encoded = a.ragged("images/encoded")
        for s in evaluate.choose_sentences(data, "val", SENTENCES):
            r = data.sentence_referent[s]
            i = int(data.referent_image[r])
            (folder / f"{i}.jpg").write_bytes(encoded[i].tobytes())
            corners = "\t".join(map(repr, data.boxes_xyxy[r].tolist()))
            lines.append(f"{i}.jpg\t{data.texts[s]}\t{corners}")
    path = folder / "list.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "photo.png", 60, 90)


def write_picture(path: Path, height: int, width: int, seed: int = 0) -> Path:
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (width, height)))
    return path


def document(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("ascii"))
    return content


def without_boxes(table: Path, out: Path) -> Path:
    out.write_text("".join("\t".join(line.split("\t")[:2]) + "\n" for line in table.read_text().splitlines()))
    return out


@pytest.mark.parametrize(
    ("name", "prompt"), [*((name, False) for name in CONFIGS), *((name, True) for name in TAKES_BOX)]
)
def test_the_answers_are_those_of_evaluate(
    models: dict[str, Path], dataset: Path, table: Path, tmp_path: Path, name: str, prompt: bool
) -> None:
    scored = tmp_path / "eval.h5"
    evaluate.run(
        evaluate.Config(splits=("val",), max_expressions=SENTENCES, box_prompt=prompt, device="cpu"),
        dataset=dataset, model=models[name], out=scored,
    )  # fmt: skip
    asked = table if prompt else without_boxes(table, table.with_name("phrases.tsv"))
    out = tmp_path / "answers.json"
    result = predict.run(predict.Config(device="cpu", batch_size=2), model=models[name], table=asked, out=out)
    rows = document(out)["predictions"]
    assert len(rows) == result.summary["phrases"] == SENTENCES
    assert [row["box_prompt"] for row in rows] == [prompt] * SENTENCES
    assert all(0 < row["confidence"] <= 1 for row in rows)
    with open_artifact(scored) as a:
        boxes = [row["box_xyxy"] or [np.nan] * 4 for row in rows]
        sizes = [row["size"] for row in rows]
        inside = clip_boxes(a["predicted_box_xyxy"], sizes)
        flat = (inside[:, 2:] - inside[:, :2] < 1).any(1)  # these are widened to a pixel
        assert np.allclose(np.array(boxes)[~flat], inside[~flat], atol=2e-3, equal_nan=True)
        assert np.allclose(np.array(boxes)[flat], inside[flat], atol=1.001)
        if not CONFIGS[name].answers_masks:
            assert all(row["mask"] is None and row["points_xy"] == [] for row in rows)
            return
        assert {len(row["points_xy"]) for row in rows} != {0}
        for i, row in enumerate(rows):
            points = a.ragged("points_xy")[i].clip(0, sizes[i][::-1])
            assert np.allclose(np.reshape(row["points_xy"], (-1, 2)), points, atol=2e-3)
            assert row["mask"]["counts"].encode() == bytes(a.ragged("masks/rle")[i])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("name", ["contour", "detector with masks"])
def test_pycocotools_reads_the_masks(models: dict[str, Path], photo: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "a.json"
    predict.run(predict.Config(), model=models[name], image=photo, phrase=["the red star", "moon"], out=out)
    content = document(out)
    with open_artifact(models[name]) as a:
        assert content["model"]["digest"] == a.digest
    for row in content["predictions"]:
        mask = coco.decode(row["mask"])
        assert mask.shape == tuple(row["size"]) == (60, 90)
        assert mask.sum() == row["area"] == coco.area(row["mask"])
        if name == "contour":  # the polygon alone says the same
            again = polygon_to_rle(row["points_xy"], row["size"])
            assert coco.iou([again], [row["mask"]], [0])[0, 0] > 0.99 or row["area"] == 0


def test_a_given_box_starts_the_sequence(models: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    out, box = tmp_path / "a.json", [20.0, 10.0, 70.0, 50.0]
    notes = KeptWarnings()
    predict.run(
        predict.Config(), model=models["box-contour"], image=photo, phrase=["star"], box=["20,10 70, 50"], out=out,
        reporter=notes,
    )  # fmt: skip
    (row,) = document(out)["predictions"]
    assert row["given_box_xyxy"] == box and row["box_prompt"]
    assert np.allclose(row["box_xyxy"], box, atol=90 / 40), "the box of the sequence, up to its bins"
    assert notes.warnings == []


@pytest.mark.parametrize("name", ["box", "contour", "second look", "detector", "detector with masks"])
def test_models_that_take_no_box_say_so(
    models: dict[str, Path], photo: Path, tmp_path: Path, name: str
) -> None:
    outs = tmp_path / "with.json", tmp_path / "without.json"
    notes = KeptWarnings()
    for out, box in zip(outs, ([(20, 10, 70, 50)], []), strict=True):
        predict.run(
            predict.Config(), model=models[name], image=photo, phrase=["star"], box=box, out=out, reporter=notes
        )  # fmt: skip
    assert len(notes.warnings) == 1 and "the boxes given are ignored" in notes.warnings[0]
    (a,), (b,) = (document(out)["predictions"] for out in outs)
    assert a.pop("given_box_xyxy") == [20, 10, 70, 50] and b.pop("given_box_xyxy") is None
    assert a == b


def test_a_table_may_give_boxes_for_some_lines_and_share_pictures(
    models: dict[str, Path], tmp_path: Path
) -> None:
    write_picture(tmp_path / "a.png", 60, 90, 1)
    write_picture(tmp_path / "b.jpg", 100, 40, 2)
    asked = [
        {"image": "a.png", "phrase": "red star"},
        {"image": "b.jpg", "phrase": "moon", "x1": 5, "y1": 6, "x2": 30.5, "y2": 70},
        {"image": "./a.png", "phrase": "blue heart", "x1": None, "y1": None, "x2": None, "y2": None},
    ]
    table = tmp_path / "list.jsonl"
    table.write_text("\n".join(map(json.dumps, asked)))
    out = tmp_path / "out.json"
    summary = predict.run(predict.Config(), model=models["box-contour"], table=table, out=out).summary
    assert (summary["pictures"], summary["phrases"], summary["box_prompts"]) == (2, 3, 1)
    rows = document(out)["predictions"]
    assert [row["phrase"] for row in rows] == ["red star", "moon", "blue heart"]
    assert [row["size"] for row in rows] == [[60, 90], [100, 40], [60, 90]]
    assert [row["box_prompt"] for row in rows] == [False, True, False]
    for row, line in zip(rows, asked, strict=True):
        alone = tmp_path / "alone.json"
        box = [[line[k] for k in ("x1", "y1", "x2", "y2")]] if line.get("x1") else []
        predict.run(
            predict.Config(), model=models["box-contour"], image=tmp_path / str(line["image"]),
            phrase=[str(line["phrase"])], box=box, out=alone, options=RunOptions(force=True),  # type: ignore[arg-type]
        )  # fmt: skip
        (one,) = document(alone)["predictions"]
        probabilities = ("score", "confidence")  # in another batch other rounding
        for name in probabilities:
            assert one[name] == pytest.approx(row[name], abs=1e-5)
        left_out = ("image", "image_id", *probabilities)
        assert {k: v for k, v in one.items() if k not in left_out} == {
            k: v for k, v in row.items() if k not in left_out
        }


def test_unknown_words_and_long_phrases_are_told(
    models: dict[str, Path], photo: Path, tmp_path: Path
) -> None:
    notes = KeptWarnings()
    phrases = ["the Purple star!", "red red red red red red red"]
    predict.run(
        predict.Config(), model=models["contour"], image=photo, phrase=phrases, out=tmp_path / "a.json",
        reporter=notes,
    )  # fmt: skip
    assert notes.warnings == [
        "words that the model never saw: 'purple'\n"
        "  it knows 13 words: a, blue, circle, green, heart, left, moon, of, on, red, right, star, the",
        "expressions longer than the 6 words that the model reads, cut: 1",
    ]


# ---- writing ----


def test_again_is_up_to_date_and_else_is_refused(
    models: dict[str, Path], photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out.json"

    def go(model: str = "contour", phrase: str = "star", **options: bool) -> Any:
        return predict.run(
            predict.Config(), model=models[model], image=photo, phrase=[phrase], out=out, options=RunOptions(**options)
        )  # fmt: skip

    assert go(dry_run=True).status == "would-run" and not out.parent.exists()
    first = go()
    assert first.status == "written"
    before = out.read_bytes()
    again = go()
    assert (again.status, again.summary) == ("up-to-date", first.summary)
    with pytest.raises(StaleOutputError, match="was made from something else") as caught:
        go(phrase="moon")
    assert caught.value.facts == ("the same model, but other pictures, expressions, boxes or weights",)
    with pytest.raises(StaleOutputError, match="model: "):
        go(model="multitask")
    write_picture(photo, 60, 90, seed=5)
    with pytest.raises(StaleOutputError, match="other pictures"):
        go()
    assert out.read_bytes() == before
    assert go(phrase="moon", force=True).status == "written"
    assert document(out)["predictions"][0]["phrase"] == "moon"
    assert [path.name for path in out.parent.iterdir()] == ["out.json"]


def test_files_of_others_are_left_alone(models: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    def go(out: Path, **more: Any) -> None:
        predict.run(
            predict.Config(), model=models["box"], image=photo, phrase=["star"], out=out,
            options=RunOptions(force=True), **more,
        )  # fmt: skip

    out = tmp_path / "notes.json"
    out.write_text('{"format": "mine"}')
    with pytest.raises(StaleOutputError, match="holds no predictions"):
        go(out)
    assert out.read_text() == '{"format": "mine"}'
    out.write_text('{"format": "seqres-predictions", "summary": {"a": ' + "[" * 200 + "]" * 200 + "}}")
    with pytest.raises(StaleOutputError, match="holds no predictions"):
        go(out)
    out.write_text('{"format": "mine"}')
    with pytest.raises(UsageError, match="is also an input"):
        go(photo)
    with pytest.raises(UsageError, match="is a folder"):
        go(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        go(tmp_path / "x.json", overlays=out)


def test_what_is_no_free_file_is_refused_before_the_work(
    models: dict[str, Path], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(out: Path, **more: Any) -> Any:
        return predict.run(
            predict.Config(), model=models["box"], image=photo, phrase=["star"], out=out, **more,
        )  # fmt: skip

    monkeypatch.setattr("stages.weights.model_file.load_model", lambda *a, **k: pytest.fail("work was begun"))
    pipe, empty, drawn = tmp_path / "pipe", tmp_path / "empty.json", tmp_path / "drawn"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="pipe is a named pipe") as caught:
        go(pipe, options=RunOptions(force=True))
    assert caught.value.hint == "give the name of a file: --out masks.json"
    with pytest.raises(UsageError, match="pipe is a named pipe"):
        go(tmp_path / "x.json", overlays=pipe)
    empty.touch()
    with pytest.raises(StaleOutputError, match=r"empty\.json exists and is empty"):
        go(empty)
    drawn.mkdir()
    (drawn / "0001-photo.png").symlink_to(pipe)
    with pytest.raises(UsageError, match=r"0001-photo\.png is a named pipe"):
        go(tmp_path / "x.json", overlays=drawn, options=RunOptions(force=True))
    with pytest.raises(UsageError, match="file name too long"):
        go(tmp_path / ("x" * 250), options=RunOptions(force=True))
    monkeypatch.undo()
    go(empty, options=RunOptions(force=True))
    assert document(empty)["predictions"]


def test_long_and_odd_names_of_pictures(models: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    """A picture's name goes into its drawing's name, which ends at 255 bytes; not every name is UTF-8."""
    for raw in ("街" * 80 + ".png").encode(), b"caf\xe9.png":
        picture = tmp_path / os.fsdecode(raw)
        picture.write_bytes(photo.read_bytes())
        out, drawn = tmp_path / f"{len(raw)}.json", tmp_path / f"drawn {len(raw)}"
        predict.run(
            predict.Config(), model=models["box"], image=picture, phrase=["star"], out=out, overlays=drawn,
        )  # fmt: skip
        [path] = drawn.iterdir()
        assert len(os.fsencode(path.name)) <= 255
        row = document(out)["predictions"][0]
        assert row["overlay"] == storable(str(path)) and row["image"] == storable(picture.name)
    assert row["image"].endswith("caf\\xe9.png")


def test_phrases_of_an_old_locale_are_utf8(models: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    kept = "röd".encode().decode("ascii", "surrogateescape")  # what Python makes of it under LC_ALL=C
    predict.run(
        predict.Config(), model=models["box"], image=photo, phrase=[kept], out=tmp_path / "o.json"
    )  # fmt: skip
    assert document(tmp_path / "o.json")["predictions"][0]["phrase"] == "röd"


def test_overlays_are_drawn_and_made_again_when_gone(
    models: dict[str, Path], photo: Path, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out.json", tmp_path / "drawn"

    def go(**options: bool) -> Any:
        return predict.run(
            predict.Config(), model=models["detector with masks"], image=photo, phrase=["star", "moon " * 40], out=out,
            overlays=folder, options=RunOptions(**options),
        )  # fmt: skip

    go()
    names = ["0001-photo.png", "0002-photo.png"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert [row["overlay"] for row in document(out)["predictions"]] == [str(folder / n) for n in names]
    picture = cv2.imread(str(folder / names[1]))
    assert picture is not None and picture.shape[1] == 384 and picture.shape[0] > 256
    assert go().status == "up-to-date"
    (folder / names[0]).unlink()
    assert go(dry_run=True).reasons == (f"not all pictures are in {folder}",)
    assert go().status == "written"
    out.unlink()
    with pytest.raises(StaleOutputError, match=r"0001-photo\.png exists"):
        go()


# ---- errors ----


def test_bad_requests(models: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    def go(model: Path = models["box"], **what: Any) -> None:
        predict.run(predict.Config(), model=model, out=tmp_path / "o.json", **what)

    table = tmp_path / "list.csv"
    table.write_text("image,phrase\nphoto.png,star\n")
    for what, words in (
        ({}, "give a picture with --image, or a table"),
        ({"image": photo, "table": table}, "not both"),
        ({"image": photo}, "no expression"),
        ({"image": photo, "phrase": [" "]}, "--expression is empty"),
        ({"image": photo, "phrase": ["a"], "box": ["1,2,3"]}, "four numbers, got '1,2,3'"),
        ({"image": photo, "phrase": ["a", "b"], "box": ["1,2,3,4"]}, "1 --box for 2 --expression"),
        ({"image": photo, "phrase": ["a"], "images": tmp_path}, "--images goes with --table"),
        ({"table": table, "phrase": ["a"]}, "--expression goes with --image"),
        ({"table": photo}, "is no table"),
    ):
        with pytest.raises(UsageError, match=words):
            go(**what)
    dataset = write_dataset(tmp_path / "data.h5", ["val"])
    with pytest.raises(ArtifactError, match="is a dataset artifact"):
        go(dataset, image=photo, phrase=["star"])
    with pytest.raises(ArtifactError, match="lies outside its 90x60 image"):
        go(image=photo, phrase=["a"], box=["1,2,300,40"])
    assert not (tmp_path / "o.json").exists()


def test_what_is_predicted_stays_in_the_picture_and_is_a_coco_result(
    models: dict[str, Path], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the box of a model that puts both corners into one point: it is the pixel there."""
    from stages.inference import photograph_answers as answering

    usual = answering.answer

    def beyond(*args: Any, **kwargs: Any) -> Any:
        found = usual(*args, **kwargs)
        found.boxes_xyxy[:] = (-3.5, 10, 200, 50), (89.6, 59.875, 89.6, 59.875)
        found.points_xy[0] = np.array([[-4, 10], [95, 10], [50, 61]], np.float32)
        return found

    monkeypatch.setattr(answering, "answer", beyond)
    out = tmp_path / "answers.json"
    name = next(n for n in models if n.endswith("contour"))
    predict.run(
        predict.Config(device="cpu"), model=models[name], image=photo, phrase=["sun", "moon"],
        box=["[10; 10; 60, 50]", "(0 0 20 20)"] if name in TAKES_BOX else [], out=out,
    )  # fmt: skip
    content = document(out)
    rows = content["predictions"]
    assert [row["box_xyxy"] for row in rows] == [[0, 10, 90, 50], [89, 59, 90, 60]]
    assert rows[0]["points_xy"] == [[0, 10], [90, 10], [50, 60]]
    truth = COCO()
    truth.dataset = {
        "images": content["images"],
        "annotations": [],
        "categories": [{"id": 1, "name": "referent"}],
    }
    truth.createIndex()
    loaded = truth.loadRes(rows)
    assert [loaded.anns[k + 1]["area"] for k in range(2)] == [row["area"] for row in rows]
    assert [row["score"] for row in rows] == [row["confidence"] for row in rows]
    assert photo.is_absolute() and rows[0]["image"] == photo.name
    come_back = read_table(open_table(out), None)
    assert come_back.texts == ["sun", "moon"]
    assert come_back.boxes_xyxy.tolist() == [row["box_xyxy"] for row in rows]
