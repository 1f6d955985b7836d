"""How much of a model's cross-attention lies on the referent, and how far from the point that is being predicted.

The supplement's figure 2 shows pictures of this; these are the numbers of a whole split.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Attended:
    """One expression, means over the steps that predict its contour; NaN where no contour was predicted.

    Attributes:
        in_mask, in_box: share of the attention on image cells that lies inside the true mask and the true box, in
            [0, 1]; a cell counts by the share of its pixels that lie inside.
        distance: mean distance of the attention from the predicted point, in memory cells; NaN for a detector, whose
            one query predicts no points.
        mask_share, box_share: what attention spread evenly over the image would score.
    """

    in_mask: float
    in_box: float
    distance: float
    mask_share: float
    box_share: float


def attended(
    maps: NDArray[np.floating],
    steps: NDArray[np.integer],
    points_xy: NDArray[np.floating],
    mask: NDArray[np.bool_],
    box_xyxy: NDArray[np.floating],
    cell_px: float,
    memory_cell_px: float,
) -> Attended:
    """Measure one expression.

    Args:
        maps: (K, h, w) attention of K steps over the cells of the image; one map alone belongs to the whole contour.
        steps: (k,) the step that predicts each point's x; the next one predicts its y.
        points_xy: (k, 2) those points, original pixels.
        mask: (H, W); box_xyxy: (4,): ground truth, original pixels.
        cell_px: side of a map's cell; memory_cell_px: of a memory cell, the unit of the distance; original pixels.
    """
    once = len(maps) == 1
    chosen = maps if once else maps[np.concatenate([steps, steps + 1])] if len(steps) else maps[:0]
    total = chosen.sum(axis=(1, 2))
    chosen, owner = chosen[total > 0], np.tile(np.arange(len(steps)), 2)
    filled = np.zeros(mask.shape, np.bool_)
    x0, y0, x1, y1 = np.round(box_xyxy).astype(int)
    filled[max(y0, 0) : y1, max(x0, 0) : x1] = True
    shares = float(mask.mean()), float(filled.mean())
    if not len(chosen):
        return Attended(np.nan, np.nan, np.nan, *shares)
    weights = chosen / chosen.sum(axis=(1, 2), keepdims=True)
    inside = [
        float((weights * cell_cover(truth, chosen.shape[1:], cell_px)).sum(axis=(1, 2)).mean())
        for truth in (mask, filled)
    ]
    distance = np.nan
    if not once:
        points = points_xy[owner[total > 0]] / memory_cell_px
        y, x = ((np.arange(n) + 0.5) * cell_px / memory_cell_px for n in chosen.shape[1:])
        away = np.hypot(x[None, None] - points[:, 0, None, None], y[None, :, None] - points[:, 1, None, None])
        distance = float((weights * away).sum(axis=(1, 2)).mean())
    return Attended(inside[0], inside[1], distance, *shares)


def cell_cover(mask: NDArray[np.bool_], grid_hw: tuple[int, ...], cell_px: float) -> NDArray[np.float64]:
    """(H, W) mask -> (h, w) share of each cell's pixels inside it; cells start at the top-left corner."""
    table = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    y, x = (
        np.minimum(np.round(np.arange(n + 1) * cell_px).astype(int), size)
        for n, size in zip(grid_hw, mask.shape, strict=True)
    )
    counts = (
        table[y[1:]][:, x[1:]] - table[y[1:]][:, x[:-1]] - table[y[:-1]][:, x[1:]] + table[y[:-1]][:, x[:-1]]
    )
    area = np.diff(y)[:, None] * np.diff(x)[None]
    return np.asarray(counts / np.maximum(area, 1), np.float64)
