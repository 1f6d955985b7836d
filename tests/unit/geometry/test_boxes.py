"""Boxes: conversions undo each other, IoU obeys its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.geometry.boxes import (
    box_area,
    box_iou_pairwise,
    clip_boxes,
    pixel_interval,
    polygon_extent,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

coordinate = st.integers(-20, 40)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])]
)


@given(box)
def test_conversions_undo_each_other(b: list[int]) -> None:
    assert xywh_to_xyxy(xyxy_to_xywh(b)).tolist() == b


def test_conversion_leaves_the_input_alone() -> None:
    original = np.array([10.0, 10, 20, 20])
    xywh_to_xyxy(original)
    xywh_to_xyxy(original)
    assert original.tolist() == [10, 10, 20, 20]


@given(box, box)
def test_iou_is_symmetric_and_counts_unit_squares(a: list[int], b: list[int]) -> None:
    iou = box_iou_pairwise([a], [b])
    assert iou == box_iou_pairwise([b], [a])
    squares = [
        {(x, y) for x in range(int(r[0]), int(r[2])) for y in range(int(r[1]), int(r[3]))} for r in (a, b)
    ]
    union = len(squares[0] | squares[1])
    expected = len(squares[0] & squares[1]) / union if union else 0.0
    assert np.isclose(iou[0], expected)


def test_missing_inverted_and_disjoint_boxes_overlap_nothing() -> None:
    a = [[np.nan] * 4, [5, 5, 1, 1], [0, 0, 1, 1]]
    b = [[0, 0, 9, 9], [0, 0, 9, 9], [5, 5, 6, 6]]
    assert box_iou_pairwise(a, b).tolist() == [0, 0, 0]
    assert box_area([5, 5, 1, 1]) == 0


def test_clip_keeps_nan_and_uses_height_for_y() -> None:
    clipped = clip_boxes([[-5, -5, 50, 50], [np.nan, 1, 2, 3]], (20, 30))
    assert clipped[0].tolist() == [0, 0, 30, 20]
    assert np.isnan(clipped[1, 0])


def test_extent_of_nothing_is_nan() -> None:
    assert np.isnan(polygon_extent(np.zeros((0, 2)))).all()
    assert polygon_extent([[3, 4], [1, 9]]).tolist() == [1, 4, 3, 9]


@given(st.floats(-5, 25), st.floats(-5, 25))
def test_pixel_interval_holds_the_pixels_whose_centres_are_inside(low: float, high: float) -> None:
    start, stop = pixel_interval(low, high, 20)
    assert list(range(int(start), int(stop))) == [i for i in range(20) if low < i + 0.5 <= high] or (
        abs((low + 0.5) % 1) < 1e-9 or abs((high + 0.5) % 1) < 1e-9
    )


def test_pixel_interval_of_nan_is_empty() -> None:
    start, stop = pixel_interval(np.array([np.nan, 2]), np.array([5, np.nan]), 10)
    assert (start == stop).all()
