"""Polygons, boxes, ellipses and COCO segmentations -> run-length masks, and back to pixels.

Every shape goes through the COCO rasteriser or obeys its rule (a pixel belongs to a shape when its centre
does), so masks of predictions and of annotations are comparable to the pixel.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco

from stages.errors import ArtifactError
from stages.geometry.boxes import pixel_interval
from stages.geometry.runs import counts_to_bytes, rle_counts
from stages.geometry.segmentations import polygon_rings
from stages.untrusted import plain

Rle = dict[str, Any]
Size = Sequence[int]


def empty_rle(size_hw: Size) -> Rle:
    """The mask without a pixel."""
    return _rle(size_hw, np.array([int(size_hw[0]) * int(size_hw[1])]))


def polygon_to_rle(points_xy: ArrayLike, size_hw: Size, *, two_points: str = "box") -> Rle:
    """Filled polygon (P, 2) -> mask. Points may lie outside the image; self-crossings fill by the COCO rule.

    Two points are the corners of a box, fewer are the empty mask (METHOD.md section 2). `two_points="xywh"`
    is the release, which reads the four numbers as x, y, width, height. A vertex farther outside than one
    image side is moved to that distance, because the rasteriser's work grows with the length of the
    outline.

    Raises:
        ValueError: a point is NaN or infinite.
    """
    points = _near_points(points_xy, size_hw)
    if len(points) == 2 and two_points == "xywh":
        return _first(coco.frPyObjects(points.reshape(1, 4), int(size_hw[0]), int(size_hw[1])))
    return _fill(points, size_hw)


def polygon_to_window(points_xy: ArrayLike, size_hw: Size) -> tuple[Rle, tuple[int, int]]:
    """As `polygon_to_rle`, but only the part of the image that holds the polygon: (mask, its corner (x, y)).

    The same pixels, shifted by the corner (test_window_holds_the_same_pixels), at a cost that does not grow
    with the image. The window of a polygon without points, or outside the image, has a side of 0 or 1.

    Raises:
        ValueError: a point is NaN or infinite.
    """
    points = _near_points(points_xy, size_hw)
    if len(points) == 0:
        return empty_rle((0, 0)), (0, 0)
    limits = np.array([size_hw[1], size_hw[0]], dtype=np.float64)
    low = np.minimum(np.maximum(np.floor(points.min(axis=0)), 0), limits)
    width, height = (
        (np.minimum(np.maximum(np.ceil(points.max(axis=0)) + 1, low), limits) - low).astype(int).tolist()
    )
    return _fill(points - low, (height, width)), (int(low[0]), int(low[1]))


def box_to_rle(box_xyxy: ArrayLike, size_hw: Size) -> Rle:
    """Filled box -> mask; NaN, inverted or outside boxes give the empty mask."""
    box = np.asarray(box_xyxy, dtype=np.float64).reshape(4)
    height, width = int(size_hw[0]), int(size_hw[1])
    start, stop = pixel_interval(box[:2], box[2:], (width, height))
    columns = np.arange(start[0], stop[0])
    return _columns_to_rle(columns, np.full(len(columns), start[1]), np.full(len(columns), stop[1]), size_hw)


def ellipse_to_rle(box_xyxy: ArrayLike, size_hw: Size) -> Rle:
    """Ellipse inscribed in the box -> mask: the trivial row of METHOD.md section 6."""
    box = np.asarray(box_xyxy, dtype=np.float64).reshape(4)
    height, width = int(size_hw[0]), int(size_hw[1])
    start, stop = pixel_interval(box[0], box[2], width)
    columns = np.arange(int(start), int(stop))
    centre, radius = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    if len(columns) == 0 or not radius[1] > 0:
        return empty_rle(size_hw)
    half = radius[1] * np.sqrt(np.maximum(1.0 - ((columns + 0.5 - centre[0]) / radius[0]) ** 2, 0.0))
    top, bottom = pixel_interval(centre[1] - half, centre[1] + half, height)
    return _columns_to_rle(columns, top, bottom, size_hw)


def mask_to_rle(mask: NDArray[Any]) -> Rle:
    """Boolean (or 0/1) mask (H, W) -> run lengths."""
    return dict(coco.encode(np.asfortranarray(np.asarray(mask, dtype=bool).view(np.uint8))))


def rle_to_mask(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Run lengths -> boolean mask (H, W), C-contiguous. Three times faster than pycocotools on photographs.

    Raises:
        ArtifactError: the runs do not fill the mask.
    """
    height, width = (int(v) for v in rle["size"])
    runs = rle_counts(rle["counts"])
    if len(runs) == 0 and height * width == 0:
        return np.zeros((height, width), dtype=bool)
    if len(runs) == 0 or runs.min() < 0 or int(runs.sum()) != height * width:
        raise ArtifactError(f"mask runs cover {int(runs.sum())} pixels, its image has {height * width}")
    values = np.zeros(len(runs), dtype=np.uint8)
    values[1::2] = 1
    columns = np.repeat(values, runs).reshape(width, height)
    if columns.size == 0:
        return np.zeros((height, width), dtype=bool)
    return np.asarray(cv2.transpose(columns)).view(np.bool_)


