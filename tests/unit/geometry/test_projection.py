"""Projection scores: the definition, from runs and from polygons; resampling of many polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.geometry.contours import largest_outer_contour
from stages.geometry.polygons import curve_through, is_plain, polygon_scores, resample_polygons
from stages.geometry.projection import extent_scores, projection_score, projection_scores
from stages.geometry.rasterise import box_to_rle, mask_to_rle, polygon_to_rle, rle_to_mask
from stages.geometry.resampling import mask_to_points, resample_uniform
from tests.oracles.rpp_textbook import select_and_resample

SIZE = (200, 240)


def random_polygons(seed: int, count: int, wildness: float = 0.25) -> list[NDArray[np.float32]]:
    """Rings of 3 to 15 points round a centre; the wilder, the spikier."""
    rng = np.random.default_rng(seed)
    rings = []
    for _ in range(count):
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 16)))
        radius = rng.uniform(15, 70) * (1 + wildness * rng.standard_normal(len(angle)).clip(-2, 2))
        xy = (110, 95) + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        rings.append(xy.astype(np.float32))
    return rings


def packed(rings: list[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rings])]).astype(np.int64)
    return np.concatenate([np.reshape(r, (-1, 2)) for r in rings]).astype(np.float64), offsets


def test_score_by_hand() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 5:15] = True
    assert projection_score(mask, [5, 5, 15, 15]) == pytest.approx(0, abs=1e-5)
    assert projection_score(mask, [8, 5, 18, 15]) == pytest.approx(0.3, abs=1e-5)
    assert projection_score(mask, [0, 0, 3, 3]) == 2.0
    assert projection_score(np.zeros((20, 20), dtype=bool), [5, 5, 15, 15]) == 2.0


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_scores_from_runs_equal_scores_from_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random(rng.integers(1, 20, 2)) < rng.random() ** 2 for _ in range(20)]
    boxes = np.sort(rng.uniform(-3, 22, (20, 2, 2)), axis=1).reshape(20, 4)
    expected = [projection_score(m, b) for m, b in zip(masks, boxes, strict=True)]
    assert projection_scores([mask_to_rle(m) for m in masks], boxes).tolist() == expected


def test_scores_need_a_box_a_mask() -> None:
    assert projection_scores([], np.zeros((0, 4))).shape == (0,)
    with pytest.raises(ValueError, match="got 1 and 2"):
        projection_scores([mask_to_rle(np.ones((2, 2), dtype=bool))], np.zeros((2, 4)))


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_extent_scores_are_exact_for_outlines(seed: int) -> None:
    """The profile of a connected region is an interval, so no raster is needed."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((30, 34), dtype=bool)
    y, x = 15, 17
    for _ in range(60):  # a connected random walk of pixels
        mask[y, x] = True
        step = [(0, 1), (1, 0), (0, -1), (-1, 0)][rng.integers(4)]
        y, x = np.clip((y + step[0], x + step[1]), 0, (29, 33))
    box = np.sort(rng.uniform(0, 30, (2, 2)), axis=0).reshape(4)
    outline = largest_outer_contour(mask)
    extent = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
    assert extent_scores([extent], [box], mask.shape)[0] == projection_score(mask, box)
    assert extent_scores([[np.nan] * 4], [box], mask.shape)[0] == 2.0


