"""When another segmenter's mask is taken, and its outline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.geometry.rasterise import box_to_rle, ellipse_to_rle, polygon_to_rle, rle_to_mask
from stages.metrics.refinement import judge, outline_of
from stages.metrics.segmentation import overlaps

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
    verdict = judge(np.array(masks), scores, BOX, ellipse(), least_box_iou=0.8, least_outline_iou=0.5)
    assert verdict.reason == reason
    if best is None:
        assert np.isnan([verdict.box_iou, verdict.outline_iou, verdict.score]).all()
        assert verdict.rle is None and len(verdict.outline_xy) == 0
    else:
        assert verdict.score == scores[best]
        assert verdict.rle is not None
        drawn = polygon_to_rle(verdict.outline_xy, SIZE)
        assert verdict.outline_iou == pytest.approx(overlaps([drawn], [ellipse()]).iou[0])


def test_thresholds_are_reached_at_equality() -> None:
    mask = box_mask(10, 12, 40, 48)
    exact = {"least_box_iou": 1.0, "least_outline_iou": 1.0}
    old = polygon_to_rle(outline_of(mask), SIZE)
    assert judge(mask[None], np.ones(1), BOX, old, **exact).reason == "refined"
    assert (
        judge(mask[None], np.ones(1), BOX + np.array([0, 0, 1, 0]), old, **exact).reason
        == "differs from the box"
    )
    assert judge(mask[None], np.ones(1), BOX, ellipse(), **exact).reason == "differs from the outline"


def test_outlines_have_few_points_and_lose_little() -> None:
    mask = rle_to_mask(ellipse())
    outline = outline_of(mask)
    assert 8 <= len(outline) <= 50
    assert overlaps([polygon_to_rle(outline, SIZE)], [ellipse()]).iou[0] > 0.95
    one = np.zeros(SIZE, bool)
    one[3, 4] = True
    assert len(outline_of(one)) >= 3
    assert outline_of(np.zeros(SIZE, bool)).shape == (0, 2)
