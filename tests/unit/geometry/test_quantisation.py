"""Coordinates and tokens: half a bin of error, never outside, END handling."""

from __future__ import annotations

import numpy as np
import pytest
from golden_checks.released import quantise_vertices_release
from hypothesis import given
from hypothesis import strategies as st

from stages.geometry.quantisation import (
    dequantise,
    dequantise_release,
    quantise,
    quantise_release,
    tokens_to_box,
    tokens_to_points,
)


@given(st.floats(0, 1), st.integers(1, 2000), st.integers(1, 1000))
def test_round_trip_is_off_by_half_a_bin_at_most(share: float, size: int, n_bins: int) -> None:
    value = share * size
    token = quantise(value, size, n_bins)
    assert 0 <= token < n_bins
    assert abs(dequantise(token, size, n_bins) - value) <= size / n_bins / 2 + 1e-9


@given(st.integers(0, 999), st.integers(1, 4000))
def test_tokens_survive_the_way_to_pixels_and_back(token: int, size: int) -> None:
    assert quantise(dequantise(token, size, 1000), size, 1000) == token


def test_outside_coordinates_are_clamped_and_the_release_does_not() -> None:
    assert quantise([-3.0, 64.0, 70.0], 64, 1000).tolist() == [0, 999, 999]
    assert quantise_release([-3.0, 64.0, 70.0], 64, 1000).tolist() == [-46, 1000, 1093]


def test_release_reads_the_lower_edge_of_a_bin() -> None:
    assert dequantise_release(500, 640, 1000) == 320.0
    assert dequantise(500, 640, 1000) == pytest.approx(320.32)


def test_missing_vertex_becomes_bin_0_on_wide_images_in_the_release() -> None:
    tokens = quantise_vertices_release([[-1, -1]], (1088, 96), 1000)
    assert tokens.tolist() == [[0, 1000]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantise([bad], 10, 10)


def test_polygon_ends_at_the_first_end_and_drops_an_odd_tail() -> None:
    points = tokens_to_points([1, 2, 3, 10, 5, 6], (10, 10), 10, dequantise_release)
    assert points.tolist() == [[1, 2]]
    assert tokens_to_points([10, 1, 2], (10, 10), 10).shape == (0, 2)


def test_box_uses_width_for_x() -> None:
    assert tokens_to_box([[0, 0, 5, 5]], (20, 10), 10, dequantise_release).tolist() == [[0, 0, 10, 5]]