@pytest.mark.parametrize("wildness", [0.0, 0.25])
def test_scores_agree_with_pixels(wildness: float) -> None:
    """A blunt tip covers no pixel on its last two pixels at most: each axis is off by 4 in (extent + box)."""
    rings = random_polygons(1, 300, wildness)
    rng = np.random.default_rng(2)
    extents = np.array([np.concatenate([r.min(0), r.max(0)]) for r in rings])
    boxes = extents + rng.normal(0, 4, (300, 4))
    scores = polygon_scores(*packed(rings), boxes, np.tile(SIZE, (300, 1)))
    exact = np.array(
        [projection_score(rle_to_mask(polygon_to_rle(r, SIZE)), b) for r, b in zip(rings, boxes, strict=True)]
    )
    sides = (extents + boxes)[:, 2:] - (extents + boxes)[:, :2]
    assert (np.abs(scores - exact) <= (4 / sides).sum(axis=1)).all()
    assert np.abs(scores - exact).mean() < 0.006


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-9, 40), st.integers(-9, 40)), max_size=9), st.integers(0, 2**32))
def test_odd_polygons_are_scored_by_their_pixels(ring: list[tuple[int, int]], seed: int) -> None:
    """Crossing, touching, thin, outside: whatever is not plain equals the raster exactly."""
    size = np.array([30, 32])
    box = np.sort(np.random.default_rng(seed).uniform(-2, 33, (2, 2)), axis=0).reshape(4)
    points = np.reshape(ring, (-1, 2)).astype(np.float64)
    if len(ring) > 2 and is_plain(points[None], size[None])[0]:
        return
    score = polygon_scores(points, [0, len(points)], [box], [size])[0]
    assert score == pytest.approx(projection_score(rle_to_mask(polygon_to_rle(points, size)), box))


def test_plain_polygons() -> None:
    square = np.array([[2.0, 2], [12, 2], [12, 12], [2, 12]])
    crossing = square[[0, 2, 1, 3]]
    repeated = np.concatenate([square[:1], square])
    folded = np.array([[2.0, 2], [12, 2], [7, 2], [7, 12]])
    for ring, plain in ((square, True), (crossing, False), (square + 15, False), (square / 4, False)):
        assert is_plain(ring[None], np.array([[20, 20]]))[0] == plain
    assert not is_plain(repeated[None], np.array([[20, 20]]))[0]
    assert not is_plain(folded[None], np.array([[20, 20]]))[0]
    assert not is_plain(square[None, :2], np.array([[20, 20]]))[0]


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_rings_of_many_points_are_plain_when_their_corners_are(seed: int) -> None:
    """Points added along the edges change nothing, but how the edges are compared."""
    rng = np.random.default_rng(seed)
    ring = random_polygons(seed, 1, wildness=rng.choice([0.1, 1.0]))[0].astype(np.float64)
    size = np.array([SIZE])
    steps = np.linspace(0, 1, 100)[:-1, None]
    dense = np.concatenate(
        [a + steps * (b - a) for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True)]
    )
    dense += rng.normal(0, 1e-9, dense.shape)  # no three points on one line
    assert is_plain(dense[None], size)[0] == is_plain(ring[None], size)[0]


def test_outline_agrees_with_pixels() -> None:
    """Resampled polygons draw the same shape as outlines of their rasters, and start at the same place."""
    rings = [r for r in random_polygons(3, 200, 0.15) if len(r) >= 6]
    points, found = resample_polygons(*packed(rings), np.tile(SIZE, (len(rings), 1)), 24)
    assert found.all()
    start, overlap = [], []
    for ring, ours in zip(rings, points, strict=True):
        mask = rle_to_mask(polygon_to_rle(ring, SIZE))
        start.append(np.hypot(*(ours[0] - mask_to_points(mask, 24)[0])))
        again = rle_to_mask(polygon_to_rle(ours, SIZE))
        overlap.append((again & mask).sum() / (again | mask).sum())
        x, y = ours.T.astype(np.float64)
        assert x @ np.roll(y, -1) > y @ np.roll(x, -1), "clockwise on the screen"
    assert np.quantile(start, 0.95) < 2.5
    assert np.mean(overlap) > 0.95


def test_direction_and_first_point_of_a_polygon_do_not_matter() -> None:
    rings = random_polygons(4, 60)
    turned = [np.roll(r[::-1], k, axis=0) for k, r in enumerate(rings)]
    sizes = np.tile(SIZE, (60, 1))
    a, b = (resample_polygons(*packed(x), sizes, 12)[0] for x in (rings, turned))
    assert np.abs(a - b).max() < 1e-3


