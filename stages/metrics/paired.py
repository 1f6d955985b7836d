"""How sure a difference between two models is that answered the same expressions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SampleScores:
    """Scores of the expressions of one split, in the order of the file.

    Attributes:
        sentences, referents: (S,) int64, rows of the dataset.
        iou: (S,) float64, of the masks; NaN where the referent has none.
    """

    sentences: NDArray[Any]
    referents: NDArray[Any]
    iou: NDArray[Any]


def paired_difference(scores: SampleScores, base: SampleScores) -> tuple[float, float | None] | None:
    """Mean over the expressions of the IoU minus that of `base`, and its standard error.

    Expressions of one referent are no independent samples, so the error is that of sums over referents
    (cluster-robust, with the correction G / (G - 1) for G referents; None for a single one). It tells how much the
    choice of expressions matters, not how much another seed of the training would. None without common masks, or where
    the two did not answer the same expressions.
    """
    if not np.array_equal(scores.sentences, base.sentences):
        return None
    difference = scores.iou - base.iou
    masks = np.isfinite(difference)
    n = int(masks.sum())
    if not n:
        return None
    mean = float(difference[masks].mean())
    _, of_referent = np.unique(scores.referents[masks], return_inverse=True)
    sums = np.bincount(of_referent, difference[masks] - mean)
    if (groups := len(sums)) == 1:
        return mean, None
    return mean, float(np.sqrt(groups / (groups - 1) * np.square(sums).sum()) / n)
