"""Drawings land where their coordinates say, and leave their input alone."""

from __future__ import annotations

import numpy as np
import pytest

from stages.figures import overlays
from stages.figures.overlays import BOX, CHOSEN, PREDICTED
from stages.figures.predictions import prediction_figure

GREY = np.full((40, 60, 3), 120, np.uint8)
SQUARE = np.array([[10.0, 5], [30, 5], [30, 25], [10, 25]])


def changed(picture: np.ndarray, before: np.ndarray = GREY) -> np.ndarray:
    return np.argwhere((picture != before).any(-1))


def test_enlarged_keeps_proportions_and_reports_the_scale() -> None:
    bigger, scale = overlays.enlarged(GREY, 240)
    assert bigger.shape == (160, 240, 3)
    assert scale == 4.0
    smaller, scale = overlays.enlarged(GREY, 30)
    assert smaller.shape == (20, 30, 3)
    assert scale == 0.5
    assert overlays.enlarged(np.zeros((1, 900, 3), np.uint8), 100)[0].shape == (1, 100, 3)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_a_contour_is_centred_on_its_coordinates(scale: float) -> None:
    ground = np.full((int(40 * scale), int(60 * scale), 3), 120, np.uint8)
    rows, columns = changed(overlays.with_contour(ground, SQUARE, PREDICTED, scale=scale), ground).T
    # pixel k covers k to k + 1, so the middle of what was painted is at the middle of the square
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(20 * scale, abs=0.51)
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(15 * scale, abs=0.51)
    assert (columns.max() + 1 - columns.min()) == pytest.approx(20 * scale, abs=9)  # the line and its rim


def test_points_have_their_colour_in_the_middle() -> None:
    picture = overlays.with_points(GREY, [(20.5, 10.5), (40.5, 30.5)], CHOSEN, radius=3)
    assert tuple(picture[10, 20]) == CHOSEN
    assert tuple(picture[30, 40]) == CHOSEN
    assert tuple(picture[20, 30]) == (120, 120, 120)


def test_discs_shrink_until_they_do_not_touch() -> None:
    def row(apart: float) -> np.ndarray:
        return overlays.with_points(GREY, [(10.5 + apart * k, 20.5) for k in range(3)], CHOSEN, radius=3)[20]

    def width_of_the_first(apart: float) -> int:
        return int((row(apart)[:15] == CHOSEN).all(-1).sum())

    assert width_of_the_first(20) == width_of_the_first(12) == 7, "far apart they have their size"
    assert 1 <= width_of_the_first(6) < 7
    assert (row(6)[13] != CHOSEN).any() and tuple(row(6)[16]) == CHOSEN, "each is seen by itself"


def test_filling_tints_the_inside_only() -> None:
    picture = overlays.with_filled_contour(GREY, SQUARE, PREDICTED, opacity=0.5)
    assert picture[15, 20] == pytest.approx((120 + np.array(PREDICTED)) / 2, abs=1)
    assert tuple(picture[35, 55]) == (120, 120, 120)


def test_mask_tint_follows_the_mask_also_when_it_is_stretched() -> None:
    mask = np.zeros((10, 15), bool)
    mask[2:5, 4:8] = True
    picture = overlays.with_mask(GREY, mask, BOX, opacity=1.0)
    assert tuple(picture[14, 24]) == BOX
    assert tuple(picture[35, 5]) == (120, 120, 120)


def test_heat_is_brightest_at_the_maximum_and_dark_without_attention() -> None:
    cells = np.zeros((4, 6))
    cells[1, 4] = 0.3
    light = overlays.with_heat(GREY, cells, opacity=1.0).sum(-1)
    assert np.unravel_index(light.argmax(), light.shape) == pytest.approx((15, 45), abs=1)
    nothing = overlays.with_heat(GREY, np.zeros((4, 6)))
    assert (nothing == nothing[0, 0]).all() and 0 < nothing.max() < 120  # the picture, dimmed


def test_nothing_is_drawn_for_nothing_and_nothing_in_place() -> None:
    before = GREY.copy()
    empty = np.zeros((0, 2))
    for picture in (
        overlays.with_contour(GREY, empty, PREDICTED),
        overlays.with_filled_contour(GREY, empty, PREDICTED),
        overlays.with_points(GREY, empty, PREDICTED),
        overlays.with_box(GREY, np.full(4, np.nan), BOX),
    ):
        assert np.array_equal(picture, before)
        assert picture is not GREY
    overlays.with_filled_contour(GREY, SQUARE, PREDICTED)
    overlays.with_box(GREY, (1, 2, 30, 20), BOX)
    assert np.array_equal(GREY, before)


def test_coordinates_far_outside_do_no_harm() -> None:
    overlays.with_contour(GREY, [(-5000.0, -5000), (90000, 10), (30, 40000)], PREDICTED)
    overlays.with_points(GREY, [(-10.0, 500)], CHOSEN)


def test_png_keeps_red_red() -> None:
    import cv2

    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    back = cv2.imdecode(np.frombuffer(overlays.png_bytes(red), np.uint8), cv2.IMREAD_COLOR)
    assert tuple(back[0, 0]) == (0, 0, 255)  # cv2 reads BGR


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (3, 3), (2000, 1500)])
def test_pictures_of_any_shape_have_an_answer_drawn(size: tuple[int, int]) -> None:
    none = np.full(4, np.nan)
    figure = prediction_figure(
        np.zeros((*size, 3), np.uint8), "a phrase with some words", mask=np.ones(size, np.bool_),
        points_xy=np.array([[0, 0], [1, 0], [1, 1]], np.float32), box_xyxy=np.array([0, 0, 1, 1]), given_box_xyxy=none,
    )  # fmt: skip
    assert figure.ndim == 3 and max(figure.shape) < 1600
