"""Shapes -> masks: one pixel rule, nothing crashes on odd input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.errors import ArtifactError
from stages.geometry.rasterise import (
    box_to_rle,
    ellipse_to_rle,
    empty_rle,
    mask_to_rle,
    polygon_to_rle,
    polygon_to_window,
    resize_mask_nearest,
    rle_area,
    rle_from_segmentation,
    rle_to_mask,
    union_rle,
)

SIZE = (24, 30)
number = st.floats(-40, 70, width=32)
polygon = st.lists(st.tuples(number, number), max_size=9)


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_masks_survive(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((7, 9)) < share
    again = rle_to_mask(mask_to_rle(mask))
    assert again.dtype == np.bool_
    assert again.flags.c_contiguous
    assert np.array_equal(again, mask)
    assert rle_area(mask_to_rle(mask)) == mask.sum()


@given(st.tuples(number, number, number, number))
def test_box_covers_the_pixels_whose_centres_it_holds(b: tuple[float, ...]) -> None:
    mask = rle_to_mask(box_to_rle(b, SIZE))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = (x > b[0]) & (x <= b[2]) & (y > b[1]) & (y <= b[3])
    on_edge = np.isin(x, b) | np.isin(y, b)  # there rounding may decide
    assert (mask == inside)[~on_edge].all()


@given(st.integers(0, 24), st.integers(0, 24), st.integers(1, 20), st.integers(1, 20))
def test_box_equals_its_polygon(x: int, y: int, w: int, h: int) -> None:
    corners = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
    assert box_to_rle([x, y, x + w, y + h], SIZE) == polygon_to_rle(corners, SIZE)
    assert polygon_to_rle([[x + w, y], [x, y + h]], SIZE) == box_to_rle([x, y, x + w, y + h], SIZE)


@given(st.tuples(number, number, number, number))
def test_ellipse_follows_its_equation(b: tuple[float, ...]) -> None:
    mask = rle_to_mask(ellipse_to_rle(b, SIZE))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rx, ry = (b[2] - b[0]) / 2, (b[3] - b[1]) / 2
    if rx <= 1e-3 or ry <= 1e-3:
        assert not mask.any() or rx > 0 < ry
        return
    distance = ((x - (b[0] + b[2]) / 2) / rx) ** 2 + ((y - (b[1] + b[3]) / 2) / ry) ** 2
    clear = np.abs(distance - 1) > 1e-6
    assert (mask == (distance < 1))[clear].all()


def test_ellipse_has_the_area_of_an_ellipse() -> None:
    assert rle_area(ellipse_to_rle([10, 20, 210, 120], (200, 300))) == pytest.approx(
        np.pi * 100 * 50, rel=2e-3
    )


@pytest.mark.parametrize("shape", [box_to_rle, ellipse_to_rle])
@pytest.mark.parametrize("box", [[np.nan] * 4, [9, 9, 2, 2], [-9, -9, -1, -1], [40, 0, 50, 9], [3, 3, 3, 3]])
def test_boxes_without_pixels_are_empty(shape: Any, box: list[float]) -> None:
    assert shape(box, SIZE) == empty_rle(SIZE)


@settings(max_examples=200)
@given(polygon)
def test_window_holds_the_same_pixels(points: list[tuple[float, float]]) -> None:
    whole = rle_to_mask(polygon_to_rle(np.reshape(points, (-1, 2)), SIZE))
    rle, (x, y) = polygon_to_window(np.reshape(points, (-1, 2)), SIZE)
    height, width = rle["size"]
    placed = np.zeros(SIZE, dtype=bool)
    if height and width:
        placed[y : y + height, x : x + width] = rle_to_mask(rle)
    assert np.array_equal(placed, whole)


@pytest.mark.parametrize(
    "points", [[], [[5, 5]], [[5, 5], [9, 9], [12, 12]], [[5, 5]] * 4, [[50, 50], [60, 50], [60, 60]]]
)
def test_degenerate_and_outside_polygons_are_empty(points: list[list[float]]) -> None:
    assert rle_area(polygon_to_rle(np.reshape(points, (-1, 2)), SIZE)) == 0


def test_two_points_are_a_box_and_in_the_release_corner_and_size() -> None:
    assert rle_area(polygon_to_rle([[5, 6], [9, 9]], SIZE)) == 4 * 3
    assert rle_area(polygon_to_rle([[5, 6], [9, 9]], SIZE, two_points="xywh")) == 9 * 9


def test_far_away_points_cost_nothing() -> None:
    assert (
        rle_area(polygon_to_rle([[-1e12, -1e12], [1e12, -1e12], [1e12, 1e12], [-1e12, 1e12]], SIZE))
        == 24 * 30
    )


def test_not_finite_points_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        polygon_to_rle([[0, 0], [1, np.nan], [2, 2]], SIZE)


def test_union_counts_shared_pixels_once() -> None:
    a, b = box_to_rle([0, 0, 10, 10], SIZE), box_to_rle([5, 5, 15, 15], SIZE)
    assert rle_area(union_rle([a, b], SIZE)) == 175
    assert union_rle([], SIZE) == empty_rle(SIZE)
    assert union_rle([a], SIZE) == a


def test_segmentation_forms_agree() -> None:
    square = [4.0, 4, 12, 4, 12, 12, 4, 12]
    expected = box_to_rle([4, 4, 12, 12], SIZE)
    runs = rle_to_mask(expected).T.reshape(-1).astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], runs]))).tolist()
    counts = np.diff([0, *edges, len(runs)]).tolist()
    text = {"size": list(SIZE), "counts": expected["counts"].decode()}
    forms = [
        square,
        [square],
        [square, [1, 1, 2, 2]],
        expected,
        [expected],
        text,
        {"size": [*SIZE], "counts": counts},
    ]
    for form in forms:
        assert rle_from_segmentation(form, SIZE) == expected, form
    assert rle_from_segmentation([square, [12.0, 4, 20, 4, 20, 12, 12, 12]], SIZE) == box_to_rle(
        [4, 4, 20, 12], SIZE
    )
    for nothing in (None, [], [[]]):
        assert rle_from_segmentation(nothing, SIZE) == empty_rle(SIZE)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("text", "got str"),
        (3, "got int"),
        ([[1, 2, 3, 4, 5, 6, 7]], "even number of coordinates, got 7"),
        ([["a", "b"]], "flat list of numbers"),
        ([[1.0, 2, 3, float("nan"), 5, 6]], "NaN or infinite"),
        ({"size": [24, 31], "counts": [744]}, r"\[24, 31\] does not match its image \[24, 30\]"),
        ({"size": [24, 30], "counts": [700]}, "cover 700 pixels, its image has 720"),
        ({"size": [24, 30], "counts": [800, -80]}, "must not be negative, got -80"),
        ({"size": [24, 30], "counts": "b'04'"}, "printed form of bytes"),
        ({"size": [24, 30], "counts": "04"}, "mask runs cover 4 pixels"),
        ({"size": [24, 30], "counts": b"\xff"}, "not compressed run lengths"),
        ({"size": [24, 30]}, "cover 0 pixels"),
        ({"size": [24, 30], "counts": {}}, "runs must be whole numbers, got {}"),
        ({"size": [24, 30], "counts": ["x", 1]}, "runs must be whole numbers, got"),
        ({"size": [24, 30], "counts": [10**30]}, "runs must be whole numbers, got"),
        ({"size": [24, float("nan")], "counts": [720]}, "does not match its image"),
        ({"size": None, "counts": [720]}, "mask size None does not match"),
        ({"size": "24", "counts": [720]}, "mask size 24 does not match"),
    ],
)
def test_bad_segmentations_are_named(bad: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        rle_from_segmentation(bad, SIZE)


def test_nearest_resize_keeps_shape_order() -> None:
    mask = np.zeros((4, 8), dtype=bool)
    mask[:, 4:] = True
    assert resize_mask_nearest(mask, (8, 4))[:, 2:].all()
    assert resize_mask_nearest(mask, (8, 4)).shape == (8, 4)
