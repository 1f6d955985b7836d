"""Masks -> closed polygons along the pixel edges, exact: filled by the COCO rule they are the mask again.

contours.py gives the one smooth contour that a model learns from; here every part and every hole has its polygon, with
a point only where the edge turns. Parts touch at corners at most, so pixels that meet at a corner are two parts.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (P, 2) xy, outer-corner coordinates
_Vertex = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Part:
    """One connected part of a mask: its outer polygon (clockwise on the screen) and its holes (counter-clockwise)."""

    outer: Polygon
    holes: list[Polygon]


def mask_parts(mask: NDArray[Any], tolerance_px: float = 0.0) -> list[Part]:
    """The parts of a mask (H, W) from top to bottom; none for an empty one.

    `tolerance_px`: how far a polygon may leave the edge to have fewer points; with 0 it is exact.
    """
    bits = np.asarray(mask, dtype=bool)
    rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    window = bits[top : rows[-1] + 1, left : columns[-1] + 1]
    _, labels = cv2.connectedComponents(window.view(np.uint8), connectivity=4)
    parts: dict[int, Part] = {}
    holes: list[tuple[int, Polygon]] = []
    for ring in _rings(window):
        # The first edge runs to the right or to the left, with the part on its right-hand side
        (x1, y1), (x2, _) = ring[0], ring[1]
        label = int(labels[y1, x1] if x2 > x1 else labels[y1 - 1, x2])
        points = _simpler(np.array(ring, np.float64) + np.array([left, top]), tolerance_px)
        if _area(ring) > 0:
            parts[label] = Part(points, [])
        elif len(points) >= 3:
            holes.append((label, points))
    for label, points in holes:
        parts[label].holes.append(points)
    return sorted(parts.values(), key=lambda part: (part.outer[:, 1].min(), part.outer[:, 0].min()))


def one_polygon(parts: list[Part]) -> Polygon:
    """All parts and holes as one closed polygon, joined by bridges of no width: for formats that have only that."""
    joined: Polygon = np.zeros((0, 2))
    for ring in [ring for part in parts for ring in (part.outer, *part.holes)]:
        if not len(joined):
            joined = ring
            continue
        distance = np.abs(joined[:, None] - ring[None]).sum(axis=2)
        here, there = np.unravel_index(int(distance.argmin()), distance.shape)
        around = np.concatenate([np.roll(ring, -int(there), axis=0), ring[there : there + 1]])
        joined = np.concatenate([joined[: here + 1], around, joined[here:]])
    return joined


def _rings(bits: NDArray[np.bool_]) -> list[list[_Vertex]]:
    """Closed walks along the edges with the inside on the right; each starts with a horizontal edge."""
    padded = np.pad(bits, 1)
    inside = padded[1:-1, 1:-1]
    east = _runs(inside & ~padded[:-2, 1:-1])  # upper edges, row by row: (row, start, stop)
    west = _runs(inside & ~padded[2:, 1:-1])
    south = _runs((inside & ~padded[1:-1, 2:]).T)
    north = _runs((inside & ~padded[1:-1, :-2]).T)
    horizontal: dict[tuple[_Vertex, bool], _Vertex] = {}  # (start, towards the right?) -> stop
    vertical: dict[tuple[_Vertex, bool], _Vertex] = {}  # (start, downwards?) -> stop
    for y, x1, x2 in east:
        horizontal[(x1, y), True] = (x2, y)
    for y, x1, x2 in west:
        horizontal[(x2, y + 1), False] = (x1, y + 1)
    for x, y1, y2 in south:
        vertical[(x + 1, y1), True] = (x + 1, y2)
    for x, y1, y2 in north:
        vertical[(x, y2), False] = (x, y1)
    rings = []
    while horizontal:
        start, rightwards = next(iter(horizontal))
        ring, at = [], start
        while True:
            stop = horizontal.pop((at, rightwards))
            ring.append(at)
            # where two parts meet at a corner, the turn to the right stays with the own part
            down = rightwards if (stop, rightwards) in vertical else not rightwards
            turn = vertical.pop((stop, down))
            ring.append(stop)
            rightwards = not down if (turn, not down) in horizontal else down
            if turn == start and (turn, rightwards) not in horizontal:
                break
            at = turn
        rings.append(ring)
    return rings


def _runs(edges: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(row, start, stop) of neighbouring edges in each row."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    return list(zip(rows.tolist(), starts.tolist(), np.nonzero(steps == -1)[1].tolist(), strict=True))


def _area(ring: list[_Vertex]) -> int:
    """Twice the area, positive for clockwise on the screen."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))


def _simpler(ring: Polygon, tolerance_px: float) -> Polygon:
    if tolerance_px <= 0:
        return ring
    fewer = cv2.approxPolyDP(ring.astype(np.float32).reshape(-1, 1, 2), tolerance_px, closed=True)
    return ring if len(fewer) < 3 else np.asarray(fewer, np.float64).reshape(-1, 2)
