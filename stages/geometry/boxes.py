"""Axis-aligned boxes: conversion, clipping and overlap. Boxes are (..., 4) float, xyxy, pixels (METHOD.md
section 1)."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


def xywh_to_xyxy(boxes_xywh: ArrayLike) -> Float:
    """(..., 4) boxes as corner and size -> two corners. Returns a new array: the input is never changed in
    place."""
    boxes = np.array(boxes_xywh, dtype=np.float64)
    boxes[..., 2:] += boxes[..., :2]
    return boxes


def xyxy_to_xywh(boxes_xyxy: ArrayLike) -> Float:
    """(..., 4) boxes as two corners -> corner and size. Returns a new array."""
    boxes = np.array(boxes_xyxy, dtype=np.float64)
    boxes[..., 2:] -= boxes[..., :2]
    return boxes


def clip_boxes(boxes_xyxy: ArrayLike, size_hw: ArrayLike) -> Float:
    """(..., 4) boxes cut to the image. `size_hw` is (2,) or (..., 2); NaN stays NaN."""
    boxes = np.array(boxes_xyxy, dtype=np.float64)
    size = np.asarray(size_hw, dtype=np.float64)
    limits = np.stack([size[..., 1], size[..., 0], size[..., 1], size[..., 0]], axis=-1)
    return np.minimum(np.maximum(boxes, 0.0), limits)


def box_area(boxes_xyxy: ArrayLike) -> Float:
    """(..., 4) boxes -> (...) area in square pixels; an inverted box has area 0, a NaN box NaN."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def box_iou_pairwise(a_xyxy: ArrayLike, b_xyxy: ArrayLike) -> Float:
    """IoU of box i of `a` with box i of `b`: (N, 4), (N, 4) -> (N,) float64 in [0, 1].

    A box with NaN (no prediction) or without area overlaps nothing: its IoU is 0.
    """
    a = np.asarray(a_xyxy, dtype=np.float64)
    b = np.asarray(b_xyxy, dtype=np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    sides = np.maximum(sides, 0.0)
    intersection = sides[..., 0] * sides[..., 1]
    union = box_area(a) + box_area(b) - intersection
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = intersection / union
    return np.asarray(np.where(union > 0, iou, 0.0))


def reads_as_shares(values: Iterable[float]) -> bool:
    """Whether four numbers (in any order of a box) are shares of the picture: none is above 1, one is no whole number.

    As pixels they would be a box within the first pixel.
    """
    box = list(values)
    return all(0 <= value <= 1 for value in box) and any(value % 1 for value in box)


def polygon_extent(points_xy: ArrayLike) -> Float:
    """Smallest box round the points (P, 2) -> (4,) xyxy; NaN for no points."""
    points = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    if len(points) == 0:
        return np.full(4, np.nan)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def mask_extent(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(H, W) -> (4,) xyxy, the box round the pixels of a mask; NaN for none."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(xs):
        return np.full(4, np.nan)
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float64)


def ellipse_in(box_xyxy: ArrayLike, n: int) -> NDArray[np.float32]:
    """The ellipse that touches the box (4,) as a ring (n, 2) float32, clockwise on the screen from its top."""
    x1, y1, x2, y2 = np.asarray(box_xyxy, dtype=np.float64)
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    unit = np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    return ((x1 + x2, y1 + y2) + unit * (x2 - x1, y2 - y1)).astype(np.float32) / 2


def pixel_interval(
    low: ArrayLike, high: ArrayLike, length: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels [start, stop) whose centres lie in (low, high], cut to [0, length): the rule of the COCO
    rasteriser.

    Works elementwise on arrays; an empty interval has stop == start. NaN gives an empty interval.
    """
    length = np.asarray(length, dtype=np.float64)
    bounds = [np.floor(np.nan_to_num(np.asarray(v, dtype=np.float64)) + 0.5) for v in (low, high)]
    start, stop = (np.minimum(np.maximum(b, 0.0), length).astype(np.int64) for b in bounds)
    missing = np.isnan(np.asarray(low, dtype=np.float64)) | np.isnan(np.asarray(high, dtype=np.float64))
    return start, np.where(missing, start, np.maximum(start, stop))
