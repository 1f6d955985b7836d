"""predict as a person expects it: many pictures, pipes, one mask and overlay, a segmenter, arrays, words that are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages import predict
from stages.artifacts import RunOptions
from stages.data.photographs import pictures_of
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.geometry.rasterise import rle_to_mask
from stages.refinement.answers import ellipses, refine_answers
from stages.reporter import SilentReporter
from tests.oracles.random_models import write_random_model
from tests.oracles.tool_files import picture


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        name: write_random_model(folder / f"{i}.h5", name) for i, name in enumerate(("box-contour", "box"))
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "deep/c.png"):
        picture(tmp_path / "photos" / name, (48, 64))
    (tmp_path / "photos/notes.txt").write_text("no picture")
    return tmp_path / "photos"


def test_files_folders_and_patterns_are_pictures_each_once(photos: Path) -> None:
    names = [
        p.relative_to(photos).as_posix()
        for p in pictures_of([photos / "b.png", photos, f"{photos}/**/*.png"])
    ]
    assert names == ["b.png", "a.JPG", "deep/c.png"]
    for text, message in ((f"{photos}/*.tif", "no picture fits"), (photos.parent, "holds no picture")):
        with pytest.raises(UsageError, match=message):
            pictures_of([text])


def test_every_phrase_is_asked_about_every_picture(
    models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.json"
    options: dict[str, Any] = {"model": models["box-contour"], "phrase": ["star", "moon"], "out": out}
    result = predict.run(predict.Config(), image=photos, pictures=[photos / "deep/c.png"], **options)
    rows = json.loads(out.read_text())["predictions"]
    assert result.summary["pictures"] == 3
    assert [(Path(r["image"]).name, r["phrase"]) for r in rows] == [
        (name, phrase) for name in ("a.JPG", "b.png", "c.png") for phrase in ("star", "moon")
    ]
    with pytest.raises(UsageError, match="--box is for one picture, got 2"):
        predict.run(predict.Config(), image=photos, box=["1,1,9,9"] * 2, **options)


def test_lines_in_and_lines_out(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    asked = [
        {"image": str(photos / "b.png"), "phrase": "star", "x1": 1, "y1": 2, "x2": 30, "y2": 40},
        {"image": str(photos / "a.JPG"), "phrase": "the moon"},
    ]
    said: list[str] = []
    lines = [json.dumps(row) + "\n" for row in asked]
    options: dict[str, Any] = {
        "model": models["box-contour"],
        "table": Path("-"),
        "out": Path("-"),
        "emit": said.append,
    }
    result = predict.run(predict.Config(), lines=lines, overlays=tmp_path / "drawn", **options)
    rows = [json.loads(line) for line in said]
    assert result.status == "written" and [row["phrase"] for row in rows] == ["star", "the moon"]
    assert [row["box_prompt"] for row in rows] == [True, False]
    # the same as in a document
    out = tmp_path / "o.json"
    predict.run(predict.Config(), model=models["box-contour"], table=Path("-"), lines=lines, out=out)
    document = json.loads(out.read_text())["predictions"]
    assert [row["mask"] for row in document] == [row["mask"] for row in rows]
    assert [Path(row["overlay"]).name for row in rows] == ["0001-b.png", "0002-a.png"]
    assert len(list((tmp_path / "drawn").iterdir())) == 2
    with pytest.raises(ArtifactError, match=r"standard input has 1 invalid line") as caught:
        predict.run(predict.Config(), lines=['{"image": "x.png", "phrase": ""}\n'], **options)
    assert caught.value.facts == ("line 1: empty expression",)


def test_one_mask_and_one_overlay(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    mask, overlay = tmp_path / "m.png", tmp_path / "o.png"
    options: dict[str, Any] = {"model": models["box-contour"], "out": tmp_path / "o.json", "mask": mask}
    one = {"image": photos / "b.png", "phrase": ["star"], "box": [(5, 6, 60, 40)], "overlay": overlay}
    predict.run(predict.Config(), **one, **options)
    row = json.loads((tmp_path / "o.json").read_text())["predictions"][0]
    wanted = rle_to_mask({"size": row["mask"]["size"], "counts": row["mask"]["counts"].encode()})
    found = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    assert found.shape == (48, 64) and ((found == 255) == wanted).all() and ((found == 0) == ~wanted).all()
    assert cv2.imread(str(overlay)) is not None
    assert predict.run(predict.Config(), **one, **options).status == "up-to-date"
    options["out"] = tmp_path / "other.json"
    with pytest.raises(StaleOutputError, match="exists"):
        predict.run(predict.Config(), **one, **options)
    two = one | {"phrase": ["star", "moon"], "box": [(5, 6, 60, 40), (30, 20, 60, 40)]}
    predict.run(predict.Config(), **two, **options, options=RunOptions(force=True))
    assert set(np.unique(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED))) <= {0, 1, 2}
    with pytest.raises(UsageError, match="--mask is for one picture, got 2"):
        predict.run(predict.Config(), image=photos, phrase=["star"], **options)
    with pytest.raises(UsageError, match="--mask writes a PNG file"):
        predict.run(
            predict.Config(), image=photos / "b.png", phrase=["x"], **options | {"mask": tmp_path / "m.jpg"}
        )


def test_boxes_become_masks_with_a_segmenter(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    options: dict[str, Any] = {
        "model": models["box"],
        "image": photos / "b.png",
        "phrase": ["star"],
        "out": out,
    }
    with pytest.raises(UsageError, match="--mask: the model answers with boxes only"):
        predict.run(predict.Config(), mask=tmp_path / "m.png", **options)
    predict.run(predict.Config(segmenter="grabcut"), mask=tmp_path / "m.png", **options)
    [row] = json.loads(out.read_text())["predictions"]
    assert row["mask"] is not None and row["segmentation"] == row["mask"] and "refinement" in row


class Drawn:
    """A segmenter that offers the box, filled, and counts its pictures."""

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, picture: np.ndarray) -> tuple[int, ...]:
        self.encoded += 1
        return picture.shape[:2]

    def segment(self, encoded: Any, boxes: np.ndarray, starts: np.ndarray) -> Any:
        masks = np.zeros((len(boxes), 1, *encoded), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
            mask[0, y1:y2, x1:x2] = True
        return masks, np.ones((len(boxes), 1), np.float32)


def test_a_picture_is_encoded_once_and_answers_without_a_box_are_left(photos: Path) -> None:
    boxes = np.array([[5, 5, 25, 30], [10, 10, 40, 40], [np.nan] * 4, [3, 3, 20, 20]])
    starts = ellipses(boxes, [(48, 64)] * 4)
    drawn = Drawn()
    verdicts = refine_answers(
        lambda i: np.zeros((48, 64, 3), np.uint8), np.array([0, 0, 0, 1]), boxes, starts, drawn,
        promptable=True, by_box_alone=np.ones(4, bool), reporter=SilentReporter(),
    )  # fmt: skip
    assert [v.reason for v in verdicts] == ["refined", "refined", "no outline to refine", "refined"]
    assert drawn.encoded == 2
    assert verdicts[0].rle is not None and rle_to_mask(verdicts[0].rle).sum() == 20 * 25


def test_a_known_box_counts_more_than_a_poor_contour() -> None:
    boxes = np.array([[5.0, 5, 25, 30]] * 2)
    poor = ellipses(np.array([[5.0, 5, 12, 12]] * 2), [(48, 64)] * 2)
    verdicts = refine_answers(
        lambda i: np.zeros((48, 64, 3), np.uint8), np.array([0, 0]), boxes, poor, Drawn(),
        promptable=True, by_box_alone=np.array([True, False]), reporter=SilentReporter(),
    )  # fmt: skip
    assert [v.reason for v in verdicts] == ["refined", "differs from the outline"]


def test_arrays_in_and_out(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    rgb = cv2.cvtColor(cv2.imread(str(photos / "b.png")), cv2.COLOR_BGR2RGB)
    box = (5.0, 6.0, 60.0, 40.0)
    first, second = predict.predict(
        rgb, ["the star", "a zebra"], model=models["box-contour"], boxes=[box, box]
    )
    out = tmp_path / "o.json"
    predict.run(
        predict.Config(),
        model=models["box-contour"],
        image=photos / "b.png",
        phrase=["the star"],
        box=[box],
        out=out,
    )
    row = json.loads(out.read_text())["predictions"][0]
    assert first.mask is not None and first.mask.dtype == bool and first.mask.shape == (48, 64)
    wanted = rle_to_mask({"size": row["mask"]["size"], "counts": row["mask"]["counts"].encode()})
    assert (first.mask == wanted).all()
    assert first.box_xyxy is not None and first.box_xyxy.tolist() == row["box_xyxy"]
    assert np.allclose(first.contour_xy, row["points_xy"], atol=1e-3)
    assert first.confidence == pytest.approx(row["confidence"], abs=1e-5)
    assert (first.unknown_words, second.unknown_words) == ((), ("zebra",))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p[..., :1],
        lambda p: p[..., 0],
        lambda p: np.dstack([p, p[..., :1]]),
        lambda p: p.astype(np.uint16) << 4,
    ],
    ids=["one channel", "grey", "alpha", "16 bits"],
)
def test_pictures_of_every_kind_are_taken(
    models: dict[str, Path], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    grey = np.repeat(np.random.default_rng(1).integers(128, 256, (32, 40, 1), dtype=np.uint8), 3, axis=2)
    keep = predict.Predictor(models["box-contour"])
    [plain], [other] = keep(grey, "star"), keep(change(grey), "star")
    assert np.allclose(plain.contour_xy, other.contour_xy, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "boxes", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), None, "has the shape"),
        (np.zeros((4, 4, 3), np.float32), None, "has values of float32"),
        (np.zeros((4, 4, 3), np.uint8), [[0, 0, 9, 9]], "1 box cannot be used"),
        (np.zeros((4, 4, 3), np.uint8), [[0, 0, 2, 2]] * 2, "2 --box for 1 --expression"),
    ],
    ids=["two channels", "shares", "outside", "too many"],
)
def test_what_is_no_picture_or_box_is_refused(
    models: dict[str, Path], image: np.ndarray, boxes: Any, message: str
) -> None:
    with pytest.raises((UsageError, ArtifactError), match=message):
        predict.predict(image, "star", model=models["box-contour"], boxes=boxes)
