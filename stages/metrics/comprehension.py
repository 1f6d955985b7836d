"""Scores of predicted boxes (METHOD.md section 7). One sample = one (referent, sentence) pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from stages.geometry.boxes import box_iou_pairwise

THRESHOLD = 0.5


def box_scores(predicted_xyxy: ArrayLike, true_xyxy: ArrayLike) -> dict[str, float]:
    """{"acc@0.5", "mean_box_iou"} of N pairs of boxes (N, 4), in the unit interval; NaN for no pair.

    A box of NaN is a missing prediction and counts as IoU 0.
    """
    return summarise_box_iou(box_iou_pairwise(predicted_xyxy, true_xyxy))


def summarise_box_iou(iou: ArrayLike) -> dict[str, float]:
    """The same from IoUs (N,). An IoU of exactly 0.5 counts as correct, as in the release."""
    values = np.asarray(iou, dtype=np.float64)
    if values.size == 0:
        return {"acc@0.5": float("nan"), "mean_box_iou": float("nan")}
    return {"acc@0.5": float((values >= THRESHOLD).mean()), "mean_box_iou": float(values.mean())}


def batch_averaged(correct: ArrayLike, batch_sizes: ArrayLike) -> float:
    """The release's Acc@0.5 and Pr@X: the mean of the batches' means, wrong when the last batch is smaller.

    `correct` (N,) is 0/1 a sample in reading order; the sizes add up to N.
    """
    values = np.asarray(correct, dtype=np.float64)
    ends = np.cumsum(np.asarray(batch_sizes, dtype=np.int64))
    if len(ends) == 0 or ends[-1] != len(values):
        raise ValueError(f"batch sizes must add up to {len(values)}, got {int(ends[-1]) if len(ends) else 0}")
    return float(np.mean([part.mean() for part in np.split(values, ends[:-1])]))