def test_slightly_sloping_upper_edge_starts_at_its_left_end() -> None:
    ring = [[10, 10.4], [50, 10.0], [50, 40], [10, 40]]
    points, _ = resample_polygons(*packed([ring]), [SIZE], 4)
    raster = mask_to_points(rle_to_mask(polygon_to_rle(ring, SIZE)), 4)
    assert points[0, 0] == pytest.approx([10, 10.5], abs=0.1)
    assert points[0] == pytest.approx(raster, abs=1.5)


def test_a_curve_through_points_of_a_circle_is_the_circle() -> None:
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = 50 + 20 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring = curve_through(circle, 8)
    assert np.allclose(ring[::8], circle), "it passes through every point, from the first on"
    radius = np.hypot(*(ring - 50).T)
    assert radius == pytest.approx(20, abs=0.06), "straight edges lie up to 0.7 inside"
    line = np.array([[0.0, 0.0], [4.0, 0.0]])
    assert np.array_equal(curve_through(line, 8), line)


def test_long_rings_take_no_more_memory_than_short_ones() -> None:
    """Edges are compared in pairs: 60 rings of 640 points at once would take a gigabyte."""
    import tracemalloc

    angle = np.linspace(0, 2 * np.pi, 640, endpoint=False)
    ring = 100 + 50 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    tracemalloc.start()
    points, found = resample_polygons(*packed([ring] * 60), np.tile(SIZE, (60, 1)), 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.all() and np.allclose(points, points[:1])
    assert peak < 300e6


def test_degenerate_polygons_are_not_found() -> None:
    rings = [
        [],
        [[5, 5]],
        [[5, 5], [9, 9], [13, 13]],
        [[300, 300], [310, 300], [300, 310]],
        [[5, 6], [25, 16]],
    ]
    sizes = np.tile(SIZE, (5, 1))
    points, found = resample_polygons(*packed(rings), sizes, 8)
    assert found.tolist() == [False, False, False, False, True]
    assert np.isnan(points[:4]).all()
    box = box_to_rle([5, 6, 25, 16], SIZE)
    again = rle_to_mask(polygon_to_rle(resample_polygons(*packed(rings[4:]), sizes[4:], 60)[0][0], SIZE))
    assert (again & rle_to_mask(box)).sum() / 200 > 0.98
    scores = polygon_scores(*packed(rings), np.tile([5, 6, 25, 16], (5, 1)), sizes)
    assert scores[:2].tolist() == [2, 2]
    assert scores[4] == pytest.approx(0, abs=1e-5)


def test_resampling_a_plain_ring_is_resample_uniform() -> None:
    square = np.array([[20.0, 20], [60, 20], [60, 80], [20, 80]])
    points, _ = resample_polygons(*packed([square]), [SIZE], 10)
    assert points[0] == pytest.approx(resample_uniform([[20, 20.5], *square.tolist()], 10), abs=1.0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_textbook_selects_the_same() -> None:
    rings = random_polygons(5, 80)
    rng = np.random.default_rng(6)
    boxes = np.array([np.concatenate([r.min(0), r.max(0)]) for r in rings]) + rng.normal(0, 3, (80, 4))
    sizes = np.tile(SIZE, (80, 1))
    scores = polygon_scores(*packed(rings), boxes, sizes)
    points, _ = resample_polygons(*packed(rings), sizes, 12)
    for ring, box, score, ours in zip(rings, boxes, scores, points, strict=True):
        expected, theirs = select_and_resample(polygon_to_rle(ring, SIZE), box, 12)
        assert abs(score - expected) < 0.06
        if theirs is not None and abs(expected - 0.1) > 0.06:
            a, b = (rle_to_mask(polygon_to_rle(p, SIZE)) for p in (ours, theirs + 0.5))
            assert (a & b).sum() / (a | b).sum() > 0.7
