"""evaluate: the table of a model whose predictions are known, and the guard of the training masks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.artifacts import open_artifact, spool, verify_artifact
from stages.errors import ArtifactError, HiddenMaskError, UsageError
from stages.evaluate import Config, compare, run
from stages.geometry.rasterise import rle_to_mask
from stages.inference.answers import Predictions
from tests.oracles.small_artifacts import (
    SIZE,
    boxes_of,
    diamond,
    digest,
    write_dataset,
    write_model,
    write_split,
)

SPLITS = ["train", "train", "val", "val", "val", "test"]


def perfect(boxes: np.ndarray, referent: int, sentence: int) -> tuple[list[list[float]], np.ndarray]:
    """An ellipse of 40 points in the true box."""
    x1, y1, x2, y2 = boxes[referent]
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack(
        [(x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(t), (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(t)], axis=1
    )
    return ring.tolist(), boxes[referent]


Answer = Callable[[np.ndarray, int, int], tuple[list[list[float]], np.ndarray]]


@pytest.fixture
def paths(tmp_path: Path) -> SimpleNamespace:
    dataset = write_dataset(tmp_path / "data.h5", SPLITS)
    return SimpleNamespace(
        dataset=dataset,
        res=write_model(tmp_path / "res.h5", dataset),
        rec=write_model(tmp_path / "rec.h5", dataset, "rec_model"),
        split=write_split(tmp_path / "split.h5", dataset, [True, False, False, False, False, False]),
        out=tmp_path / "out.h5",
        folder=tmp_path,
    )


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Replace the model by a function of (boxes, referent, sentence)."""
    config = SimpleNamespace(n_points=12, sequence="contour", image=SimpleNamespace(size=40, multiple=32))
    loaded = SimpleNamespace(
        model=SimpleNamespace(layout=SimpleNamespace(box=())), config=config, device="cpu"
    )
    monkeypatch.setattr("stages.weights.model_file.load_model", lambda *_, **__: loaded)

    def install(function: Answer) -> None:
        def predict(model: Any, data: Any, sentences: np.ndarray, **_: Any) -> Predictions:
            referents = data.sentence_referent[sentences]
            answers = [
                function(data.boxes_xyxy, int(r), int(s)) for r, s in zip(referents, sentences, strict=True)
            ]
            rings = [np.reshape(ring, (-1, 2)).astype(np.float32) for ring, _ in answers]
            boxes = np.array([box for _, box in answers], dtype=np.float32).reshape(-1, 4)
            none = np.zeros((len(sentences), 0))
            return Predictions(sentences, none.astype(np.int32), none.astype(np.float32), rings, boxes)

        monkeypatch.setattr("stages.inference.predictions.predict_sentences", predict)

    install(perfect)
    return install


def test_perfect_predictions(paths: SimpleNamespace, answer: Callable[[Answer], None]) -> None:
    summary = run(Config(), dataset=paths.dataset, model=paths.res, out=paths.out).summary
    assert list(summary["splits"]) == ["val", "test"]
    val = summary["splits"]["val"]
    assert (val["n_images"], val["n_referents"], val["n_sentences"]) == (3, 3, 6)
    assert (val["n_mask_referents"], val["n_mask_sentences"], val["n_referents_without_mask"]) == (3, 6, 0)
    assert val["rec"] == pytest.approx({"acc@0.5": 1, "mean_box_iou": 1}, abs=1e-5)
    rows = val["res"]
    assert rows["model"]["miou"] > 0.97
    assert rows["ellipse"]["miou"] == rows["true_ellipse"]["miou"] == 1
    assert rows["filled_box"]["miou"] == rows["true_filled_box"]["miou"] == pytest.approx(np.pi / 4, abs=0.01)
    assert 0.93 < rows["upper_bound"]["miou"] < 1
    assert rows["model"]["pr@0.9"] == 1
    assert rows["filled_box"]["pr@0.8"] == 0
    assert not list(verify_artifact(paths.out))


def test_rows_are_stored_for_every_sentence(paths: SimpleNamespace, answer: Callable[[Answer], None]) -> None:
    def second_sentence_fails(boxes: np.ndarray, referent: int, sentence: int) -> Any:
        return perfect(boxes, referent, sentence) if sentence % 2 == 0 else ([], np.full(4, np.nan))

    answer(second_sentence_fails)
    summary = run(Config(splits=("val",)), dataset=paths.dataset, model=paths.res, out=paths.out).summary
    with open_artifact(paths.out, "evaluation") as a:
        assert a["sentence_index"].tolist() == [4, 5, 6, 7, 8, 9]
        assert a["referent_index"].tolist() == [2, 2, 3, 3, 4, 4]
        assert a["split"].tolist() == [1] * 6
        assert a["box_iou"] == pytest.approx([1, 0] * 3, abs=1e-5)
        assert (a["mask_iou"] > 0.9).tolist() == [True, False] * 3
        assert a["filled_box_iou"][1::2].tolist() == [0, 0, 0]
        assert a["mask_iou"].mean() == pytest.approx(summary["splits"]["val"]["res"]["model"]["miou"])
        assert a["intersection"].sum() / a["union"].sum() == pytest.approx(
            summary["splits"]["val"]["res"]["model"]["oiou"]
        )
        assert a.ragged("points_xy").lengths.tolist() == [40, 0] * 3
        counts = a.ragged("masks/rle")[0].tobytes()
        assert rle_to_mask({"size": SIZE, "counts": counts}).sum() == pytest.approx(np.pi * 10 * 15, rel=0.05)


