"""Fit a drawn contour to a known box (METHOD.md section 6)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.geometry.boxes import polygon_extent


def fit_extent_to_box(points_xy: ArrayLike, box_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Scale and shift the points (P, 2), each axis by itself, so that their extent is the box (4,) xyxy.

    Along an axis on which all points agree there is nothing to scale: they move to the middle of the box.
    No points stay no points.

    Raises:
        ValueError: the box is not finite or its corners are in the wrong order.
    """
    points = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    box = np.asarray(box_xyxy, dtype=np.float64).reshape(4)
    if not np.isfinite(box).all() or (box[2:] < box[:2]).any():
        raise ValueError(f"box must be finite with x1 <= x2 and y1 <= y2, got {box.tolist()}")
    if len(points) == 0:
        return points.copy()
    extent = polygon_extent(points)
    side = extent[2:] - extent[:2]
    flat = ~(side > 1e-9)
    share = np.where(flat, 0.5, (points - extent[:2]) / np.where(flat, 1.0, side))
    return np.asarray(box[:2] + share * (box[2:] - box[:2]))
