"""Polygons along pixel edges: filled by the COCO rule they are the mask again, with parts, holes and corners that touch."""

from __future__ import annotations

import numpy as np
import pytest

from stages.errors import ArtifactError
from stages.geometry.brush_runs import decode_brush, encode_brush
from stages.geometry.edges import mask_parts, one_polygon
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask
from tests.oracles.tool_files import block, brush_bits, read_brush, ring_with_hole


@pytest.mark.parametrize("seed", range(8))
def test_filled_polygons_are_the_mask_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(25):
        mask = rng.random(rng.integers(1, 12, 2)) < rng.random()
        again = np.zeros_like(mask)
        parts = mask_parts(mask)
        for part in parts:
            filled = rle_to_mask(polygon_to_rle(part.outer, mask.shape))
            for hole in part.holes:
                filled &= ~rle_to_mask(polygon_to_rle(hole, mask.shape))
            assert not (again & filled).any()
            again |= filled
        assert (again == mask).all()
        if mask.any():
            assert (rle_to_mask(polygon_to_rle(one_polygon(parts), mask.shape)) == mask).all()


def test_parts_are_ordered_and_turn_as_told() -> None:
    first, second = mask_parts(ring_with_hole())
    assert first.outer.tolist() == [[5, 5], [25, 5], [25, 25], [5, 25]]  # clockwise on the screen
    assert first.holes[0].tolist()[::-1] != first.holes[0].tolist() and len(first.holes) == 1
    assert sorted(first.holes[0].tolist()) == [[10, 10], [10, 18], [15, 10], [15, 18]]
    assert second.outer.tolist() == [[40, 20], [50, 20], [50, 30], [40, 30]] and not second.holes
    assert mask_parts(np.zeros((4, 4), bool)) == []


def test_a_tolerance_leaves_out_points_and_stays_near() -> None:
    y, x = np.mgrid[:80, :80]
    disc = (x - 40) ** 2 + (y - 40) ** 2 < 900
    exact, near = mask_parts(disc)[0].outer, mask_parts(disc, 1.0)[0].outer
    assert len(near) < len(exact) / 3
    assert (rle_to_mask(polygon_to_rle(near, disc.shape)) != disc).mean() < 0.02


@pytest.mark.parametrize(
    "mask", [ring_with_hole(), block(0, 0, 60, 40), block(0, 0, 0, 0), block(59, 39, 60, 40)]
)
def test_brush_runs_are_read_by_the_published_algorithm_and_by_us(mask: np.ndarray) -> None:
    assert (read_brush(encode_brush(mask), mask.shape) == mask).all()
    for runs in (encode_brush(mask), brush_bits(mask), brush_bits(mask, literal=True)):
        assert (decode_brush(runs, mask.shape) == mask).all()


def test_long_runs_are_split() -> None:
    mask = np.zeros((300, 300), bool)
    mask[-1, -1] = True
    assert (read_brush(encode_brush(mask), mask.shape) == mask).all()


@pytest.mark.parametrize("values", [[1, 2], [300] * 40, "text", [[1], [2, 3]], None])
def test_no_brush_runs_are_refused(values: object) -> None:
    with pytest.raises(ArtifactError, match="no list of bytes"):
        decode_brush(values, (4, 4))
