"""The few masks in crop refinement: turned, pasted, mirrored, recoloured views stay true, seeded, and blind to hidden masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import train_res
from stages.data.crop_refinement import CropRefinement
from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec, mirror_sentence
from stages.data.transforms import Augmentation
from stages.errors import UsageError
from stages.geometry.boxes import box_iou_pairwise, polygon_extent
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask
from stages.models.presets import preset
from stages.training.loader import Batch, ContourTable, StepDataset
from stages.training.targets import SlotWeights

SIZE, BINS, POINTS = 96, 400, 60
CONFIG = preset("refshapes-small").replace(
    sequence="box-contour", zoom_margin=0.15, n_bins=BINS, n_points=POINTS
)
CONFIG = CONFIG.replace(image=type(CONFIG.image)(size=SIZE, multiple=16))
WHITE, GROUND = 255, 100


@pytest.fixture(scope="module")
def data(tiny_dataset: Path, tiny_split: Path) -> ReferringDataset:
    return ReferringDataset.open(tiny_dataset, split=tiny_split, masks="split")


def known(data: ReferringDataset, n: int = 8) -> list[int]:
    """Train referents with a visible mask in one piece."""
    train = data.referents_in("train")
    found = []
    for r in train[data.mask_visible[train]]:
        extent = polygon_extent(largest_outer_contour(data.mask(int(r))))
        if box_iou_pairwise(extent[None], data.boxes_xyxy[r][None])[0] > 0.95:
            found.append(int(r))
    return found[:n]


def table(data: ReferringDataset, referents: list[int]) -> ContourTable:
    rings = {r: largest_outer_contour(data.mask(r)) for r in referents}
    return ContourTable.of_contours(len(data.boxes_xyxy), rings, {})


def steps(
    data: ReferringDataset, contours: ContourTable, rotate: float = 0.0, paste: float = 0.0, **changes: Any
) -> StepDataset:
    codec = WordCodec.from_sentences(data.texts, 12)
    images = np.unique(data.referent_image[data.referents_in("train")])
    if isinstance(data, Painted):
        images = np.setdiff1d(images, list(data.objects))
        assert len(images) > 1
    augmentation = Augmentation(**{"colour": 0.0, **changes})
    return StepDataset(
        data, codec, CONFIG, contours, augmentation, SlotWeights(), 3, CropRefinement(rotate, paste, images)
    )


def entry(data: ReferringDataset, referents: list[int], number: int = 0) -> Any:
    """A step with the first sentence of each referent."""
    items = [(int(data.referent_image[r]), data.sentence_offsets[r : r + 1]) for r in referents]
    return (0, number, items)


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)


def ring_of(batch: Batch, row: int) -> np.ndarray:
    return (batch.targets[row, 4:-1].view(-1, 2).numpy() + 0.5) / BINS * SIZE


class Painted(ReferringDataset):
    """Pictures that show one object in white on black; all others are plain ground."""

    objects: dict[int, int]

    def image(self, index: int) -> np.ndarray:
        size = (*self.image_sizes_hw[index], 3)
        if index not in self.objects:
            return np.full(size, GROUND, np.uint8)
        return self.mask(self.objects[index]).astype(np.uint8)[..., None].repeat(3, 2) * np.uint8(WHITE)


@pytest.fixture
def painted(tiny_dataset: Path, tiny_split: Path, data: ReferringDataset) -> Painted:
    view = Painted.open(tiny_dataset, split=tiny_split, masks="split")
    assert isinstance(view, Painted)
    view.objects = {int(data.referent_image[r]): r for r in known(data)}
    return view


@pytest.mark.parametrize("paste", [0.0, 1.0])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
@pytest.mark.parametrize("rotate", [0.0, 45.0])
def test_picture_outline_and_box_show_the_same_shape(
    painted: Painted, rotate: float, mirror: float, paste: float
) -> None:
    referents = list(painted.objects.values())
    made = steps(painted, table(painted, referents), rotate, paste, mirror=mirror, zoom_jitter=0.1)
    grounds = 0
    for number in range(4):
        batch = made[entry(painted, referents, number)]
        for row in range(len(referents)):
            picture = batch.images[row, 0].numpy()
            ring = ring_of(batch, row)
            shape = rle_to_mask(polygon_to_rle(ring, (SIZE, SIZE)))
            seen = picture > (WHITE + GROUND) / 2
            assert (shape & seen).sum() / (shape | seen).sum() > 0.9
            assert ring[0, 1] <= ring[:, 1].min() + 0.5, "begins at the top"
            assert np.abs(polygon_extent(ring) - batch.boxes[row].numpy()).max() < 3
            grounds += int((picture[~seen] == GROUND).mean() > 0.8)
    assert grounds == (4 * len(referents) if paste else 0)


def test_turned_and_jittered_windows_differ_from_step_to_step(data: ReferringDataset) -> None:
    referents = known(data)
    contours = table(data, referents)
    plain = steps(data, contours, zoom_jitter=0.0)[entry(data, referents)]
    for options in (
        {"rotate": 30.0, "zoom_jitter": 0.0},
        {"paste": 1.0, "zoom_jitter": 0.0},
        {"zoom_jitter": 0.2},
        {"colour": 0.3, "zoom_jitter": 0.0},
    ):
        made = steps(data, contours, **options)
        first, second = (made[entry(data, referents, number)] for number in (0, 1))
        assert not torch.equal(first.images, second.images)
        assert same(first, made[entry(data, referents, 0)]), "the same step is the same batch"
        moved = not torch.equal(first.targets, plain.targets)
        assert moved == ("rotate" in options or options["zoom_jitter"] > 0)


def test_mirrored_views_swap_the_words(data: ReferringDataset) -> None:
    referents = [
        int(data.sentence_referent[s])
        for s in data.sentence_offsets[:-1]
        if mirror_sentence(data.texts[s]) != data.texts[s]
    ][:3]
    assert referents
    made = steps(data, table(data, []), mirror=1.0)
    batch = made[entry(data, referents)]
    texts = [mirror_sentence(data.texts[data.sentence_offsets[r]]) for r in referents]
    assert np.array_equal(batch.words.numpy(), made.codec.encode(texts)[0])


def test_switched_off_nothing_changes(data: ReferringDataset) -> None:
    referents = known(data)
    contours = table(data, referents)
    made = steps(data, contours, mirror=0.5, colour=0.2, shuffle_points=0.5)
    assert isinstance(made.augmentation, Augmentation)
    without = StepDataset(data, made.codec, CONFIG, contours, made.augmentation, SlotWeights(), made.seed)
    assert same(made[entry(data, referents)], without[entry(data, referents)])


def test_what_is_known_by_its_box_only_is_left_as_it_is(data: ReferringDataset) -> None:
    """Neither turned (its turned box is unknown) nor pasted; an outline that was only drawn is turned, not cut out."""
    train = data.referents_in("train")
    hidden = [int(r) for r in train[~data.mask_visible[train]][:4]]
    nothing = table(data, [])
    off, on = (steps(data, nothing, *options) for options in ((0.0, 0.0), (60.0, 1.0)))
    assert same(off[entry(data, hidden)], on[entry(data, hidden)])
    boxes = data.boxes_xyxy[hidden]
    corners = {
        r: b[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2).astype(np.float32)
        for r, b in zip(hidden, boxes, strict=True)
    }
    pseudo = ContourTable.of_contours(len(data.boxes_xyxy), corners, {})
    off, on, turned = (steps(data, pseudo, *options) for options in ((0.0, 0.0), (0.0, 1.0), (60.0, 1.0)))
    assert same(off[entry(data, hidden)], on[entry(data, hidden)])
    assert not torch.equal(turned[entry(data, hidden)].boxes, off[entry(data, hidden)].boxes)


def test_the_ground_comes_from_every_other_image(data: ReferringDataset) -> None:
    look, rng = CropRefinement(paste=1.0, backgrounds=np.array([3, 5, 8, 9])), np.random.default_rng(0)
    for own in (3, 5, 9):
        referent = int(np.flatnonzero(data.referent_image == own)[0])
        drawn = [look._other(rng, data, referent) for _ in range(600)]
        counts = {i: drawn.count(i) for i in (3, 5, 8, 9)}
        assert counts.pop(own) == 0
        assert min(counts.values()) > 150
    with pytest.raises(UsageError, match="at least two training images, got 1"):
        CropRefinement(paste=0.5, backgrounds=np.array([3]))


@pytest.mark.parametrize(("name", "value"), [("rotate", 20.0), ("paste", 0.5)])
def test_they_are_refused_without_crop_refinement(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} {value:g} needs crop refinement, which is off"):
        train_res.Config(**{name: value})
    assert getattr(train_res.Config(**{name: value, "zoom": 64}), name) == value