def rle_area(rle: Mapping[str, Any]) -> int:
    """Number of foreground pixels."""
    return int(coco.area(dict(rle)))


def union_rle(parts: Sequence[Mapping[str, Any]], size_hw: Size) -> Rle:
    """Union of masks of one size; of none, the empty mask. A pixel in two parts counts once."""
    if not parts:
        return empty_rle(size_hw)
    if len(parts) == 1:
        return dict(parts[0])
    return dict(coco.merge([dict(part) for part in parts], intersect=False))


def resize_mask_nearest(mask: NDArray[Any], size_hw: Size) -> NDArray[np.bool_]:
    """Nearest-neighbour resize (H, W) -> (h, w), as the release resizes masks (cv2's rule)."""
    pixels = np.ascontiguousarray(np.asarray(mask, dtype=bool)).view(np.uint8)
    resized = cv2.resize(pixels, (int(size_hw[1]), int(size_hw[0])), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized).view(np.bool_)


def rle_from_segmentation(segmentation: Any, size_hw: Size) -> Rle:
    """A COCO `segmentation` field -> one mask, the union of its parts.

    Takes polygons in any nesting (segmentations.py), a compressed or uncompressed RLE dict (crowd regions),
    or a list of such dicts. Polygons with fewer than three points cover nothing. `None` and empty lists are
    the empty mask.

    Raises:
        ArtifactError: the field has another form, a size other than `size_hw`, or runs that do not fill the
        image; polygons that lie within one pixel, because they are shares of the picture.
    """
    if segmentation is None:
        return empty_rle(size_hw)
    if _is_rle(segmentation):
        return checked_rle(segmentation, size_hw)
    if isinstance(segmentation, str | bytes) or not isinstance(segmentation, Sequence | Mapping | np.ndarray):
        raise ArtifactError(
            f"segmentation must be polygons or run lengths, got {type(segmentation).__name__}"
        )
    several = [] if isinstance(segmentation, Mapping) else list(segmentation)
    masks = [checked_rle(part, size_hw) for part in several if _is_rle(part)]
    rest = [part for part in several if not _is_rle(part)] if masks else segmentation
    rings = [ring for ring in polygon_rings(rest) if len(ring) >= 3]
    union = union_rle(masks + [polygon_to_rle(ring, size_hw) for ring in rings], size_hw)
    if rings and not rle_area(union) and all(0 <= r.min() < r.max() <= 1 for r in rings):
        raise ArtifactError(
            "polygon lies within one pixel: its points must be pixels, not shares of the picture"
        )
    return union


def _is_rle(value: Any) -> bool:
    if isinstance(value, list):  # as nearly all are: asking an abstract class takes longer
        return False
    return isinstance(value, Mapping) and not value.keys().isdisjoint(("counts", "size", "rle"))


def _near_points(points_xy: ArrayLike, size_hw: Size) -> NDArray[np.float64]:
    points = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("polygon points must be finite, got NaN or infinity")
    far = np.array([size_hw[1], size_hw[0]], dtype=np.float64)
    return np.minimum(np.maximum(points, -far), 2 * far)


