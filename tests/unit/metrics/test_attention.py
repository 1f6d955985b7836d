"""Shares of attention inside mask and box, and distance from the predicted point, on maps made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.attention import attended, cell_cover

MASK = np.zeros((32, 48), np.bool_)
MASK[8:16, 16:24] = True  # a quarter of the cell in row 0, column 1 of 16-pixel cells
BOX = np.array([16.0, 0.0, 32.0, 16.0])  # that whole cell


def _maps(*cells: tuple[int, int]) -> np.ndarray:
    maps = np.zeros((len(cells), 2, 3))
    for k, (row, column) in enumerate(cells):
        maps[k, row, column] = 0.5  # the other half on words
    return maps


def test_a_cell_counts_by_its_share_inside() -> None:
    cover = cell_cover(MASK, (2, 3), 16)
    assert cover.tolist() == [[0, 0.25, 0], [0, 0, 0]]
    assert cell_cover(np.ones((20, 20), np.bool_), (2, 2), 16).tolist() == [
        [1, 1],
        [1, 1],
    ]  # half cells at the border


def test_shares_and_distance_of_two_points() -> None:
    """x and y of each point look at a cell each: (0, 1) twice, (1, 2), (0, 0)."""
    maps = _maps((0, 1), (0, 1), (1, 2), (0, 0))
    points = np.array([[24.0, 8.0], [40.0, 24.0]])
    found = attended(maps, np.array([0, 2]), points, MASK, BOX, 16, 16)
    assert found.in_box == pytest.approx(2 / 4)
    assert found.in_mask == pytest.approx(0.25 * 2 / 4)
    away = np.hypot(2, 1)  # the second point's y looks two columns and a row away
    assert found.distance == pytest.approx(away / 4)
    assert found.mask_share == MASK.mean() and found.box_share == pytest.approx(256 / MASK.size)


def test_even_attention_scores_the_shares_of_the_picture() -> None:
    found = attended(np.ones((2, 2, 3)), np.array([0]), np.array([[24.0, 8.0]]), MASK, BOX, 16, 16)
    assert found.in_mask == pytest.approx(found.mask_share) and found.in_box == pytest.approx(found.box_share)


def test_distance_is_in_memory_cells_also_where_maps_are_finer() -> None:
    """Crop refinement: maps of 16 pixels a cell, memory cells of 8."""
    found = attended(_maps((0, 0), (0, 0)), np.array([0]), np.array([[40.0, 8.0]]), MASK, BOX, 16, 8)
    assert found.distance == pytest.approx(4)


def test_without_a_contour_nothing_is_measured() -> None:
    found = attended(_maps((0, 1), (0, 1)), np.array([], np.int64), np.zeros((0, 2)), MASK, BOX, 16, 16)
    assert np.isnan([found.in_mask, found.in_box, found.distance]).all()


def test_a_query_looks_once_for_the_whole_contour() -> None:
    found = attended(_maps((0, 1)), np.array([0, 0, 0]), np.zeros((3, 2)), MASK, BOX, 16, 16)
    assert found.in_box == 1 and np.isnan(found.distance)
