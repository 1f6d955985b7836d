"""What a model predicted, refined by a segmenter: the predicted mask is the start, the known or predicted box the prompt.

A model that answers with boxes only gets the ellipse in its box as the start, and keeps it where the segmenter's masks
are not believed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.geometry.rasterise import Rle, ellipse_to_rle, rle_area, rle_to_mask
from stages.refinement.segmenter import Segmenter
from stages.refinement.verdict import NO_CONTOUR, Rule, Verdict, judge, nothing
from stages.reporter import Reporter
from stages.world import ALONE, World


def refine_answers(
    picture: Callable[[int], NDArray[np.uint8]],
    picture_of: NDArray[np.int64],
    boxes_xyxy: NDArray[np.floating[Any]],
    masks: Sequence[Rle],
    segmenter: Segmenter,
    *,
    promptable: bool,
    by_box_alone: NDArray[np.bool_],
    reporter: Reporter,
    world: World = ALONE,
) -> list[Verdict]:
    """What became of each of N masks; a picture is encoded once. Of several processes, the first knows all of them.

    picture_of (N,), boxes_xyxy (N, 4) px, NaN = none. promptable: the segmenter is none of colours alone; by_box_alone
    (N,): the box is known, or the mask is only the ellipse in it, so that a promptable segmenter need not agree with the
    mask (the same limits as in refine-masks).
    """
    strict = Rule(least_box_iou=0.8, least_contour_iou=0.5, whole=promptable)
    box_alone = Rule(least_box_iou=0.6, least_contour_iou=0.0, whole=promptable)
    verdicts = [nothing(NO_CONTOUR) for _ in masks]
    pictures = world.share(np.unique(picture_of).tolist())
    with reporter.progress("refine", len(masks) // world.size, unit="mask") as task:
        for image in pictures:
            here = np.flatnonzero(picture_of == image).tolist()
            asked = [i for i in here if np.isfinite(boxes_xyxy[i]).all() and rle_area(masks[i]) > 0]
            if asked:
                encoded = segmenter.encode(picture(image))
                starts = np.stack([rle_to_mask(masks[i]) for i in asked])
                answers = segmenter.segment(encoded, boxes_xyxy[asked], starts)
                for i, offered, scores in zip(asked, *answers, strict=True):
                    rule = box_alone if promptable and by_box_alone[i] else strict
                    verdicts[i] = judge(offered, scores, boxes_xyxy[i], masks[i], rule)
            task.advance(len(here))
    mine = np.flatnonzero(np.isin(picture_of, pictures)).tolist()
    for part in world.gather({i: verdicts[i] for i in mine}):
        for i, verdict in part.items():
            verdicts[i] = verdict
    return verdicts


def ellipses(boxes_xyxy: NDArray[np.floating[Any]], sizes_hw: Sequence[tuple[int, int]]) -> list[Rle]:
    """The mask of each box (N, 4) that has none: the ellipse in it; of no box, the empty mask."""
    boxes = np.where(np.isfinite(boxes_xyxy), boxes_xyxy, 0)
    return [ellipse_to_rle(box, size) for box, size in zip(boxes, sizes_hw, strict=True)]
