"""Which of a segmenter's masks may take the place of a pseudo label: it must fit the known box, and what a model predicted
before. Each of the two catches what the other lets pass: another object in the same box, or a part of the right one.

Several candidates are ranked by the segmenter's own estimate and by how their projections agree with the box, the
paper's test of a mask without a mask (METHOD.md section 3, RPP).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.geometry.boxes import box_iou_pairwise, mask_extent, polygon_extent
from stages.geometry.contours import largest_outer_contour
from stages.geometry.projection import projection_score
from stages.geometry.rasterise import Rle, mask_to_rle, polygon_to_rle, rle_to_mask
from stages.metrics.segmentation import overlaps
from stages.refinement.segmenter import cut_to_box

REFINED = "refined"  # the reasons are stored in masks.h5 as they stand here
NO_CONTOUR = "no outline to refine"
NOTHING_DRAWN = "nothing drawn"
OFF_BOX = "differs from the box"
OFF_CONTOUR = "differs from the outline"
REASONS = (REFINED, NO_CONTOUR, NOTHING_DRAWN, OFF_BOX, OFF_CONTOUR)
# On 217 objects of COCO with a known box, weights of 2 to 8 choose equally well.
PROJECTION_WEIGHT = 4.0
_SIMPLER_PX = 0.5  # points closer than this to the line through their neighbours are left out
_SPECK = 0.02  # of the largest part


@dataclass(frozen=True)
class Verdict:
    """What became of one pseudo label.

    Attributes:
        contour_xy: (P, 2) float32, outer contour of the largest part of the best mask offered, original pixels.
        rle: that mask: all its parts, or the contour filled, see `judge`.
        box_iou, contour_iou: its overlap with the known box (extents) and with the old mask; NaN = nothing drawn.
        score: the segmenter's own estimate of the mask's IoU; NaN = nothing drawn.
    """

    reason: str
    contour_xy: NDArray[np.float32]
    rle: Rle | None
    box_iou: float
    contour_iou: float
    score: float


@dataclass(frozen=True)
class Rule:
    """When a mask is taken.

    Attributes:
        least_box_iou: of the extents of mask and box.
        least_contour_iou: of the mask and the one it replaces; 0 = what is replaced says nothing about the object.
        whole: masks are cut at the box and keep all parts but specks; else the contour of the largest part is the mask.
    """

    least_box_iou: float
    least_contour_iou: float
    whole: bool


def nothing(reason: str) -> Verdict:
    """A pseudo label for which there is no mask to judge."""
    return Verdict(reason, np.zeros((0, 2), np.float32), None, np.nan, np.nan, np.nan)


def judge(
    masks: Sequence[NDArray[np.bool_]] | NDArray[np.bool_],
    scores: NDArray[np.floating],
    box_xyxy: NDArray[np.floating],
    old: Mapping[str, Any],
    rule: Rule,
) -> Verdict:
    """Take the best of the masks (C, H, W), and say whether it is good enough.

    Agreement is measured on what would be stored.
    """
    best, best_rank = nothing(NOTHING_DRAWN), -np.inf
    for offered, score in zip(masks, scores, strict=True):
        # specks near the sides count here: a segmenter that leaves them there has understood the box
        shown = cut_to_box(offered, box_xyxy) if rule.whole else offered
        mask = without_specks(shown) if rule.whole else offered
        contour = contour_of(mask)
        if len(contour) < 3:
            if offered.any() and best_rank == -np.inf:
                best = nothing(OFF_BOX)  # all of it
            continue
        rle = mask_to_rle(mask) if rule.whole else polygon_to_rle(contour, mask.shape)
        extent = mask_extent(mask) if rule.whole else polygon_extent(contour)
        box_iou = float(box_iou_pairwise(extent, box_xyxy))
        contour_iou = float(overlaps([rle], [old]).iou[0])
        rank = 0.0
        if len(masks) > 1:
            disagreement = projection_score(shown if rule.whole else rle_to_mask(rle), box_xyxy)
            rank = float(np.nan_to_num(score)) - PROJECTION_WEIGHT * disagreement
            rank += contour_iou if rule.least_contour_iou else 0.0
        if rank > best_rank:
            reason = OFF_CONTOUR if contour_iou < rule.least_contour_iou else REFINED
            reason = OFF_BOX if box_iou < rule.least_box_iou else reason
            best, best_rank = Verdict(reason, contour, rle, box_iou, contour_iou, float(score)), rank
    return best


def without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (H, W) without parts that are tiny beside its largest one."""
    count, label, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    area = stats[:, cv2.CC_STAT_AREA]
    kept = area >= _SPECK * area[1:].max()
    kept[0] = False
    return np.asarray(kept[label])


def contour_of(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Largest outer contour of a mask (H, W) without points that say nothing: (P, 2) float32, (0, 2) when empty."""
    contour = largest_outer_contour(mask)
    if len(contour) == 0:
        return contour
    simpler = cv2.approxPolyDP(contour[:, None], _SIMPLER_PX, True).reshape(-1, 2)
    return np.asarray(simpler if len(simpler) >= 3 else contour, np.float32)
