"""Mask scores: exact against pixels, conventions for empty masks, the release's variants behind names."""

from __future__ import annotations

import numpy as np
import pytest
from golden_checks.released import batch_averaged
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.geometry.boxes import box_iou_pairwise
from stages.geometry.rasterise import box_to_rle, empty_rle, mask_to_rle
from stages.metrics.comprehension import summarise_box_iou
from stages.metrics.segmentation import overlaps, summarise_masks

SIZE = (20, 30)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 300))
def test_overlaps_equal_pixel_counts(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, (count, 2))  # pairs of different sizes side by side
    a, b = ([rng.random(hw) < rng.random() ** 3 for hw in sizes] for _ in range(2))
    scores = overlaps([mask_to_rle(m) for m in a], [mask_to_rle(m) for m in b])
    assert len(scores) == count
    for i in range(count):
        inside, covered = int((a[i] & b[i]).sum()), int((a[i] | b[i]).sum())
        assert (scores.intersection[i], scores.union[i]) == (inside, covered)
        assert scores.iou[i] == (inside / covered if covered else 1.0)


def test_order_of_pairs_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    a, b = ([mask_to_rle(rng.random(SIZE) < 0.4) for _ in range(11)] for _ in range(2))
    order = rng.permutation(11)
    forward, shuffled = overlaps(a, b), overlaps([a[i] for i in order], [b[i] for i in order])
    assert np.array_equal(forward.iou[order], shuffled.iou)
    assert summarise_masks(forward) == pytest.approx(summarise_masks(shuffled))


def test_large_masks_are_exact() -> None:
    """The intersection is recovered from the ratio: 100 megapixels are far from its rounding error."""
    size = (10_000, 10_000)
    a, b = box_to_rle([0, 0, 9999, 9999], size), box_to_rle([1, 1, 10_000, 10_000], size)
    scores = overlaps([a], [b])
    assert scores.intersection[0] == 9998 * 9998
    assert scores.union[0] == 2 * 9999 * 9999 - 9998 * 9998


def test_empty_masks() -> None:
    empty, full = empty_rle(SIZE), box_to_rle([0, 0, 30, 20], SIZE)
    scores = overlaps([empty, empty, full], [empty, full, empty])
    assert scores.iou.tolist() == [1, 0, 0]
    assert scores.union.tolist() == [0, 600, 600]


def test_crowd_divides_by_the_prediction_only() -> None:
    small, large = box_to_rle([0, 0, 5, 20], SIZE), box_to_rle([0, 0, 10, 20], SIZE)
    scores = overlaps([small, small], [large, large], crowd=[0, 1])
    assert scores.iou.tolist() == [0.5, 1.0]


def test_summary_by_hand() -> None:
    masks = [box_to_rle([0, 0, width, 20], SIZE) for width in (10, 9, 5)]
    summary = summarise_masks(overlaps(masks, [masks[0]] * 3))
    assert summary["miou"] == pytest.approx((1 + 0.9 + 0.5) / 3)
    assert summary["oiou"] == pytest.approx((10 + 9 + 5) / 30)
    assert [summary[f"pr@{at}"] for at in (0.5, 0.6, 0.9)] == pytest.approx([1, 2 / 3, 2 / 3])
    assert np.isnan(summarise_masks(overlaps([], []))["miou"])


def test_pairs_must_fit() -> None:
    with pytest.raises(ValueError, match="1 predicted and 0 true"):
        overlaps([empty_rle(SIZE)], [])
    with pytest.raises(ValueError, match=r"\[20, 30\] and \[30, 20\]"):
        overlaps([empty_rle(SIZE)], [empty_rle((30, 20))])


def test_box_scores() -> None:
    iou = box_iou_pairwise([[0, 0, 10, 10], [np.nan] * 4, [0, 0, 10, 5]], [[0, 0, 10, 10]] * 3)
    assert summarise_box_iou(iou) == pytest.approx({"acc@0.5": 2 / 3, "mean_box_iou": 0.5})
    assert np.isnan(summarise_box_iou([])["acc@0.5"])


def test_release_averages_batches() -> None:
    assert batch_averaged([1, 1, 0, 0, 1], [4, 1]) == 0.75
    with pytest.raises(ValueError, match="add up to 2, got 3"):
        batch_averaged([1, 0], [3])
