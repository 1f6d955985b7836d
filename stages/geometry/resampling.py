"""Contours -> N points (METHOD.md section 3, RPP: uniformly by arc length), and the release's sampling."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.geometry.contours import SLOTS, TURNS, chain_turns, largest_pixel_chain
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask

_CORNER = np.sqrt(0.5)  # distance between the midpoints of two edges that meet at a pixel's corner
_LENGTH = (TURNS.edges - 1) * _CORNER + TURNS.way_out  # contour from a pixel's first edge to the next pixel's
_START = TURNS.upper_edge * _CORNER
_LAST_SLOT = TURNS.edges - 1


def _lines() -> NDArray[np.float64]:
    """(82 * SLOTS, 4): a point `rest` along the contour from a pixel's first edge lies at line[:2] + rest *
    line[2:]."""
    here = TURNS.midpoints
    piece = np.where(np.arange(SLOTS) == _LAST_SLOT[:, None], TURNS.way_out[:, None], _CORNER)[..., None]
    slope = (np.roll(here, -1, axis=1) - here) / piece
    base = here - np.arange(SLOTS)[:, None] * _CORNER * slope
    return np.concatenate([base, slope], axis=-1).reshape(-1, 4)


_LINES = _lines()


def resample_uniform(points_xy: ArrayLike, n: int) -> NDArray[np.float32]:
    """Closed ring (M, 2) -> (n, 2) float32 points, equally far apart along the ring, from its first point,
    in its order.

    A ring without length (one point, or all equal) gives n copies of the point.

    Raises:
        ValueError: no point, a point that is not finite, or n < 1.
    """
    ring = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    if n < 1:
        raise ValueError(f"number of points must be at least 1, got {n}")
    if len(ring) == 0 or not np.isfinite(ring).all():
        raise ValueError(f"contour must have finite points, got {len(ring)} points")
    closed = np.concatenate([ring, ring[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    if along[-1] == 0:
        return np.repeat(ring[:1], n, axis=0).astype(np.float32)
    wanted = np.arange(n) * (along[-1] / n)
    x, y = (np.interp(wanted, along, closed[:, axis]) for axis in (0, 1))
    return np.stack([x, y], axis=1).astype(np.float32)


def mask_to_points(mask: NDArray[Any], n: int) -> NDArray[np.float32]:
    """Mask (H, W) -> (n, 2) float32: equal to `resample_uniform(largest_outer_contour(mask), n)`, (0, 2)
    when empty.

    The contour is never built: the length each border pixel adds comes from a table, and only the n wanted
    places are turned into coordinates. Costs about a third of cv2.findContours.
    """
    chain = largest_pixel_chain(mask)
    if len(chain) == 0:
        return np.zeros((0, 2), dtype=np.float32)
    turns = chain_turns(chain)
    passed = np.cumsum(_LENGTH[turns])  # (M,) contour length up to the first edge of the next pixel
    total = passed[-1]
    # cv2's walk is counter-clockwise, ours clockwise: the same places, visited backwards
    wanted = (_START[turns[0]] - np.arange(n) * (total / n)) % total
    at = np.minimum(passed.searchsorted(wanted, side="right"), len(chain) - 1)
    turn = turns[at]
    rest = wanted - passed[at] + _LENGTH[turn]
    slot = np.minimum((rest / _CORNER).astype(np.intp), _LAST_SLOT[turn])
    line = _LINES[turn * SLOTS + slot]
    return (chain[at] + line[:, :2] + rest[:, None] * line[:, 2:]).astype(np.float32)


def start_at_top(contour_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same contour beginning at its top-most, then left-most point (the convention of every target)."""
    first = np.lexsort((contour_xy[:, 0], contour_xy[:, 1]))[0]
    return np.concatenate([contour_xy[first:], contour_xy[:first]])


def contour_targets(
    contour_xy: NDArray[np.float32], size_hw: tuple[int, int], n: int, *, mirrored: bool
) -> NDArray[np.float64]:
    """Contour (M, 2) in a model frame of `size_hw` -> target points (n, 2); a mirrored one keeps order and start."""
    if mirrored:
        contour_xy = start_at_top(contour_xy[::-1])
    return np.asarray(resample_uniform(contour_xy, n), np.float64)


def contour_targets_release(
    contour_xy: NDArray[np.float32], size_hw: tuple[int, int], n: int, *, mirrored: bool = False
) -> NDArray[np.float64]:
    """The release's targets: every ceil(M / n)-th of the M contour pixels of the mask at model size, NaN for the rest."""
    mask = rle_to_mask(polygon_to_rle(contour_xy, size_hw))
    if not mask.any():
        return np.full((n, 2), np.nan)
    points = sample_release(mask, n).astype(np.float64)
    return np.where(points < 0, np.nan, points)


def sample_release(mask: NDArray[Any], n: int) -> NDArray[np.float32]:
    """The release's contour targets: (n, 2) float32 pixel positions xy, rows of -1 where it finds fewer.

    Every ceil(M / n)-th of the M pixels of the contour that cv2 measures largest. A contour without area (a line, one
    pixel) gives only -1, as there.

    Raises:
        ValueError: the mask is empty (the release fails with an IndexError).
    """
    chains, _ = cv2.findContours(
        np.asarray(mask, dtype=bool).view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE
    )
    if len(chains) == 0:
        raise ValueError("the release cannot sample an empty mask")
    chain = max(chains, key=cv2.contourArea)
    points = np.full((n, 2), -1.0, dtype=np.float32)
    if cv2.moments(chain)["m00"] > 0:
        found = chain.reshape(-1, 2)[:: -(-len(chain) // n)]
        points[: len(found)] = found
    return points
