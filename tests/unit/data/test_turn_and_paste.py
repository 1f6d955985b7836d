"""Turned pictures and their outlines stay together; pasting mixes only at the edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.paste import paste, random_background, soft_edge
from stages.data.transforms import Frame, render
from stages.data.turn import Turn, random_turn
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask

ARROW = np.array([[50, 20], [75, 45], [60, 45], [60, 70], [45, 70], [45, 45], [30, 45]], np.float32)


def drawn(ring: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    return rle_to_mask(polygon_to_rle(ring, size_hw))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@given(st.floats(-180, 180), st.floats(0, 100), st.floats(0, 100))
def test_a_turn_keeps_distances_and_has_an_inverse(degrees: float, x: float, y: float) -> None:
    turned = Turn(degrees, (x, y)).points(ARROW)
    assert np.allclose(np.hypot(*(turned - (x, y)).T), np.hypot(*(ARROW - (x, y)).T), atol=1e-3)
    assert np.allclose(Turn(-degrees, (x, y)).points(turned), ARROW, atol=1e-3)


def test_positive_angles_turn_clockwise_on_the_screen() -> None:
    assert np.allclose(Turn(90, (10, 10)).points(np.array([[15.0, 10.0]])), [[10, 15]])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [40, 90, 200])
@pytest.mark.parametrize("degrees", [0.0, -35.0, 120.0])
def test_the_turned_picture_shows_the_turned_outline(degrees: float, size: int, mirrored: bool) -> None:
    image = drawn(ARROW, (90, 110)).astype(np.uint8)[..., None].repeat(3, 2) * np.uint8(255)
    turn = Turn(degrees, (52.0, 45.0))
    frame = Frame((7, -3, 97, 87), (size, size), mirrored)
    picture = turn.render(image, frame)
    assert picture.shape == (size, size, 3)
    expected = drawn(frame.to_model(turn.points(ARROW)), (size, size))
    assert iou(picture[..., 0] >= 128, expected) > (0.97 if size > 40 else 0.93)
    if not degrees:
        assert np.abs(picture.astype(int) - render(image, frame)).max() <= 2


def test_only_an_outline_that_spans_its_box_is_turned() -> None:
    rng = np.random.default_rng(0)
    box = np.array([30.0, 20, 75, 70])
    before = rng.bit_generator.state
    assert random_turn(rng, ARROW, box, 0.0) is None
    assert random_turn(rng, ARROW[:0], box, 30.0) is None
    assert random_turn(rng, ARROW, np.array([30.0, 20, 150, 70]), 30.0) is None, "one of several parts"
    assert rng.bit_generator.state == before, "nothing is drawn where nothing is turned"
    turns = [random_turn(rng, ARROW, box, 30.0) for _ in range(200)]
    angles = [t.degrees for t in turns if t]
    assert len(angles) == 200
    assert -30 <= min(angles) < -25
    assert 25 < max(angles) <= 30
    assert turns[0] is not None
    assert turns[0].centre_xy == (52.5, 45.0)


def test_pasting_keeps_inside_and_outside_and_mixes_one_pixel_each_way() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    share = soft_edge(mask)
    assert (share[6:14, 6:14] == 1).all()
    assert share[4:16, 4:16].min() > 0
    share_outside = share.copy()
    share_outside[4:16, 4:16] = 0
    assert not share_outside.any()
    assert share[10, 4] == pytest.approx(1 / 3)
    assert share[10, 5] == pytest.approx(2 / 3)
    picture, ground = np.full((20, 20, 3), 250, np.uint8), np.full((20, 20, 3), 10, np.uint8)
    mixed = paste(picture, share, ground)
    assert (mixed[6:14, 6:14] == 250).all()
    assert (mixed[0] == 10).all()
    assert mixed[10, 4].tolist() == [90, 90, 90]


def test_a_background_is_a_square_from_inside_the_picture() -> None:
    image = np.arange(1, 60 * 80 + 1, dtype=np.float64).reshape(60, 80)
    image = np.stack([image // 80, image % 80, np.full_like(image, 200)], 2).astype(np.uint8)
    rng = np.random.default_rng(1)
    corners = set()
    for _ in range(50):
        square = random_background(rng, image, 24, 24)
        assert square.shape == (24, 24, 3)
        assert (square[..., 2] == 200).all(), "never beyond the border"
        corners.add(tuple(square[0, 0]))
    assert len(corners) > 40
    assert random_background(rng, image, 500, 32).shape == (32, 32, 3), "a picture smaller than the window"
