"""refine-masks without pseudo labels: from boxes to masks with a segmenter of ONNX files, interrupted and gone on with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seqres_cli.experiments import step
from seqres_cli.main import main
from stages import prepare_data, pseudo_label, refine_masks, resample_points
from stages.artifacts import RunOptions, open_artifact, verify_artifact
from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.figures.photo_masks import draw_photographs
from stages.geometry.boxes import ellipse_in
from stages.geometry.rasterise import ellipse_to_rle, polygon_to_rle, rle_to_mask
from stages.metrics.segmentation import overlaps
from stages.refinement import load, starts
from stages.reporter import SilentReporter
from tests.oracles.small_artifacts import write_dataset, write_split
from tests.oracles.tiny_onnx import write_pair

SIZE = (64, 96)
# two discs and a cross of each photograph's three boxes are there, the third box holds nothing
BOXES = [(8, 8, 40, 40), (50, 6, 90, 46), (10, 44, 60, 60)]
PHOTOGRAPHS = 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of photographs, phrases and boxes, read."""
    root = tmp_path_factory.mktemp("photos")
    lines = ["image,phrase,x1,y1,x2,y2,split"]
    for i in range(PHOTOGRAPHS):
        picture = np.zeros((*SIZE, 3), np.uint8)
        picture[rle_to_mask(ellipse_to_rle(BOXES[0], SIZE))] = 255
        x1, y1, x2, y2 = BOXES[1]
        picture[y1 + 14 : y2 - 14, x1:x2] = picture[y1:y2, x1 + 14 : x2 - 14] = 255
        cv2.imwrite(str(root / f"{i}.png"), picture)
        split = "val" if i == 2 else "train"
        for k, box in enumerate(BOXES):
            lines += [f"{i}.png,thing {k},{','.join(map(str, box))},{split}"]
        lines += [f"{i}.png,the first thing,{','.join(map(str, BOXES[0]))},{split}"]
    (root / "photos.csv").write_text("\n".join(lines) + "\n")
    out = root / "photos.h5"
    prepare_data.run(
        prepare_data.Config(source="table", root=str(root / "photos.csv"), embed_images=True), out=out
    )
    return out


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"), shrunk=4.0)


def config(pair: Path | str, **changes: Any) -> refine_masks.Config:
    return refine_masks.Config(**{"segmenter": str(pair), "device": "cpu", **changes})


def rows_of(path: Path) -> dict[str, Any]:
    with open_artifact(path, "pseudo_points") as a:
        return {
            "referent": a["referent_index"].tolist(), "refined": a["refined"].tolist(),
            "reasons": a.strings("decisions/reason"), "contours": list(a.ragged("points_xy")),
            "masks": [m.tobytes() for m in a.ragged("masks/rle")], "attrs": dict(a.attrs),
        }  # fmt: skip


def test_boxes_become_masks_and_what_has_no_edges_keeps_its_ellipse(
    photos: Path, pair: Path, tmp_path: Path
) -> None:
    out, drawn = tmp_path / "m.h5", tmp_path / "drawn"
    result = refine_masks.run(config(pair), dataset=photos, out=out, overlays=drawn)
    assert verify_artifact(out) == []
    summary = result.summary
    assert (summary["start"], summary["referents"], summary["sentences"]) == ("ellipse", 9, 12)
    assert (summary["refined"], summary["left_as_they_were"]["nothing drawn"]) == (6, 3)
    found, data = rows_of(out), ReferringDataset.open(photos)
    for r, refined, contour, mask in zip(
        found["referent"], found["refined"], found["contours"], found["masks"], strict=True
    ):
        box = data.boxes_xyxy[r]
        kind = BOXES.index(tuple(int(v) for v in box))
        assert refined == (kind != 2)
        if kind == 2:
            assert np.array_equal(contour, ellipse_in(box, 40)) and mask == b""
            continue
        truth = data.image(int(data.referent_image[r]))[..., 0] > 0
        truth[:, : int(box[0])] = truth[:, int(box[2]) :] = False
        rle = {"size": list(SIZE), "counts": mask}
        assert overlaps([rle], [polygon_to_rle(contour, SIZE)]).iou[0] > 0.9
        assert (rle_to_mask(rle) & truth).sum() / (rle_to_mask(rle) | truth).sum() > 0.75
    assert (found["attrs"]["model_digest"], found["attrs"]["start"]) == ("none", "ellipse")
    assert len(list(drawn.glob("*.png"))) == PHOTOGRAPHS
    first = min(drawn.glob("*.png"))
    assert cv2.imread(str(first)) is not None
    first.unlink()
    again = refine_masks.run(config(pair), dataset=photos, out=out, overlays=drawn)
    assert again.status == "up-to-date" and first.exists(), "only what is missing is drawn again"


