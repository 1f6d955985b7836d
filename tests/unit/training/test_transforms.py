"""Frames keep points on the picture; jitter, mirroring and colour noise do what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.data.jitter import random_frame
from stages.data.text import mirror_sentence
from stages.data.transforms import (
    Augmentation,
    Frame,
    colour_noise,
    model_frame_size,
    plain_frame,
    random_zoom,
    render,
    zoom_frame,
)

JITTER = Augmentation(jitter_min=0.3, jitter_max=1.4, mirror=0.5)


@given(st.integers(8, 900), st.integers(8, 900), st.integers(16, 640))
def test_longer_side_becomes_the_size_and_ratio_is_kept(h: int, w: int, size: int) -> None:
    a, b = model_frame_size(h, w, size)
    assert max(a, b) == size
    assert abs(a / b - h / w) <= max(h / w, 1) * (1 / a + 1 / b)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(20, 300), st.integers(20, 300))
def test_points_go_to_the_model_and_back(seed: int, h: int, w: int) -> None:
    rng = np.random.default_rng(seed)
    box = np.sort(rng.uniform(0, 1, (2, 2)), 0) * (w, h)
    frame = random_frame(rng, (h, w), 160, JITTER, box.reshape(4))
    x0, y0, x1, y1 = frame.window_xyxy
    assert 0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h
    assert max(frame.size_hw) <= 160
    points = rng.uniform(0, 1, (5, 2)) * (w, h)
    assert np.allclose(frame.to_original(frame.to_model(points)), points)
    assert render(np.zeros((h, w, 3), np.uint8), frame).shape == (*frame.size_hw, 3)


def test_a_window_contains_the_kept_box_when_it_fits() -> None:
    box = np.array([200.0, 120.0, 260.0, 170.0])
    shown = [
        random_frame(
            np.random.default_rng(s), (300, 400), 160, Augmentation(jitter_min=1.2, jitter_max=1.4), box
        ).shows(box[None])[0]
        for s in range(50)
    ]
    assert min(shown) > 0.97


def test_a_painted_pixel_is_where_its_point_goes() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:30, 50:60] = 255
    for mirrored in (False, True):
        frame = Frame((10, 5, 70, 55), (100, 120), mirrored)
        drawn = render(image, frame)[..., 0] > 127
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        box = frame.boxes_to_model(np.array([[50.0, 20, 60, 30]]))[0]
        assert np.allclose(box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1)


def test_a_zoom_window_is_square_round_its_box_and_black_outside_the_picture() -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    frame = zoom_frame(np.array([60.0, 10, 80, 50]), 64, 0.25)
    assert frame.window_xyxy == (40, 0, 100, 60)
    drawn = render(image, frame)
    assert drawn.shape == (64, 64, 3)
    edge = 40 / 60 * 64
    assert (drawn[:, : int(edge) - 1] == 200).all() and (drawn[:, int(edge) + 2 :] == 0).all()
    assert np.allclose(frame.to_original(frame.to_model(np.array([[61.0, 12.0]]))), [[61, 12]])


def test_random_zoom_keeps_most_of_the_box_in_sight() -> None:
    box = np.array([30.0, 20, 90, 50])
    frames = [
        random_zoom(np.random.default_rng(s), box, 64, 0.15, Augmentation(zoom_jitter=0.2))
        for s in range(100)
    ]
    assert min(f.shows(box[None])[0] for f in frames) > 0.8
    assert len({f.window_xyxy for f in frames}) > 50


def test_neutral_augmentation_is_the_plain_frame() -> None:
    rng = np.random.default_rng(0)
    assert random_frame(rng, (30, 40), 80, Augmentation(), np.array([0.0, 0, 5, 5])) == plain_frame(
        30, 40, 80
    )
    image = rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)
    assert colour_noise(rng, image, 0) is image
    assert (colour_noise(rng, image, 0.5) != image).any()


@pytest.mark.parametrize(
    ("sentence", "mirrored"),
    [("left red star", "right red star"), ("the rightmost man to the left of it", "the leftmost man to the right of it"), ("leftover bright cross", "leftover bright cross")],
)  # fmt: skip
def test_mirrored_sentences_swap_left_and_right(sentence: str, mirrored: str) -> None:
    assert mirror_sentence(sentence) == mirrored
    assert mirror_sentence(mirrored) == sentence
