"""Scores of predicted boxes (METHOD.md section 7). One sample = one (referent, sentence) pair."""

import numpy as np
from numpy.typing import ArrayLike

THRESHOLD = 0.5


def summarise_box_iou(iou: ArrayLike) -> dict[str, float]:
    """{"acc@0.5", "mean_box_iou"} from IoUs (N,) of pairs of boxes; NaN for no pair. An IoU of exactly 0.5 counts as correct, as in the release."""
    values = np.asarray(iou, dtype=np.float64)
    if values.size == 0:
        return {"acc@0.5": float("nan"), "mean_box_iou": float("nan")}
    return {"acc@0.5": float((values >= THRESHOLD).mean()), "mean_box_iou": float(values.mean())}