def test_an_image_is_encoded_once_also_over_a_kill(
    photos: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[bytes] = []
    original = load.load_segmenter
    stop_at = 2

    def watched(*arguments: Any, **more: Any) -> Any:
        segmenter, device = original(*arguments, **more)
        encode = segmenter.encode

        def count(picture: np.ndarray) -> Any:
            if len(encoded) == stop_at:
                raise KeyboardInterrupt
            encoded.append(picture.tobytes())
            return encode(picture)

        segmenter.encode = count  # type: ignore[method-assign]
        return segmenter, device

    monkeypatch.setattr(load, "load_segmenter", watched)
    out, rest = tmp_path / "m.h5", tmp_path / ".m.h5.resume"
    with pytest.raises(KeyboardInterrupt):
        refine_masks.run(config(pair), dataset=photos, out=out)
    assert not out.exists() and len(rest.read_bytes().splitlines()) == 3
    rest.write_bytes(rest.read_bytes() + b'{"rows": [[6, "refi')  # as a kill within a write leaves it
    stop_at = 99
    left = rest.read_bytes()
    resumed = refine_masks.run(config(pair), dataset=photos, out=out)
    assert len(encoded) == PHOTOGRAPHS
    assert not rest.exists()
    whole = refine_masks.run(config(pair), dataset=photos, out=tmp_path / "whole.h5")
    assert resumed.digest == whole.digest and resumed.summary == whole.summary
    assert len(encoded) == 2 * PHOTOGRAPHS
    # as a step of `seqres reproduce`, which asks trainings alone to go on
    in_step = tmp_path / "step.h5"
    in_step.with_name(".step.h5.resume").write_bytes(left)
    words = ["--dataset", str(photos), "--segmenter", str(pair), "--device", "cpu", "--out", str(in_step)]
    assert step.run(["refine-masks", *words]) == 0
    with open_artifact(in_step, "pseudo_points") as a:
        assert a.digest == whole.digest
    assert len(encoded) == 2 * PHOTOGRAPHS + 1


@pytest.mark.parametrize(
    "left",
    [b"", b"no json\n", b'{"format": "seqres-refinement-1", "fingerprint": "other"}\n[]\n', b"\x00" * 50],
)
def test_what_another_run_left_is_not_taken(left: bytes, photos: Path, pair: Path, tmp_path: Path) -> None:
    (tmp_path / ".m.h5.resume").write_bytes(left)
    result = refine_masks.run(config(pair, splits=("val",)), dataset=photos, out=tmp_path / "m.h5")
    assert result.summary["referents"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.h5"]


def test_two_runs_do_not_write_one_file(photos: Path, pair: Path, tmp_path: Path) -> None:
    from stages.refinement.resume import Found

    other = Found(tmp_path / "m.h5", "f")
    with pytest.raises(ArtifactError, match=r"another run is writing .*m\.h5"):
        refine_masks.run(config(pair), dataset=photos, out=tmp_path / "m.h5")
    other.close(finished=True)
    refine_masks.run(config(pair), dataset=photos, out=tmp_path / "m.h5")


def test_a_split_leaves_out_what_is_known(pair: Path, tmp_path: Path) -> None:
    data = tmp_path / "d.h5"
    prepare_data.run(prepare_data.Config(scale="tiny"), out=data)
    view = ReferringDataset.open(data)
    train = view.referents_in("train")
    visible = np.zeros(len(view.boxes_xyxy), np.bool_)
    visible[train[: len(train) - 4]] = True
    split = write_split(tmp_path / "s.h5", data, visible.tolist())
    out, starts = tmp_path / "m.h5", tmp_path / "p.h5"
    refine_masks.run(refine_masks.Config(device="cpu"), dataset=data, split=split, out=out)
    with open_artifact(out) as a:
        assert np.unique(a["referent_index"]).tolist() == train[-4:].tolist(), "val shows what it has"
    result = pseudo_label.run(pseudo_label.Config(start="ellipse"), dataset=data, split=split, out=starts)
    assert verify_artifact(starts) == []
    assert (result.summary["referents"], result.summary["start"]) == (4, "ellipse")
    again = refine_masks.run(
        refine_masks.Config(device="cpu"), dataset=data, pseudo=starts, out=tmp_path / "r.h5"
    )
    with open_artifact(out) as a, open_artifact(again.path) as b:
        for name in ("referent_index", "sentence_index", "points_xy/values", "refined", "projection_score"):
            assert np.array_equal(a[name], b[name]), name
    points = resample_points.run(
        resample_points.Config(), dataset=data, pseudo=out, out=tmp_path / "points.h5"
    )
    assert points.summary["kept"] == 4 and points.summary["n_points"] == 40


@pytest.mark.parametrize(("shape", "points"), [("ellipse", 40), ("box", 4)])
def test_starts_are_the_boxes_or_the_ellipses_in_them(
    shape: str, points: int, photos: Path, tmp_path: Path
) -> None:
    split = write_split(tmp_path / "s.h5", photos, [False] * 9)
    out = tmp_path / "p.h5"
    settings = pseudo_label.Config(start=shape)  # type: ignore[arg-type]
    pseudo_label.run(settings, dataset=photos, split=split, out=out)
    data = ReferringDataset.open(photos)
    with open_artifact(out) as a:
        assert len(a["sentence_index"]) == 8, "val shows what it has, which is nothing here: train only"
        assert (a["confidence"] == 1).all() and a["tokens"].shape == (8, 0)
        assert (a["projection_score"] < 0.03).all()
        for r, contour in zip(a["referent_index"], a.ragged("points_xy"), strict=True):
            assert len(contour) == points
            assert contour.min(0).tolist() == pytest.approx(data.boxes_xyxy[r][:2], abs=0.2)


@pytest.mark.parametrize("shape", ["ellipse", "box"])
def test_starts_are_made_piece_by_piece(shape: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ReferringDataset.open(photos)
    sentences = np.arange(len(data.texts))
    whole = starts.starts_from_boxes(data, sentences, shape)
    monkeypatch.setattr(starts, "_PIECE", 5)
    pieces = starts.starts_from_boxes(data, sentences, shape)
    assert np.array_equal(pieces.values, whole.values) and len(whole.values) > 5
    assert np.array_equal(pieces.points.offsets, whole.points.offsets)
    assert np.array_equal(pieces.columns["projection_score"], whole.columns["projection_score"])
    assert len(starts.starts_from_boxes(data, sentences[:0], shape).values) == 0


@pytest.mark.parametrize(
    ("how", "more", "message"),
    [
        ({"start": "ellipse"}, {"model": "m.h5"}, "--start ellipse takes no model"),
        ({}, {}, "pseudo-label needs --model, or --start ellipse"),
    ],
)
def test_a_model_or_another_start(
    how: dict[str, Any], more: dict[str, str], message: str, tmp_path: Path
) -> None:
    files = {"dataset": tmp_path / "d.h5", "split": tmp_path / "s.h5", "out": tmp_path / "o.h5"}
    with pytest.raises(UsageError, match=message):
        pseudo_label.run(pseudo_label.Config(**how), **files, **{k: tmp_path / v for k, v in more.items()})


def test_options_that_exclude_each_other(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--split and --splits choose what to start from boxes"):
        refine_masks.run(
            refine_masks.Config(splits=("val",)), dataset=photos, pseudo=photos, out=tmp_path / "o.h5"
        )
    with pytest.raises(UsageError, match="unknown split 'vall'"):
        refine_masks.run(refine_masks.Config(splits=("vall",)), dataset=photos, out=tmp_path / "o.h5")


def test_starts_need_no_torch(photos: Path, tmp_path: Path) -> None:
    split = write_split(tmp_path / "s.h5", photos, [False] * 9)
    files: Sequence[str] = [f"{name}=pathlib.Path({str(p)!r})" for name, p in (
        ("dataset", photos), ("split", split), ("out", tmp_path / "p.h5"),
    )]  # fmt: skip
    code = (
        "import pathlib, sys; from stages import pseudo_label as p; "
        f"p.run(p.Config(start='ellipse'), {', '.join(files)}); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_older_flag_is_accepted_and_not_shown(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["refine-masks", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--segmenter" in shown and "--overlays" in shown and "--sam " not in shown
    call = ["refine-masks", "--dataset", str(photos), "--out", str(tmp_path / "m.h5")]
    assert main([*call, "--sam", "grabcut", "--dry-run"]) == 0
    assert main([*call, "--sam", str(tmp_path / "absent")]) == 3
    assert "no segmenter at" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == [], "the segmenter is looked at before anything is written"


def test_no_picture_is_drawn_over_another(photos: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "m.h5", tmp_path / "drawn"
    grabcut = refine_masks.Config(device="cpu")
    refine_masks.run(grabcut, dataset=photos, out=tmp_path / "first.h5", overlays=drawn)
    theirs = min(drawn.glob("*.png"))
    theirs.write_bytes(b"mine")
    with pytest.raises(StaleOutputError, match=r"\.png exists"):
        refine_masks.run(grabcut, dataset=photos, out=out, overlays=drawn)
    assert theirs.read_bytes() == b"mine" and not out.exists()
    refine_masks.run(grabcut, dataset=photos, out=out, overlays=drawn, options=RunOptions(force=True))
    assert theirs.read_bytes() != b"mine"
    with pytest.raises(UsageError, match=r"first\.h5 is a file"):
        refine_masks.run(grabcut, dataset=photos, out=tmp_path / "n.h5", overlays=tmp_path / "first.h5")


def test_labels_of_another_dataset_are_not_drawn(photos: Path, tmp_path: Path) -> None:
    pseudo = tmp_path / "pseudo.h5"
    refine_masks.run(refine_masks.Config(), dataset=photos, out=pseudo)
    small = write_dataset(tmp_path / "small.h5", ["train"], pictures=True)
    with pytest.raises(ArtifactError, match="names referent 8, the dataset has 1"):
        draw_photographs(small, pseudo, tmp_path / "drawn", SilentReporter(), missing_only=True)
    assert not (tmp_path / "drawn").exists()
