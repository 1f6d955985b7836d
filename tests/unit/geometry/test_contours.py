"""Outlines follow pixel edges: nothing is lost on the way mask -> outline -> mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask
from stages.geometry.resampling import mask_to_points, resample_uniform, sample_release

Mask = NDArray[np.bool_]
masks = st.tuples(st.integers(1, 11), st.integers(1, 11)).flatmap(lambda hw: arrays(np.bool_, hw))


def largest_part_filled(mask: Mask) -> list[Mask]:
    """Independent of the code under test: every largest 8-connected part with its holes filled."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    parts = []
    for label in range(1, count):
        outside = np.pad(labels != label, 1, constant_values=True).astype(np.uint8)
        _, background = cv2.connectedComponents(outside, connectivity=4)
        parts.append((background != background[0, 0])[1:-1, 1:-1])
    most = max((p.sum() for p in parts), default=0)
    return [p for p in parts if p.sum() == most]


def signed_area(ring: NDArray[np.floating]) -> float:
    x, y = ring.T.astype(np.float64)
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@settings(max_examples=300)
@given(masks)
def test_outline_encloses_the_largest_part(mask: Mask) -> None:
    ring = largest_outer_contour(mask)
    parts = largest_part_filled(mask)
    if not parts:
        assert ring.shape == (0, 2)
        return
    assert ring.dtype == np.float32
    # positive area in image axes = clockwise on the screen; the chamfered corners cost half a pixel in all
    assert signed_area(ring) == pytest.approx(parts[0].sum() - 0.5)
    steps = np.hypot(*(np.roll(ring, -1, axis=0) - ring).T)
    assert (np.isclose(steps, 1) | np.isclose(steps, 0.5**0.5)).all()
    tops = ring[ring[:, 1] == ring[:, 1].min()]
    assert ring[0].tolist() == [tops[:, 0].min(), tops[0, 1]]


@settings(max_examples=200)
@given(masks)
def test_round_trip_is_exact_for_solid_shapes(mask: Mask) -> None:
    solid = np.kron(mask, np.ones((3, 3), dtype=bool))
    ring = largest_outer_contour(solid)
    parts = largest_part_filled(solid)
    if parts:
        again = rle_to_mask(polygon_to_rle(ring, solid.shape))
        assert any((again ^ part).sum() <= 0.02 * part.sum() for part in parts)


def test_disc_of_40_pixels_comes_back() -> None:
    y, x = np.mgrid[:64, :64] + 0.5
    disc = (x - 32) ** 2 + (y - 31) ** 2 < 20**2
    again = rle_to_mask(polygon_to_rle(largest_outer_contour(disc), disc.shape))
    assert (again & disc).sum() / (again | disc).sum() >= 0.99


def test_extent_reaches_the_pixel_edges() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:9, 7:19] = True
    ring = largest_outer_contour(mask)
    assert ring.min(axis=0).tolist() == [7, 4]
    assert ring.max(axis=0).tolist() == [19, 9]


@settings(max_examples=200)
@given(masks, st.integers(1, 40))
def test_fused_sampling_equals_outline_then_resample(mask: Mask, n: int) -> None:
    fused = mask_to_points(mask, n)
    ring = largest_outer_contour(mask)
    if len(ring) == 0:
        assert fused.shape == (0, 2)
    else:
        assert np.abs(fused - resample_uniform(ring, n)).max() < 1e-4


@given(masks, st.integers(0, 5), st.integers(0, 5))
def test_outline_moves_with_the_mask(mask: Mask, down: int, right: int) -> None:
    moved = np.pad(mask, ((down, 1), (right, 2)))
    assert np.array_equal(
        largest_outer_contour(moved), largest_outer_contour(mask) + np.float32([right, down])
    )


@pytest.mark.parametrize(
    ("shape", "length"), [((1, 1), 4 * 0.5**0.5), ((1, 5), 8 + 4 * 0.5**0.5), ((5, 1), 8 + 4 * 0.5**0.5)]
)
def test_single_pixels_and_lines_have_an_outline(shape: tuple[int, int], length: float) -> None:
    mask = np.pad(np.ones(shape, dtype=bool), 2)
    ring = largest_outer_contour(mask)
    assert np.hypot(*(np.roll(ring, -1, axis=0) - ring).T).sum() == pytest.approx(length)
    assert rle_to_mask(polygon_to_rle(ring, mask.shape)).tolist() == mask.tolist()


def test_not_contiguous_and_integer_masks_are_taken() -> None:
    mask = np.zeros((12, 9), dtype=np.int64)
    mask[3:8, 2:6] = 1
    assert np.array_equal(largest_outer_contour(mask), largest_outer_contour(mask[:, ::-1][:, ::-1] > 0))
    assert mask_to_points(np.asfortranarray(mask > 0), 6).shape == (6, 2)


def test_release_sampling_finds_nothing_in_a_line_and_fails_on_an_empty_mask() -> None:
    line = np.zeros((8, 8), dtype=bool)
    line[3, 1:7] = True
    assert (sample_release(line, 12) == -1).all()
    with pytest.raises(ValueError, match="empty mask"):
        sample_release(np.zeros((4, 4), dtype=bool), 12)
