"""Whether another segmenter's mask may take the place of a pseudo label: it must fit the known box and what the model
drew. Each of the two catches what the other lets pass: another object in the same box, or a part of the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.geometry.boxes import box_iou_pairwise, polygon_extent
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import Rle, polygon_to_rle
from stages.metrics.segmentation import overlaps

REFINED = "refined"
NO_OUTLINE = "no outline to refine"
NOTHING_DRAWN = "nothing drawn"
OFF_BOX = "differs from the box"
OFF_OUTLINE = "differs from the outline"
REASONS = (REFINED, NO_OUTLINE, NOTHING_DRAWN, OFF_BOX, OFF_OUTLINE)
_SIMPLER_PX = 0.5  # points closer than this to the line through their neighbours are left out


@dataclass(frozen=True)
class Verdict:
    """What became of one pseudo label.

    Attributes:
        outline_xy: (P, 2) float32 of the best mask offered, original pixels; rle: that outline filled.
        box_iou, outline_iou: its overlap with the known box (extents) and with the old outline; NaN = nothing drawn.
        score: the segmenter's own estimate of the mask's IoU; NaN = nothing drawn.
    """

    reason: str
    outline_xy: NDArray[np.float32]
    rle: Rle | None
    box_iou: float
    outline_iou: float
    score: float


def nothing(reason: str) -> Verdict:
    """A pseudo label for which there is no mask to judge."""
    return Verdict(reason, np.zeros((0, 2), np.float32), None, np.nan, np.nan, np.nan)


def judge(
    masks: NDArray[np.bool_],
    scores: NDArray[np.floating],
    box_xyxy: NDArray[np.floating],
    old: Mapping[str, Any],
    *,
    least_box_iou: float,
    least_outline_iou: float,
) -> Verdict:
    """Take of the masks (C, H, W) the one that agrees best with both, and say whether that is enough.

    Agreement is measured on what would be stored: the outline of the largest part of the mask.
    """
    best: Verdict | None = None
    for mask, score in zip(masks, scores, strict=True):
        outline = outline_of(mask)
        if len(outline) < 3:
            continue
        rle = polygon_to_rle(outline, mask.shape)
        box_iou = float(box_iou_pairwise(polygon_extent(outline), box_xyxy))
        outline_iou = float(overlaps([rle], [old]).iou[0])
        if best is None or box_iou + outline_iou > best.box_iou + best.outline_iou:
            reason = OFF_OUTLINE if outline_iou < least_outline_iou else REFINED
            reason = OFF_BOX if box_iou < least_box_iou else reason
            best = Verdict(reason, outline, rle, box_iou, outline_iou, float(score))
    return best or nothing(NOTHING_DRAWN)


def outline_of(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Largest outer contour of a mask (H, W) without points that say nothing: (P, 2) float32, (0, 2) when empty."""
    contour = largest_outer_contour(mask)
    if len(contour) == 0:
        return contour
    simpler = cv2.approxPolyDP(contour[:, None], _SIMPLER_PX, True).reshape(-1, 2)
    return np.asarray(simpler if len(simpler) >= 3 else contour, np.float32)
