"""Many predicted polygons at once: projection scores and uniform resampling (METHOD.md section 3, RPP).

"Connect the points, fill, take the contour" gives back the polygon itself when it does not cross itself,
and the projections of a filled polygon are the intervals of its extent. So only polygons that cross or
touch themselves, leave the image or hardly cover a pixel are rasterised; the others cost a few microseconds
and are exact where pixels round (tests: test_scores_agree_with_pixels, test_outline_agrees_with_pixels).
Polygons as annotation tools nest them: segmentations.py.
Letters: N polygons, P points each.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.geometry.boxes import pixel_interval
from stages.geometry.projection import extent_scores, profile_distance
from stages.geometry.rasterise import polygon_to_window, rle_to_mask
from stages.geometry.resampling import mask_to_points

_PAIRS = 1024 * 24**2  # of edges that are compared at once: an upper bound of memory, not of the polygons
_MANY = 128  # edges, from which on it pays to look for those that are near each other first
_MIN_AREA = 16.0  # square pixels; below, which pixel centres are hit decides, so pixels are asked

Float = NDArray[np.float64]


def polygon_scores(
    points_xy: ArrayLike, offsets: ArrayLike, boxes_xyxy: ArrayLike, sizes_hw: ArrayLike
) -> Float:
    """Projection scores (N,) float64 of polygons against their boxes; 2 for a polygon that covers nothing.

    `points_xy` (T, 2) holds all points, polygon i has the rows offsets[i]:offsets[i+1]; `boxes_xyxy` (N, 4)
    and `sizes_hw` (N, 2) are in the same frame of original pixels. Two points are the corners of a box.
    """
    points, offsets = _ragged(points_xy, offsets)
    boxes, sizes = np.asarray(boxes_xyxy, dtype=np.float64), np.asarray(sizes_hw)
    scores = np.full(len(offsets) - 1, 2.0)
    for rows, ring in _by_length(points, offsets):
        plain = is_plain(ring, sizes[rows]) & _is_blunt(ring)
        extents = np.concatenate([ring.min(axis=1), ring.max(axis=1)], axis=-1)
        scores[rows] = extent_scores(extents, boxes[rows], sizes[rows])
        for k in np.flatnonzero(~plain):
            scores[rows[k]] = _score_by_pixels(ring[k], boxes[rows[k]], sizes[rows[k]])
    return scores


def resample_polygons(
    points_xy: ArrayLike, offsets: ArrayLike, sizes_hw: ArrayLike, n: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Fill each polygon, take its contour, put n points on it at equal distances: ((N, n, 2) float32, found
    (N,) bool).

    Clockwise on the screen from the left end of the top-most pixel row, as `largest_outer_contour`. `found`
    is False (and the points NaN) where the polygon covers no pixel of the image.
    """
    points, offsets = _ragged(points_xy, offsets)
    sizes = np.asarray(sizes_hw)
    result = np.full((len(offsets) - 1, n, 2), np.nan, dtype=np.float32)
    for rows, ring in _by_length(points, offsets):
        plain = is_plain(ring, sizes[rows])
        if plain.any():
            result[rows[plain]] = _resample_rings(_from_top(_clockwise(ring[plain])), n)
        for k in np.flatnonzero(~plain):
            mask, corner = _window(ring[k], sizes[rows[k]])
            if mask.any():
                result[rows[k]] = mask_to_points(mask, n) + np.array(corner, dtype=np.float32)
    return result, np.asarray(np.isfinite(result).all(axis=(1, 2)))


def curve_through(points_xy: ArrayLike, pieces: int) -> Float:
    """The closed Catmull-Rom curve through the points (P, 2), as a ring (P * pieces, 2) that begins at the first one.

    Points spread over a bent contour cut its bends; the curve follows them (uniform knots, which suit points that are
    equally far apart). Fewer than three points are returned as they are.
    """
    here = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    if len(here) < 3:
        return here
    before, after, beyond = (np.roll(here, shift, axis=0) for shift in (1, -1, -2))
    u = (np.arange(pieces) / pieces)[:, None, None]
    slope, end_slope = (after - before) / 2, (beyond - here) / 2
    ring = (
        (2 * u**3 - 3 * u**2 + 1) * here
        + (u**3 - 2 * u**2 + u) * slope
        + (3 * u**2 - 2 * u**3) * after
        + (u**3 - u**2) * end_slope
    )
    return np.asarray(ring.transpose(1, 0, 2).reshape(-1, 2))


