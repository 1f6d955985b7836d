"""When another segmenter's mask is taken, and its outline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.geometry.rasterise import box_to_rle, ellipse_to_rle, polygon_to_rle, rle_to_mask
from stages.metrics.segmentation import overlaps
from stages.refinement.verdict import Rule, contour_of, judge, without_specks

SIZE = (60, 80)
BOX = np.array([10.0, 12.0, 40.0, 48.0])


def box_mask(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return rle_to_mask(box_to_rle([x1, y1, x2, y2], SIZE))


def ellipse(box: Any = BOX) -> dict[str, Any]:
    return ellipse_to_rle(box, SIZE)


@pytest.mark.parametrize(
    ("masks", "reason", "best"),
    [
        ([rle_to_mask(ellipse())], "refined", 0),
        ([np.zeros(SIZE, bool)], "nothing drawn", None),
        ([box_mask(10, 12, 40, 20)], "differs from the box", 0),  # a part of the object
        ([box_mask(0, 0, 80, 60)], "differs from the box", 0),  # the ground
        (
            [box_mask(10, 12, 40, 15) | box_mask(10, 12, 13, 48)],
            "differs from the outline",
            0,
        ),  # round the object
        ([box_mask(50, 12, 70, 48), rle_to_mask(ellipse()), np.zeros(SIZE, bool)], "refined", 1),
        ([rle_to_mask(ellipse()) | box_mask(70, 2, 72, 4)], "refined", 0),  # a speck elsewhere does not count
    ],
)
def test_a_mask_must_agree_with_box_and_outline(
    masks: list[np.ndarray], reason: str, best: int | None
) -> None:
    scores = np.arange(len(masks)) / 10
    verdict = judge(np.array(masks), scores, BOX, ellipse(), Rule(0.8, 0.5, whole=False))
    assert verdict.reason == reason
    if best is None:
        assert np.isnan([verdict.box_iou, verdict.contour_iou, verdict.score]).all()
        assert verdict.rle is None and len(verdict.contour_xy) == 0
    else:
        assert verdict.score == scores[best]
        assert verdict.rle is not None
        drawn = polygon_to_rle(verdict.contour_xy, SIZE)
        assert verdict.contour_iou == pytest.approx(overlaps([drawn], [ellipse()]).iou[0])


def test_thresholds_are_reached_at_equality() -> None:
    mask = box_mask(10, 12, 40, 48)
    exact = Rule(1.0, 1.0, whole=False)
    old = polygon_to_rle(contour_of(mask), SIZE)
    assert judge(mask[None], np.ones(1), BOX, old, exact).reason == "refined"
    assert (
        judge(mask[None], np.ones(1), BOX + np.array([0, 0, 1, 0]), old, exact).reason
        == "differs from the box"
    )
    assert judge(mask[None], np.ones(1), BOX, ellipse(), exact).reason == "differs from the outline"


def test_outlines_have_few_points_and_lose_little() -> None:
    mask = rle_to_mask(ellipse())
    outline = contour_of(mask)
    assert 8 <= len(outline) <= 50
    assert overlaps([polygon_to_rle(outline, SIZE)], [ellipse()]).iou[0] > 0.95
    one = np.zeros(SIZE, bool)
    one[3, 4] = True
    assert len(contour_of(one)) >= 3
    assert contour_of(np.zeros(SIZE, bool)).shape == (0, 2)


def test_whole_masks_are_cut_at_the_box_and_keep_their_parts() -> None:
    two = box_mask(10, 12, 40, 25) | box_mask(10, 30, 40, 48)
    verdict = judge([two | box_mask(40, 0, 80, 60)], np.ones(1), BOX, ellipse(), Rule(0.8, 0.0, whole=True))
    assert verdict.reason == "refined" and verdict.box_iou == 1.0
    assert verdict.rle is not None and np.array_equal(rle_to_mask(verdict.rle), two)
    largest = polygon_to_rle(verdict.contour_xy, SIZE)
    assert overlaps([largest], [box_to_rle([10, 30, 40, 48], SIZE)]).iou[0] > 0.95
    speck = two.copy()
    speck[27, 12:14] = True
    assert np.array_equal(without_specks(speck), two)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.9, 0.9, 0.9], 1),  # equal: projections decide
        ([0.99, 0.9, 0.9], 1),  # a little surer of a part: projections decide
        ([0.9, 0.7, 0.95], 2),  # both fill the box's sides: the segmenter decides
        ([np.nan, np.nan, np.nan], 1),
    ],
)
def test_candidates_are_ranked_by_score_and_projections(scores: list[float], best: int) -> None:
    part, good = box_mask(10, 12, 30, 40), rle_to_mask(ellipse())
    masks = [part, good, box_mask(10, 12, 40, 48)]
    verdict = judge(masks, np.array(scores), BOX, ellipse(), Rule(0.6, 0.0, whole=True))
    assert verdict.rle is not None and np.array_equal(rle_to_mask(verdict.rle), masks[best])


def test_a_predicted_contour_chooses_between_objects_of_one_box() -> None:
    upper = (
        box_mask(10, 12, 40, 15)
        | box_mask(10, 12, 13, 48)
        | box_mask(37, 12, 40, 48)
        | box_mask(10, 45, 40, 48)
    )
    lower = rle_to_mask(ellipse())
    for masks, best in (([upper, lower], 1), ([lower, upper], 0)):
        verdict = judge(masks, np.array([0.9, 0.9]), BOX, ellipse(), Rule(0.8, 0.5, whole=True))
        assert verdict.reason == "refined"
        assert verdict.rle is not None and np.array_equal(rle_to_mask(verdict.rle), masks[best])
