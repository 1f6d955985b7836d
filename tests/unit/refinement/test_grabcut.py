"""GrabCut between an outline and its box: pictures whose objects are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.refinement.grabcut import GrabCut, cut

SIZE = 90, 120
BOX = np.array([40.0, 20.0, 90.0, 70.0])


def cross(box: NDArray[np.floating] = BOX) -> NDArray[np.bool_]:
    """A cross that touches all sides of its box."""
    mask = np.zeros(SIZE, np.bool_)
    x0, y0, x1, y1 = box.astype(int)
    third = (x1 - x0) // 3
    mask[y0 + third : y1 - third, x0:x1] = True
    mask[y0:y1, x0 + third : x1 - third] = True
    return mask


def ellipse(box: NDArray[np.floating] = BOX) -> NDArray[np.bool_]:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return np.asarray(((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1)


def painted(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Red on green, both noisy and shaded."""
    rng = np.random.default_rng(3)
    colours = np.where(mask[..., None], (190, 60, 50), (70, 140, 60)) + rng.normal(0, 12, (*SIZE, 3))
    return np.clip(colours + np.linspace(-20, 20, SIZE[1])[:, None], 0, 255).astype(np.uint8)


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_an_ellipse_becomes_what_is_painted() -> None:
    assert iou(ellipse(), cross()) < 0.75
    assert iou(cut(painted(cross()), BOX, ellipse()), cross()) > 0.95


def test_a_drawing_that_missed_its_box_is_stretched_first() -> None:
    small = np.array([30.0, 15.0, 50.0, 35.0])
    assert iou(cut(painted(cross()), BOX, ellipse(small)), cross()) > 0.95


def test_nothing_outside_the_box_is_taken() -> None:
    twin = BOX - np.array([35.0, 0, 35, 0])
    both = cross() | cross(twin)
    found = cut(painted(both), BOX, ellipse())
    assert iou(found, cross()) > 0.9
    assert (
        not found[:, :40].any() and not found[:20].any() and not found[:, 90:].any() and not found[70:].any()
    )


def test_small_objects_are_cut_enlarged_and_large_ones_reduced() -> None:
    picture = painted(cross())
    for factor in (0.4, 6.0):
        size = round(SIZE[1] * factor), round(SIZE[0] * factor)
        scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        true = cv2.resize(cross().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        old = cv2.resize(ellipse().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        found = cut(scaled, BOX * factor, old)
        assert found.shape == true.shape
        assert iou(found, true) > (0.85 if factor < 1 else 0.95)


def test_a_single_colour_leaves_the_core() -> None:
    """What the box forbids is as red as what the outline allows, so only the certain part stays."""
    found = cut(np.full((*SIZE, 3), 128, np.uint8), BOX, ellipse())
    assert 0 < found.sum() < 0.5 * ellipse().sum()
    assert not (found & ~ellipse()).any()


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1, 1), (0, 0, 1, 1)),
        ((40, 60), (5, 5, 5, 9)),
        ((40, 60), (0, 0, 60, 40)),
        ((40, 60), (-8, -8, 80, 80)),
        ((40, 60), (59.7, 10, 60, 20)),
        ((40, 60), (60, 40, 61, 41)),
        ((400, 600), (10, 10, 590, 11)),
        ((30, 3), (0, 0, 1, 30)),
    ],
)
def test_boxes_of_any_shape(size: tuple[int, int], box: tuple[float, ...]) -> None:
    """No ground, no width, outside: a mask of the picture's size, within the box's pixels."""
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    found = cut(picture, np.array(box, np.float64), np.ones(size, np.bool_))
    assert found.shape == size and found.dtype == np.bool_
    if box == (0, 0, 60, 40):
        assert found.all(), "nothing to compare with"


def test_the_same_mask_whatever_ran_before() -> None:
    picture = painted(cross())
    first = cut(picture, BOX, ellipse())
    cv2.setRNGSeed(77)
    cut(painted(ellipse()), BOX, cross())
    assert np.array_equal(cut(picture, BOX, ellipse()), first)


def test_as_a_predictor() -> None:
    picture = painted(cross())
    drawn = [ellipse(), ellipse(BOX - 5), cross(), ellipse(BOX + 3)]
    boxes = np.stack([BOX] * 4)
    for predictor in (GrabCut(), GrabCut(threads=3)):
        masks, scores = predictor.segment(predictor.encode(picture), boxes, np.stack(drawn))
        assert masks.shape == (4, 1, *SIZE) and scores.shape == (4, 1) and np.isnan(scores).all()
        for mask, old in zip(masks[:, 0], drawn, strict=True):
            assert np.array_equal(mask, cut(picture, BOX, old)), "whoever draws beside it"
