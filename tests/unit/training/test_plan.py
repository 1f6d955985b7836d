"""Which images a step sees: one permutation after another, and no box without an area."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.data.crop_refinement import CropRefinement
from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.data.transforms import Augmentation
from stages.training import loader
from stages.training.loader import ContourTable, StepDataset
from stages.training.plan import Entry, StepPlan
from stages.training.targets import SlotWeights
from tests.oracles.random_models import CONFIGS, TINY, WORDS


def one_image_a_referent(n: int) -> Any:
    return SimpleNamespace(referent_image=np.arange(n), sentence_referent=np.arange(n))


def images_of(entries: list[Entry]) -> list[int]:
    return [image for _, _, items in entries for image, _ in items]


def test_short_epochs_show_every_image_before_any_comes_again() -> None:
    plan = StepPlan(one_image_a_referent(1850), np.arange(1850), images=10, per_image=1, seed=5, steps=40)
    shown = [images_of(plan.epoch(epoch)) for epoch in range(10)]
    assert len({i for part in shown[:3] for i in part}) == 1200
    assert len(set([i for part in shown for i in part][:1850])) == 1850
    assert images_of(plan.epoch(2)) == shown[2], "an epoch follows from its number alone"
    other = StepPlan(one_image_a_referent(1850), np.arange(1850), images=10, per_image=1, seed=6, steps=40)
    assert images_of(other.epoch(0)) != shown[0]


def test_whole_epochs_and_the_images_beside_them() -> None:
    few, many = np.arange(7), np.arange(7, 60)
    plan = StepPlan(one_image_a_referent(60), few, images=4, per_image=1, seed=0, beside=[(many, 2)])
    epochs = [images_of(plan.epoch(epoch)) for epoch in range(6)]
    for shown in epochs:
        assert sorted(i for i in shown if i < 7) == list(range(7))
    beside = [i for shown in epochs for i in shown if i >= 7]
    assert len(beside) == 48 == len(set(beside))


def test_an_epoch_longer_than_the_data_shows_all_equally_often() -> None:
    plan = StepPlan(one_image_a_referent(5), np.arange(5), images=2, per_image=1, seed=0, steps=5)
    assert np.bincount(images_of(plan.epoch(3))).tolist() == [2] * 5


def test_contours_are_moved_into_their_table() -> None:
    rings = {2: np.ones((3, 2), np.float32), 0: np.full((4, 2), 7.0, np.float32)}
    table = ContourTable.of_contours(4, rings, {0: 0.5})
    assert rings == {}, "nothing is held twice"
    assert [len(table.contour(r)) for r in range(4)] == [4, 0, 3, 0]
    assert (table.contour(0) == 7).all() and (table.contour(2) == 1).all()
    assert table.weight.tolist() == [0.5, 0, 1, 0]


def steps_of(data: ReferringDataset, augmentation: Augmentation, name: str = "box") -> StepDataset:
    nothing = ContourTable.of_contours(len(data.boxes_xyxy), {}, {})
    codec = WordCodec.from_sentences([WORDS], TINY.text.max_words)
    return StepDataset(data, codec, CONFIGS[name], nothing, augmentation, SlotWeights(), 0, CropRefinement())


def test_no_box_without_area_is_trained(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window beside the referents: the whole picture instead. One that cuts some off: the others alone."""
    data = ReferringDataset.open(tiny_dataset)
    image = int(np.bincount(data.referent_image).argmax())
    sentences = data.sentences_of(np.flatnonzero(data.referent_image == image))
    boxes = data.boxes_xyxy[data.sentence_referent[sentences]]
    height, width = (int(v) for v in data.image_sizes_hw[image])
    plain = loader.plain_frame(height, width, TINY.image.size)
    free = np.ones((height, width), bool)
    for x0, y0, x1, y1 in boxes:
        free[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = False
    y, x = (int(v) for v in np.argwhere(free)[0])
    beside = dataclasses.replace(plain, window_xyxy=(x, y, x + 1, y + 1))
    x, y = (int(v) + 1 for v in boxes[0, :2])
    corner = dataclasses.replace(plain, window_xyxy=(x, y, x + 2, y + 2))
    steps = steps_of(data, Augmentation(jitter_min=0.3, jitter_max=1.4))
    counts = []
    for frame in (beside, corner):
        monkeypatch.setattr(loader, "random_frame", lambda *_, frame=frame: frame)
        batch = steps[0, 0, [(image, sentences)]]
        assert ((batch.boxes[:, 2:] - batch.boxes[:, :2]).prod(1) > 0).all()
        counts.append(len(batch.boxes))
    assert counts[0] == len(sentences)
    assert 0 < counts[1] < len(sentences)


def test_a_window_that_moved_past_a_thin_object_goes_back(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.data import crop_refinement

    data = ReferringDataset.open(tiny_dataset)
    gone = dataclasses.replace(loader.plain_frame(10, 10, 64), window_xyxy=(-30, -30, -20, -20))
    monkeypatch.setattr(crop_refinement, "random_zoom", lambda *_: gone)
    batch = steps_of(data, Augmentation(), "second look")[
        0, 0, [(int(data.referent_image[0]), data.sentences_of(np.array([0])))]
    ]
    assert ((batch.boxes[:, 2:] - batch.boxes[:, :2]) > 1).all()