def test_a_model_of_boxes_is_measured_by_the_ellipses_in_its_boxes(
    paths: SimpleNamespace, answer: Callable[[Answer], None]
) -> None:
    def second_has_no_box(boxes: np.ndarray, referent: int, sentence: int) -> Any:
        return [], boxes[referent] if sentence % 2 == 0 else np.full(4, np.nan)

    answer(second_has_no_box)
    config = Config(contour="ellipse", splits=("val",))
    summary = run(config, dataset=paths.dataset, model=paths.rec, out=paths.out).summary
    rows = summary["splits"]["val"]["res"]
    assert rows["model"] == rows["ellipse"]
    assert rows["ellipse"]["miou"] == pytest.approx(0.5)
    assert rows["true_ellipse"]["miou"] == 1
    with open_artifact(paths.out, "evaluation") as a:
        assert a.ragged("points_xy").lengths.tolist() == [80, 0] * 3
        assert a.ragged("points_xy")[0].max(axis=0) == pytest.approx(boxes_of(3)[2][2:], abs=0.1)
    with pytest.raises(UsageError, match="masks of train referents"):
        run(
            Config(contour="ellipse", splits=("train",)),
            dataset=paths.dataset, model=paths.rec, out=paths.folder / "a.h5",
        )  # fmt: skip
    with pytest.raises(UsageError, match="a box and then a contour"):
        run(
            Config(contour="ellipse", box_prompt=True),
            dataset=paths.dataset,
            model=paths.rec,
            out=paths.folder / "b.h5",
        )