def is_plain(rings_xy: Float, sizes_hw: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rings (N, P, 2) lie in their image, enclose an area and neither cross nor touch themselves:
    (N,) bool."""
    count, length = rings_xy.shape[:2]
    if length < 3:
        return np.zeros(count, dtype=bool)
    limits = np.asarray(sizes_hw, dtype=np.float64)[:, None, ::-1]
    inside = ((rings_xy >= 0) & (rings_xy <= limits)).all(axis=(1, 2))
    ahead, behind = np.roll(rings_xy, -1, axis=1), np.roll(rings_xy, 1, axis=1)
    large = np.abs(_cross(rings_xy, ahead).sum(axis=1)) / 2 >= _MIN_AREA
    folded = (_cross(rings_xy - behind, ahead - rings_xy) == 0).any(axis=1)
    plain = np.asarray(inside & large & ~folded)
    left = np.flatnonzero(plain)  # contours of masks have straight runs, so few of theirs
    plain[left] = ~_meets_itself(rings_xy[left], ahead[left])
    return plain


def _meets_itself(start: Float, stop: Float) -> NDArray[np.bool_]:
    """Whether two edges of a ring that are no neighbours have a point in common (N, P, 2) -> (N,)."""
    count, length = start.shape[:2]
    if length < _MANY:
        first, second = np.triu_indices(length, 2)
        apart = (first != 0) | (second != length - 1)
        pair = first[apart], second[apart]
        return np.asarray(_meet(*(ends[:, rows] for rows in pair for ends in (start, stop))).any(axis=1))
    meets = np.zeros(count, dtype=bool)
    for ring, first, second in _near(start[..., 0], stop[..., 0]):
        apart = ~np.isin(np.abs(first - second), (1, length - 1))
        ring, first, second = ring[apart], first[apart], second[apart]
        pair_meets = _meet(start[ring, first], stop[ring, first], start[ring, second], stop[ring, second])
        meets[ring[pair_meets]] = True
    return meets


def _near(start: Float, stop: Float) -> Iterator[tuple[NDArray[np.intp], ...]]:
    """All pairs of edges that share an x, from the x of their ends (N, P), piece by piece: ring, edge, other edge.

    In the order of their left ends, an edge is compared with its next neighbour, its next but one and so on, until no
    edge reaches so far.
    """
    low, high = np.minimum(start, stop), np.maximum(start, stop)
    order = low.argsort(axis=1)
    low, high = (np.take_along_axis(ends, order, axis=1) for ends in (low, high))
    for further in range(1, low.shape[1]):
        ring, place = np.nonzero(low[:, further:] <= high[:, :-further])
        if not len(ring):
            return
        yield ring, order[ring, place], order[ring, place + further]


def _meet(a: Float, b: Float, c: Float, d: Float) -> NDArray[np.bool_]:
    """Whether the edges a-b and c-d (..., 2) have a point in common; also where they lie on one line."""
    along, across = b - a, d - c
    c_side, d_side = _cross(along, c - a), _cross(along, d - a)
    a_side, b_side = _cross(across, a - c), _cross(across, b - c)
    return np.asarray((c_side * d_side <= 0) & (a_side * b_side <= 0))


def _is_blunt(rings: Float) -> NDArray[np.bool_]:
    """Whether a ring is at least a pixel wide within two pixels of each end of its extent (N, P, 2) -> (N,).

    A sharper tip covers no pixel centre for a while, so the pixels' extent is smaller than the polygon's.
    """
    blunt = np.ones(len(rings), dtype=bool)
    one = np.arange(len(rings))
    for axis in (0, 1):
        for sign in (1.0, -1.0):
            tip = (sign * rings[..., axis]).argmin(axis=1)
            here = rings[one, tip]
            arms = (
                np.stack([rings[one, tip - 1], rings[one, (tip + 1) % rings.shape[1]]], axis=1)
                - here[:, None]
            )
            depth = np.maximum(sign * arms[..., axis], 1e-6)
            width = np.abs(np.subtract(*(arms[..., 1 - axis] / depth).T)) * np.minimum(depth.min(axis=1), 2.0)
            blunt &= width >= 1.0
    return blunt


def _clockwise(rings: Float) -> Float:
    """Turn counter-clockwise rings round (on the screen: y points down)."""
    signed = _cross(rings, np.roll(rings, -1, axis=1)).sum(axis=1)
    return np.where((signed < 0)[:, None, None], rings[:, ::-1], rings)


def _from_top(rings: Float) -> Float:
    """Start clockwise rings (N, P, 2) where pixels would: at the left end of the top-most row of pixel
    centres.

    A slightly sloping upper edge has its highest point at one end, but its first *row* begins at the left;
    from the highest point we go back along the ring to where it leaves that row. Adds that point: (N, P +
    1, 2).
    """
    length = rings.shape[1]
    top = np.lexsort((rings[..., 0], rings[..., 1]), axis=1)[:, 0]
    order = (top[:, None] + np.arange(length)) % length
    rings = np.take_along_axis(rings, order[..., None], axis=1)
    row = np.floor(rings[:, 0, 1] + 0.5) + 0.5
    back = np.concatenate([rings[:, :1], rings[:, :0:-1]], axis=1)  # the top, then the ring backwards
    below = back[..., 1] > row[:, None]
    leaves = np.where(below.any(axis=1), below.argmax(axis=1), 1)
    one = np.arange(len(rings))
    inner, outer = back[one, leaves - 1], back[one, leaves]
    drop = outer[:, 1] - inner[:, 1]
    share = np.clip((row - inner[:, 1]) / np.where(drop > 0, drop, 1.0), 0, 1)
    start = inner + share[:, None] * (outer - inner)
    # clockwise from the new point: first what was walked back over, then the rest of the ring
    order = (np.arange(length) - (leaves - 1)[:, None]) % length
    return np.concatenate([start[:, None], np.take_along_axis(rings, order[..., None], axis=1)], axis=1)


def _resample_rings(rings: Float, n: int) -> NDArray[np.float32]:
    """(N, P, 2) closed rings -> (N, n, 2), `resample_uniform` of each."""
    ahead = np.roll(rings, -1, axis=1)
    lengths = np.hypot(*np.moveaxis(ahead - rings, -1, 0))  # (N, P)
    passed = np.cumsum(lengths, axis=1)
    wanted = np.arange(n) * (passed[:, -1:] / n)  # (N, n)
    edge = (passed[:, None, :] <= wanted[..., None]).sum(axis=-1)
    edge = np.minimum(edge, rings.shape[1] - 1)
    length = np.take_along_axis(lengths, edge, axis=1)
    rest = wanted - np.take_along_axis(passed, edge, axis=1) + length
    share = (rest / np.where(length > 0, length, 1.0))[..., None]
    start = np.take_along_axis(rings, edge[..., None], axis=1)
    return (start + share * (np.take_along_axis(ahead, edge[..., None], axis=1) - start)).astype(np.float32)


def _score_by_pixels(ring: Float, box_xyxy: Float, size_hw: NDArray[np.int64]) -> float:
    mask, corner = _window(ring, size_hw)
    score = 0.0
    for axis in (0, 1):
        profile = np.asarray(mask.any(axis=axis))
        low, high = pixel_interval(box_xyxy[axis], box_xyxy[axis + 2], size_hw[1 - axis])
        shared = profile[max(int(low) - corner[axis], 0) : max(int(high) - corner[axis], 0)].sum()
        score += float(profile_distance(shared, profile.sum(), high - low))
    return score


def _window(ring: Float, size_hw: NDArray[np.int64]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    rle, corner = polygon_to_window(ring, (int(size_hw[0]), int(size_hw[1])))
    return rle_to_mask(rle), corner


def _by_length(points: Float, offsets: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Float]]:
    """Rows and rings (n, P, 2) of polygons with equally many points (two points: the box), as many at once as
    have `_PAIRS` pairs of edges together."""
    lengths = np.diff(offsets)
    for length in np.unique(lengths):
        if length < 2:
            continue
        everyone = np.flatnonzero(lengths == length)
        count = max(1, _PAIRS // int(length) ** 2)
        for begin in range(0, len(everyone), count):
            rows = everyone[begin : begin + count]
            ring = points[offsets[rows][:, None] + np.arange(length)]
            yield rows, _box_corners(ring) if length == 2 else ring


def _box_corners(pairs: Float) -> Float:
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    x1, y1, x2, y2 = low[:, 0], low[:, 1], high[:, 0], high[:, 1]
    return np.stack([x1, y1, x2, y1, x2, y2, x1, y2], axis=1).reshape(-1, 4, 2)


def _ragged(points_xy: ArrayLike, offsets: ArrayLike) -> tuple[Float, NDArray[np.int64]]:
    points = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("polygon points must be finite, got NaN or infinity")
    return points, np.asarray(offsets, dtype=np.int64)


def _cross(a: Float, b: Float) -> Float:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
