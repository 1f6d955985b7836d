"""Scores of predicted masks (METHOD.md section 7), straight from run lengths.

N masks are compared with N masks. pycocotools' matrix routine costs mostly its set-up for short lists and
N^2 overlaps for long ones, so blocks of a few pairs are compared and the diagonals read: exact, and an
order of magnitude faster than matrices of 128.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
_BLOCK = 3


@dataclass(frozen=True)
class Overlaps:
    """Overlap of N pairs of masks."""

    intersection: NDArray[np.int64]  # (N,) pixels
    union: NDArray[np.int64]  # (N,) pixels
    iou: NDArray[np.float64]  # (N,) in [0, 1]; 1 for two empty masks, 0 for one

    def __len__(self) -> int:
        return len(self.iou)


def overlaps(
    predicted: Sequence[Mapping[str, Any]],
    true: Sequence[Mapping[str, Any]],
    *,
    crowd: ArrayLike | None = None,
) -> Overlaps:
    """Compare predicted[i] with true[i], run-length masks of one size a pair.

    With `crowd` (N,) flags, a flagged pair is scored as the release scores masks of several polygons:
    intersection / predicted area (the union is then the predicted area). Without it every pair has its
    plain IoU.

    Raises:
        ValueError: the lists differ in length, or a pair in its size.
    """
    if len(predicted) != len(true):
        raise ValueError(f"masks must come in pairs, got {len(predicted)} predicted and {len(true)} true")
    count = len(predicted)
    if count == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Overlaps(nothing, nothing, np.zeros(0))
    for a, b in zip(predicted, true, strict=True):
        if list(a["size"]) != list(b["size"]):
            raise ValueError(
                f"masks of a pair must have one size, got {list(a['size'])} and {list(b['size'])}"
            )
    flags = np.zeros(count, dtype=bool) if crowd is None else np.asarray(crowd, dtype=bool)
    predicted, true = list(predicted), list(true)
    area_a, area_b = _areas(predicted), _areas(true)
    ratio = np.nan_to_num(_diagonal_iou(predicted, true))
    total = area_a + area_b
    # IoU = i / (a + b - i), so i = IoU (a + b) / (1 + IoU): a whole number, far above the rounding error
    intersection = np.rint(ratio * total / (1.0 + ratio)).astype(np.int64)
    union = np.where(flags, area_a, total - intersection)
    iou = np.where(union > 0, intersection / np.maximum(union, 1), np.where(total > 0, 0.0, 1.0))
    return Overlaps(intersection, union, iou)


def _areas(rles: Sequence[Any]) -> NDArray[np.int64]:
    # pycocotools 2.0.11 fails on more than 255 masks at once
    parts = [coco.area(rles[begin : begin + 128]) for begin in range(0, len(rles), 128)]
    return np.concatenate(parts).astype(np.int64)


def _diagonal_iou(predicted: Sequence[Any], true: Sequence[Any]) -> NDArray[np.float64]:
    zeros = [0] * _BLOCK
    parts = []
    for begin in range(0, len(predicted), _BLOCK):
        a, b = predicted[begin : begin + _BLOCK], true[begin : begin + _BLOCK]
        parts.append(np.diagonal(coco.iou(a, b, zeros[: len(b)])))
    return np.concatenate(parts)


def summarise_masks(scores: Overlaps) -> dict[str, float]:
    """{"miou", "oiou", "pr@0.5" ... "pr@0.9"} in the unit interval, per sample; NaN for no sample.

    mIoU is the mean of the samples' IoUs, oIoU the summed intersections over the summed unions, Pr@X the
    share of samples with IoU >= X.
    """
    names = ["miou", "oiou", *(f"pr@{at}" for at in PRECISION_AT)]
    if len(scores) == 0:
        return dict.fromkeys(names, float("nan"))
    union = int(scores.union.sum())
    overall = int(scores.intersection.sum()) / union if union else 1.0
    precision = [float((scores.iou >= at).mean()) for at in PRECISION_AT]
    return dict(zip(names, [float(scores.iou.mean()), overall, *precision], strict=True))
