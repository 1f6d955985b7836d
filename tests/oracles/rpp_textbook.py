"""Resampling pseudo points as METHOD.md section 3 reads, one referent at a time in whole-image frames: the
oracle."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco


def select_and_resample(
    rle: dict[str, Any], box_xyxy: NDArray[Any], n: int, threshold: float = 0.1
) -> tuple[float, NDArray[Any] | None]:
    """Score of a predicted mask against its box and, below the threshold, n points along its outline."""
    height, width = rle["size"]
    mask = coco.decode(rle)
    box = np.zeros((height, width), dtype=np.float32)
    x1, y1, x2, y2 = (math.floor(v + 0.5) for v in box_xyxy)
    box[max(y1, 0) : y2, max(x1, 0) : x2] = 1
    score = 0.0
    for axis in (0, 1):
        a, g = mask.max(axis=axis).astype(np.float64), box.max(axis=axis).astype(np.float64)
        score += 1 - 2 * float((a * g).sum()) / (float((a**2).sum()) + float((g**2).sum()) + 1e-5)
    if score >= threshold:
        return score, None
    contours, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    ring = max(contours, key=cv2.contourArea)[:, 0].astype(np.float64)
    return score, np.array(walk(ring.tolist(), n))


def walk(ring: list[list[float]], n: int) -> list[list[float]]:
    """n points at equal distances along a closed ring, found by walking it segment by segment."""
    lengths = [math.dist(ring[i], ring[(i + 1) % len(ring)]) for i in range(len(ring))]
    step, points, segment, passed = sum(lengths) / n, [], 0, 0.0
    for k in range(n):
        while passed + lengths[segment] < k * step and segment < len(ring) - 1:
            passed += lengths[segment]
            segment += 1
        share = (k * step - passed) / lengths[segment] if lengths[segment] else 0.0
        start, stop = ring[segment], ring[(segment + 1) % len(ring)]
        points.append([start[0] + share * (stop[0] - start[0]), start[1] + share * (stop[1] - start[1])])
    return points
