"""Polygons as annotation tools write them -> rings of points, one form for all. Points are xy, pixels.

One polygon may be flat `[x, y, x, y, ...]` (COCO), pairs `[[x, y], ...]` (LabelMe, GeoJSON), pairs one level deeper
`[[[x, y]], ...]` (OpenCV's contours), `[{"x": x, "y": y}, ...]` (Roboflow, Labelbox), `{"points": ...}` (a shape of
LabelMe) or `{"all_points_x": [...], "all_points_y": [...]}` (VIA); lists of these may be nested.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import ArtifactError

_DEEPEST = 6  # lists in lists; a GeoJSON MultiPolygon has four
_POLYGONS = (None, "", "polygon")  # shape types of LabelMe whose points are a polygon

_PLAIN = frozenset({int, float})  # what nearly every polygon is made of

Ring = NDArray[np.float64]  # (P, 2)


def polygon_rings(polygons: Any) -> list[Ring]:
    """The rings of a polygon, or of any nesting of polygons, each (P, 2) float64; they may have fewer than 3 points.

    Raises:
        ArtifactError: another form, an odd number of coordinates, or one that is no finite number.
    """
    return _rings(polygons, _DEEPEST)


def _rings(node: Any, depth: int) -> list[Ring]:
    if isinstance(node, np.ndarray):
        node = node.tolist()
    if isinstance(node, Mapping):
        return _rings(_points_of(node), depth - 1)
    if not _is_list(node) or depth < 0:
        raise ArtifactError(f"polygon must be a list of coordinates, got {str(node)[:60]}")
    if not node:
        return []
    if _PLAIN.issuperset(map(type, node)) or all(map(_is_number, node)):
        return [_ring(node)]
    if all(_is_list(child) and len(child) == 1 and _is_point(child[0]) for child in node):  # OpenCV
        node = [child[0] for child in node]
    if all(map(_is_point, node)):
        pairs = [(p["x"], p["y"]) if isinstance(p, Mapping) else p for p in node]
        return [_ring([value for pair in pairs for value in pair])]
    return [ring for child in node for ring in _rings(child, depth - 1)]


def _points_of(shape: Mapping[str, Any]) -> Any:
    """The points of a polygon that is written as an object."""
    if "points" in shape:
        kind = shape.get("shape_type", shape.get("type"))
        if kind == "rectangle" and len(rings := _rings(shape["points"], 1)) == 1 and len(rings[0]) == 2:
            (x1, y1), (x2, y2) = rings[0].tolist()
            return [x1, y1, x2, y1, x2, y2, x1, y2]
        if kind not in _POLYGONS:
            raise ArtifactError(f"a shape of the type {kind!r} is no polygon")
        return shape["points"]
    if "all_points_x" in shape and "all_points_y" in shape:
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        if not _is_list(xs) or not _is_list(ys) or len(xs) != len(ys):
            raise ArtifactError("all_points_x and all_points_y are no lists of one length")
        return [value for pair in zip(xs, ys, strict=True) for value in pair]
    what = ", ".join(map(str, shape))[:60] or "nothing"
    raise ArtifactError(f"segmentation must have counts or points, got an object with {what}")


def _ring(values: Sequence[Any]) -> Ring:
    if len(values) % 2:
        raise ArtifactError(f"polygon must have an even number of coordinates, got {len(values)}")
    try:
        ring = np.array(list(map(float, values))).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        wrong = next(value for value in values if not _is_finite(value))
        raise ArtifactError(f"polygon must be a flat list of numbers, got {str(wrong)[:60]!r}") from None
    if not np.isfinite(ring).all():
        raise ArtifactError("polygon has a coordinate that is NaN or infinite")
    return ring


def _is_point(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "x" in value and "y" in value
    return _is_list(value) and len(value) == 2 and all(map(_is_number, value))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | Sequence) and not isinstance(value, str | bytes)


def _is_number(value: Any) -> bool:
    """Any scalar: one that is no number is named by `_ring`."""
    return not _is_list(value) and not isinstance(value, Mapping | np.ndarray)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