def test_a_block_of_pictures_at_a_time_gives_the_same_file(
    tmp_path: Path, answer: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a picture may be anywhere in the split; the predictions in memory belong to one batch of pictures."""
    from stages.inference import predictions

    images = [0, 1, 2, 0, 1, 2, 3]
    dataset = write_dataset(
        tmp_path / "d.h5", ["val"] * 7, image_of=images, masked=[True] * 5 + [False, True]
    )
    model = write_model(tmp_path / "m.h5", dataset)
    asked: list[set[int]] = []
    predict = predictions.predict_sentences

    def watched(model: Any, data: Any, sentences: np.ndarray, **more: Any) -> Predictions:
        asked.append(set(data.referent_image[data.sentence_referent[sentences]].tolist()))
        return predict(model, data, sentences, **more)

    monkeypatch.setattr(predictions, "predict_sentences", watched)
    for size in (32, 2, 1):
        run(Config(batch_size=size), dataset=dataset, model=model, out=tmp_path / f"{size}.h5")
    assert len({digest(tmp_path / f"{size}.h5") for size in (32, 2, 1)}) == 1
    assert asked == [{0, 1, 2, 3}, {0, 1}, {2, 3}, {0}, {1}, {2}, {3}]
    with open_artifact(tmp_path / "1.h5") as a:
        assert a["referent_index"].tolist() == np.repeat(np.arange(7), 2).tolist()
        assert a["box_iou"] == pytest.approx(np.ones(14), abs=1e-5)
        assert np.flatnonzero(np.isnan(a["mask_iou"])).tolist() == [10, 11]


def test_memory_hardly_grows_with_the_expressions(
    paths: SimpleNamespace,
    tmp_path: Path,
    answer: Callable[[Answer], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lists of contours, run lengths and scores took 6 kB an expression here; columns take 0.6 kB."""
    monkeypatch.setattr(spool, "_IN_MEMORY", 1)

    def peak(n: int) -> int:
        dataset = write_dataset(tmp_path / f"{n}.h5", ["val"] * n)
        model = write_model(tmp_path / f"m{n}.h5", dataset)
        tracemalloc.start()
        run(Config(), dataset=dataset, model=model, out=tmp_path / f"out{n}.h5")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    run(Config(), dataset=paths.dataset, model=paths.res, out=paths.out)  # imports what it needs
    few, many = peak(40), peak(140)
    assert (many - few) / 200 < 1500  # bytes


def test_referents_without_masks_are_counted_and_left_out(
    tmp_path: Path, answer: Callable[[Answer], None]
) -> None:
    dataset = write_dataset(tmp_path / "d.h5", ["val"] * 3, masked=[True, False, True])
    model = write_model(tmp_path / "m.h5", dataset)
    val = run(Config(), dataset=dataset, model=model, out=tmp_path / "o.h5").summary["splits"]["val"]
    assert (val["n_referents"], val["n_mask_referents"], val["n_referents_without_mask"]) == (3, 2, 1)
    assert (val["n_sentences"], val["n_mask_sentences"]) == (6, 4)
    model_row, *others = compare([tmp_path / "o.h5"])
    assert (model_row["n_sentences"], model_row["n_sentences_with_mask"]) == (6, 4)
    assert {row["n_sentences"] for row in others} == {4}
    with open_artifact(tmp_path / "o.h5") as a:
        assert np.isnan(a["mask_iou"]).tolist() == [False, False, True, True, False, False]
        assert (a.ragged("masks/rle").lengths == 0).tolist() == [False, False, True, True, False, False]


def test_masks_of_train_need_the_split(paths: SimpleNamespace, answer: Callable[[Answer], None]) -> None:
    train = Config(splits=("train",))
    with pytest.raises(UsageError, match="only where a split allows") as caught:
        run(train, dataset=paths.dataset, model=paths.res, out=paths.out)
    assert "--split" in str(caught.value.hint)
    assert not paths.out.exists()
    summary = run(train, dataset=paths.dataset, model=paths.res, split=paths.split, out=paths.out).summary
    part = summary["splits"]["train"]
    assert (part["n_referents"], part["n_mask_referents"], part["n_referents_without_mask"]) == (2, 1, 1)


def test_hidden_masks_stay_hidden(
    paths: SimpleNamespace, answer: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.data.dataset import ReferringDataset

    data = ReferringDataset.open(paths.dataset, split=paths.split, masks="split")
    with pytest.raises(HiddenMaskError):
        data.mask(1)
    asked: list[int] = []
    original = ReferringDataset.mask
    monkeypatch.setattr(ReferringDataset, "mask", lambda self, r: asked.append(r) or original(self, r))
    run(Config(splits=("train",)), dataset=paths.dataset, model=paths.res, split=paths.split, out=paths.out)
    assert set(asked) == {0}


def test_rec_models_are_scored_by_boxes_only(
    paths: SimpleNamespace, answer: Callable[[Answer], None]
) -> None:
    def half(boxes: np.ndarray, referent: int, sentence: int) -> Any:
        box = boxes[referent].copy()
        box[2] -= 8 if referent == 2 else 12
        return [], box

    answer(half)
    summary = run(
        Config(splits=("train", "val")), dataset=paths.dataset, model=paths.rec, out=paths.out
    ).summary
    assert summary["task"] == "rec"
    assert list(summary["splits"]) == ["train", "val"], "boxes of train are no secret"
    val = summary["splits"]["val"]
    assert val["rec"] == pytest.approx({"acc@0.5": 1 / 3, "mean_box_iou": (0.6 + 0.4 + 0.4) / 3})
    assert val["res"] is None
    with open_artifact(paths.out) as a:
        assert "mask_iou" not in a


def test_model_frame_agrees_with_the_original_up_to_its_resolution(
    paths: SimpleNamespace, answer: Callable[[Answer], None]
) -> None:
    tables = {}
    for frame in ("original", "model"):
        out = paths.folder / f"{frame}.h5"
        tables[frame] = run(Config(frame=frame), dataset=paths.dataset, model=paths.res, out=out).summary  # type: ignore[arg-type]
    rows = [tables[frame]["splits"]["val"]["res"] for frame in ("original", "model")]
    assert rows[0]["model"]["miou"] == pytest.approx(rows[1]["model"]["miou"], abs=0.06)
    assert rows[0]["model"]["miou"] != rows[1]["model"]["miou"]
    with open_artifact(paths.folder / "model.h5") as a:
        counts = a.ragged("masks/rle")[0].tobytes()
        rle_to_mask({"size": (32, 64), "counts": counts})  # 60x80 at half scale, padded to multiples of 32
    with pytest.raises(ArtifactError, match="differ in frame"):
        compare([paths.folder / "original.h5", paths.folder / "model.h5"])


def test_fewer_sentences_are_spread_evenly(paths: SimpleNamespace, answer: Callable[[Answer], None]) -> None:
    run(Config(splits=("val",), max_expressions=3), dataset=paths.dataset, model=paths.res, out=paths.out)
    with open_artifact(paths.out) as a:
        assert a["sentence_index"].tolist() == [4, 6, 8]


def test_one_random_sentence_of_each_referent(
    paths: SimpleNamespace, answer: Callable[[Answer], None]
) -> None:
    """Second sentences fail: all sentences together score a half, one of each referent what the draw says."""

    def second_sentence_fails(boxes: np.ndarray, referent: int, sentence: int) -> Any:
        return perfect(boxes, referent, sentence) if sentence % 2 == 0 else ([], np.full(4, np.nan))

    answer(second_sentence_fails)
    draws = set()
    for seed in range(8):
        config, out = (
            Config(splits=("val",), expressions="one-random", seed=seed),
            paths.folder / f"{seed}.h5",
        )
        part = run(config, dataset=paths.dataset, model=paths.res, out=out).summary["splits"]["val"]
        with open_artifact(out) as a:
            assert a["referent_index"].tolist() == [2, 3, 4]
            draws.add(drawn := tuple((a["sentence_index"] % 2).tolist()))
        assert (part["n_referents"], part["n_sentences"]) == (3, 3)
        assert part["rec"]["acc@0.5"] == pytest.approx(1 - sum(drawn) / 3)
    assert len(draws) > 2
    every = run(Config(splits=("val",)), dataset=paths.dataset, model=paths.res, out=paths.out).summary
    part = every["splits"]["val"]
    assert (part["n_sentences"], part["rec"]["acc@0.5"]) == (6, 0.5)


def test_comparison_is_one_table(paths: SimpleNamespace, answer: Callable[[Answer], None]) -> None:
    run(Config(), dataset=paths.dataset, model=paths.res, out=paths.folder / "good.h5")
    answer(lambda boxes, referent, sentence: (diamond(boxes[referent]), boxes[referent]))
    run(Config(), dataset=paths.dataset, model=paths.res, out=paths.folder / "poor.h5")
    rows = compare([paths.folder / "good.h5", paths.folder / "poor.h5"])
    val = {row["name"]: row for row in rows if row["split"] == "val"}
    assert list(val) == [
        "good",
        "good: its box, filled",
        "good: ellipse in its box",
        "poor",
        "poor: its box, filled",
        "poor: ellipse in its box",
        "ground-truth box, filled",
        "ellipse in the ground-truth box",
        "ground truth -> points -> mask (12 points)",
    ]
    assert val["good"]["miou"] > val["poor"]["miou"] > 0.5
    assert val["poor"]["difference"] == pytest.approx(val["poor"]["miou"] - val["good"]["miou"])
    assert 0 <= val["poor"]["standard_error"] < 0.1
    assert all(row["difference"] is None for name, row in val.items() if name != "poor")
    assert {row["n_sentences"] for row in val.values()} == {6}
    assert val["good"]["acc@0.5"] == 1
    assert val["ellipse in the ground-truth box"]["acc@0.5"] is None
    assert len(rows) == 2 * len(val)


def test_comparison_refuses_what_does_not_fit(
    paths: SimpleNamespace, answer: Callable[[Answer], None]
) -> None:
    run(Config(), dataset=paths.dataset, model=paths.res, out=paths.folder / "a.h5")
    other = write_dataset(paths.folder / "other.h5", SPLITS, seed=7)
    run(Config(), dataset=other, model=paths.res, out=paths.folder / "b.h5")
    run(Config(max_expressions=2), dataset=paths.dataset, model=paths.res, out=paths.folder / "c.h5")
    with pytest.raises(ArtifactError, match="differ in dataset"):
        compare([paths.folder / "a.h5", paths.folder / "b.h5"])
    with pytest.raises(ArtifactError, match="different expressions of val"):
        compare([paths.folder / "a.h5", paths.folder / "c.h5"])
    with pytest.raises(ArtifactError, match="is a dataset artifact, expected evaluation"):
        compare([paths.dataset])
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([])


def test_bad_requests(paths: SimpleNamespace, answer: Callable[[Answer], None]) -> None:
    def attempt(config: Config, **inputs: Path) -> None:
        run(config, **{"dataset": paths.dataset, "model": paths.res, "out": paths.out, **inputs})  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="unknown split 'vall'"):
        attempt(Config(splits=("vall",)))
    with pytest.raises(UsageError, match="whose sequence is a box and then a contour"):
        attempt(Config(box_prompt=True))
    only_train = write_dataset(paths.folder / "t.h5", ["train"])
    with pytest.raises(UsageError, match="no split but train"):
        attempt(Config(), dataset=only_train)
    with pytest.raises(UsageError, match="split 'val' has no referents"):
        attempt(Config(splits=("val",)), dataset=only_train)
    with pytest.raises(ArtifactError, match="was not made from"):
        attempt(Config(), dataset=only_train, split=paths.split)
    with pytest.raises(UsageError, match="'pixel'"):
        Config(frame="pixel")  # type: ignore[arg-type]
    assert not paths.out.exists()


def test_boxes_of_the_small_dataset_lie_in_the_image() -> None:
    boxes = boxes_of(40)
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= SIZE[1]).all()