def _fill(points: NDArray[np.float64], size_hw: Size) -> Rle:
    if len(points) < 2 or size_hw[0] == 0 or size_hw[1] == 0:
        return empty_rle(size_hw)
    if len(points) == 2:
        return box_to_rle(np.sort(points, axis=0).reshape(4), size_hw)
    return _first(coco.frPyObjects([points.reshape(-1).tolist()], int(size_hw[0]), int(size_hw[1])))


def checked_rle(rle: Mapping[str, Any], size_hw: Size) -> Rle:
    """Validate before pycocotools sees it: its C decoder trusts the runs."""
    size, counts = rle.get("size"), rle.get("counts")
    if "rle" in rle:
        raise ArtifactError(
            "run lengths of Label Studio are not read",
            hint="export them as COCO or as PNG masks, or write size and counts",
        )
    if not isinstance(size, list | tuple | np.ndarray) or list(size) != [int(v) for v in size_hw]:
        turned = isinstance(size, list | tuple) and list(size) == [int(v) for v in reversed(size_hw)]
        raise ArtifactError(
            f"mask size {plain(size)} does not match its image {[int(v) for v in size_hw]} (height, width)"
            + (": it is written as width, height" if turned else "")
        )
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        raise ArtifactError(
            f"mask runs are the printed form of bytes, {counts[:20]}…: write counts.decode() instead"
        )
    if isinstance(counts, str | bytes):
        runs = rle_counts(counts)
    else:
        try:
            values = np.asarray(counts if counts is not None else [], dtype=np.float64).reshape(-1)
            if not ((values == np.floor(values)) & (np.abs(values) < 2**62)).all():
                raise ValueError
            runs = values.astype(np.int64)
        except (TypeError, ValueError, OverflowError):
            raise ArtifactError(f"mask runs must be whole numbers, got {str(counts)[:60]}") from None
    _require_filled(runs, size_hw)
    return _rle(size_hw, runs)


def stored_rle(counts: Any, size_hw: Size, path: Path) -> Rle:
    """A mask whose compressed run lengths (uint8) an artifact holds, checked for the same reason.

    Raises:
        ArtifactError: they are no run lengths, or do not fill a mask of `size_hw`: `path` is damaged.
    """
    data = bytes(counts)
    try:
        _require_filled(rle_counts(data), size_hw)
    except ArtifactError as error:
        raise ArtifactError(
            f"{path} is damaged", facts=[error.message, *error.facts], hint=f"seqres verify {path}"
        ) from error
    return {"size": [int(v) for v in size_hw], "counts": data}


def _require_filled(runs: NDArray[np.int64], size_hw: Size) -> None:
    pixels = int(size_hw[0]) * int(size_hw[1])
    if len(runs) and runs.min() < 0:
        raise ArtifactError(f"mask runs must not be negative, got {int(runs.min())}")
    if len(runs) == 0 or int(runs.sum()) != pixels:
        raise ArtifactError(f"mask runs cover {int(runs.sum())} pixels, its image has {pixels}")


def _columns_to_rle(columns: ArrayLike, top: ArrayLike, bottom: ArrayLike, size_hw: Size) -> Rle:
    """One run per column: pixels [top, bottom) of ascending columns -> mask."""
    height, width = int(size_hw[0]), int(size_hw[1])
    offset = np.asarray(columns, dtype=np.int64) * height
    starts, stops = offset + np.asarray(top), offset + np.asarray(bottom)
    filled = stops > starts
    starts, stops = starts[filled], stops[filled]
    if len(starts) == 0:
        return empty_rle(size_hw)
    apart = starts[1:] > stops[:-1]
    starts = starts[np.concatenate([[True], apart])]
    stops = stops[np.concatenate([apart, [True]])]
    edges = np.stack([starts, stops], axis=1).reshape(-1)
    runs = np.diff(np.concatenate([[0], edges, [height * width]]))
    return _rle(size_hw, runs[:-1] if runs[-1] == 0 else runs)


def _rle(size_hw: Size, runs: NDArray[np.int64]) -> Rle:
    return {"size": [int(size_hw[0]), int(size_hw[1])], "counts": counts_to_bytes(runs)}


def _first(rles: Any) -> Rle:
    return dict(rles[0])
