"""Uniform resampling by arc length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stages.geometry.fit import fit_extent_to_box
from stages.geometry.resampling import resample_uniform

points = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=12)


@given(points, st.integers(1, 30))
def test_points_are_equally_far_apart_along_the_ring(ring: list[tuple[int, int]], n: int) -> None:
    sampled = resample_uniform(ring, n)
    assert sampled.shape == (n, 2)
    assert sampled[0].tolist() == list(ring[0])
    closed = np.array([*ring, ring[0]], dtype=np.float64)
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    for k, point in enumerate(sampled):
        place = k * along[-1] / n
        expected = [np.interp(place, along, closed[:, axis]) for axis in (0, 1)]
        assert point == pytest.approx(expected, abs=1e-3)


@given(points, st.integers(3, 20), st.integers(0, 11))
def test_another_start_gives_points_on_the_same_ring(ring: list[tuple[int, int]], n: int, shift: int) -> None:
    """Starting at another *sample* of a ring gives the same points, rolled."""
    sampled = resample_uniform(ring, n)
    k = shift % n
    closed = np.array([*ring, ring[0]], dtype=np.float64)
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    place = k * along[-1] / n
    edge = int(np.searchsorted(along, place, side="right") - 1)
    assume(along[-1] > 0 and edge < len(ring))
    turned = [sampled[k].tolist(), *(list(p) for p in (ring[edge + 1 :] + ring[: edge + 1]))]
    assert resample_uniform(turned, n) == pytest.approx(np.roll(sampled, -k, axis=0), abs=2e-2)


def test_order_and_start_are_kept() -> None:
    square = [[0, 0], [10, 0], [10, 10], [0, 10]]
    assert resample_uniform(square, 4).tolist() == square
    assert resample_uniform(square[::-1], 4).tolist() == square[::-1]
    assert resample_uniform(square, 8)[1].tolist() == [5, 0]


def test_degenerate_rings() -> None:
    assert resample_uniform([[3, 4]], 3).tolist() == [[3, 4]] * 3
    assert resample_uniform([[3, 4], [3, 4]], 2).tolist() == [[3, 4]] * 2
    assert resample_uniform([[0, 0], [10, 0]], 4).tolist() == [[0, 0], [5, 0], [10, 0], [5, 0]]


@pytest.mark.parametrize(
    ("ring", "n", "message"),
    [([], 4, "got 0 points"), ([[0, np.nan]], 4, "finite"), ([[0, 0]], 0, "at least 1, got 0")],
)
def test_bad_rings_are_refused(ring: list[list[float]], n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resample_uniform(ring, n)


@given(points)
def test_fit_gives_the_extent_of_the_box(ring: list[tuple[int, int]]) -> None:
    fitted = fit_extent_to_box(ring, [10, 20, 30, 60])
    xs, ys = zip(*ring, strict=True)
    for axis, values, (low, high) in ((0, xs, (10, 30)), (1, ys, (20, 60))):
        got = (fitted[:, axis].min(), fitted[:, axis].max())
        middle = (low + high) / 2
        assert got == pytest.approx((low, high) if len(set(values)) > 1 else (middle, middle))


def test_fit_of_nothing_and_bad_boxes() -> None:
    assert fit_extent_to_box(np.zeros((0, 2)), [0, 0, 1, 1]).shape == (0, 2)
    with pytest.raises(ValueError, match=r"x1 <= x2.*\[5.0, 0.0, 1.0, 1.0\]"):
        fit_extent_to_box([[0, 0]], [5, 0, 1, 1])
