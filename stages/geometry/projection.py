"""The projection score of resampled pseudo points (METHOD.md section 3, RPP).

`D(a, g) = 1 - 2 sum(a g) / (sum(a^2) + sum(g^2) + 1e-5)` compares the profile of a predicted mask (which
rows, which columns hold a pixel of it) with that of the known box; the score is D of the rows + D of the
columns, 0 for a perfect match, 2 for disjoint or empty. A box covers the pixels whose centres it holds, as
in the rasteriser.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.geometry.boxes import pixel_interval
from stages.geometry.runs import pack_rles, split_runs

EPSILON = 1e-5

Int = NDArray[np.int64]
Float = NDArray[np.float64]


def projection_score(mask: NDArray[Any], box_xyxy: ArrayLike) -> float:
    """Score of one mask (H, W) bool against its box (4,) in the same frame, straight from the definition."""
    box = np.asarray(box_xyxy, dtype=np.float64).reshape(4)
    score = 0.0
    for axis in (0, 1):  # 0: columns against x, 1: rows against y
        profile = np.asarray(np.asarray(mask, dtype=bool).any(axis=axis))
        start, stop = pixel_interval(box[axis], box[axis + 2], len(profile))
        wanted = np.zeros(len(profile), dtype=np.bool_)
        wanted[start:stop] = True
        score += float(profile_distance((profile & wanted).sum(), profile.sum(), wanted.sum()))
    return score


def projection_scores(rles: Sequence[Mapping[str, Any]], boxes_xyxy: ArrayLike) -> Float:
    """Scores of N run-length masks (sizes may differ) against boxes (N, 4): (N,) float64, no mask is decoded.

    Exactly `projection_score` of the decoded masks, also for masks in several parts.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    if len(rles) != len(boxes):
        raise ValueError(f"masks and boxes must be as many, got {len(rles)} and {len(boxes)}")
    chunks = [_scores(rles[i : i + 1024], boxes[i : i + 1024]) for i in range(0, len(rles), 1024)]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def extent_scores(extents_xyxy: ArrayLike, boxes_xyxy: ArrayLike, sizes_hw: ArrayLike) -> Float:
    """Scores from the extents (N, 4) of polygons alone: boxes (N, 4), sizes (N, 2) or (2,) -> (N,) float64.

    The profile of a connected region is an interval, so this is exact wherever the rasterised polygon
    reaches its extent without a gap: always for contours made by `largest_outer_contour`. A spike thinner
    than a pixel, or a polygon partly outside the image, can differ from `projection_scores`. A NaN extent
    scores 2.
    """
    extents, boxes = (np.asarray(v, dtype=np.float64).reshape(-1, 4) for v in (extents_xyxy, boxes_xyxy))
    sizes = np.broadcast_to(np.asarray(sizes_hw), (len(boxes), 2))
    score = np.zeros(len(boxes))
    for axis in (0, 1):
        length = sizes[:, 1 - axis]
        start, stop = pixel_interval(extents[:, axis], extents[:, axis + 2], length)
        low, high = pixel_interval(boxes[:, axis], boxes[:, axis + 2], length)
        shared = np.maximum(np.minimum(stop, high) - np.maximum(start, low), 0)
        score += profile_distance(shared, stop - start, high - low)
    return score


def profile_distance(shared: Any, covered: Any, wanted: Any) -> Float:
    """D for profiles of 0 and 1, where squares are the values: places shared, covered by the mask, wanted
    by the box."""
    return np.asarray(1.0 - 2.0 * shared / (covered + wanted + EPSILON))


def _scores(rles: Sequence[Mapping[str, Any]], boxes: Float) -> Float:
    sizes = np.array([rle["size"] for rle in rles], dtype=np.int64).reshape(-1, 2)
    mask_of, start, stop = _foreground(rles, sizes)
    height = sizes[mask_of, 0]
    column, row = start // height, start % height
    last_column, last_row = (stop - 1) // height, (stop - 1) % height
    wraps, fills = last_column > column, last_column > column + 1
    columns = _Profiles(sizes[:, 1], [(mask_of, column, last_column + 1)])
    rows = _Profiles(
        sizes[:, 0],
        [
            (mask_of, row, np.where(wraps, height, last_row + 1)),
            (mask_of[wraps], np.zeros_like(row[wraps]), last_row[wraps] + 1),
            (mask_of[fills], np.zeros_like(row[fills]), height[fills]),
        ],
    )
    score = np.zeros(len(rles))
    for axis, profiles in ((0, columns), (1, rows)):
        low, high = pixel_interval(boxes[:, axis], boxes[:, axis + 2], profiles.lengths)
        everything = profiles.covered(np.zeros_like(low), profiles.lengths)
        score += profile_distance(profiles.covered(low, high), everything, high - low)
    return score


def _foreground(rles: Sequence[Mapping[str, Any]], sizes_hw: Int) -> tuple[Int, Int, Int]:
    """Foreground runs of all masks: which mask, first and one-past-last place in it (column-major)."""
    runs, offsets = split_runs(*pack_rles(rles))
    mask_of = np.repeat(np.arange(len(rles)), np.diff(offsets))
    ends = np.cumsum(runs)
    before = np.concatenate([[0], ends])[offsets[:-1]]
    stop = ends - before[mask_of]
    odd = (np.arange(len(runs)) - offsets[mask_of]) % 2 == 1
    chosen = odd & (runs > 0)
    return mask_of[chosen], (stop - runs)[chosen], stop[chosen]


class _Profiles:
    """One row (or column) profile a mask, all in one array, built from intervals [start, stop)."""

    def __init__(self, lengths: Int, intervals: Sequence[tuple[Int, Int, Int]]) -> None:
        self.lengths = lengths
        # one spare place a mask, where intervals end
        self.offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
        size = int(self.offsets[-1])
        change = np.zeros(size, dtype=np.int64)
        for mask_of, start, stop in intervals:
            change += np.bincount(self.offsets[mask_of] + start, minlength=size)
            change -= np.bincount(self.offsets[mask_of] + stop, minlength=size)
        self.running = np.concatenate([[0], np.cumsum(np.cumsum(change) > 0)])

    def covered(self, low: Int, high: Int) -> Int:
        """How many places of [low, high) each mask covers."""
        return np.asarray(self.running[self.offsets[:-1] + high] - self.running[self.offsets[:-1] + low])
