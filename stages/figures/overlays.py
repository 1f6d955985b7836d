"""Masks, contours, points and boxes drawn on RGB pictures (cv2, anti-aliased).

Points and boxes are in pixels of the *original* picture, origin = outer corner of the top-left pixel. Every
function takes `scale` (drawn pixels per original pixel) and returns a new picture; nothing is drawn in place.
cv2 counts from pixel centres, hence the half pixel taken off in `_fixed`.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Colour = tuple[int, int, int]  # RGB

# One meaning a colour in every figure; the first three stay apart for colour-blind readers as well.
PREDICTED: Colour = (255, 176, 0)
TRUTH: Colour = (30, 200, 120)
BOX: Colour = (60, 150, 255)
CHOSEN: Colour = (230, 30, 40)
EDGE: Colour = (15, 15, 15)

_RIM = 1.8  # drawn pixels round a disc
_SMALLEST_DISC = 1.5  # its radius with the rim
_SHIFT = 4  # fractional bits of cv2's fixed-point coordinates: contours keep their sub-pixel position


def enlarged(picture: Picture, long_side: int) -> tuple[Picture, float]:
    """The picture resized so that its longer side has `long_side` pixels, and the scale that was used.

    Small pictures are enlarged without smoothing beyond a cubic filter, large ones are averaged down.
    """
    height, width = picture.shape[:2]
    scale = long_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8), scale


def with_mask(picture: Picture, mask: NDArray[np.bool_], colour: Colour, opacity: float = 0.45) -> Picture:
    """Tint where `mask` (any (h, w) bool, True = inside; stretched to the picture) is set."""
    height, width = picture.shape[:2]
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    share = (opacity * soft)[..., None]
    mixed = picture * (1 - share) + np.array(colour, np.float32) * share
    return np.asarray(np.clip(mixed.round(), 0, 255), np.uint8)


def with_contour(
    picture: Picture, points_xy: ArrayLike, colour: Colour, *, scale: float = 1.0, thickness: int = 2
) -> Picture:
    """The closed ring (P, 2) with a dark rim that shows on any ground; nothing for fewer than two points."""
    ring = _fixed(points_xy, scale)
    out = picture.copy()
    if len(ring) >= 2:
        for line, width in ((EDGE, thickness + 2), (colour, thickness)):
            cv2.polylines(out, [ring], True, line, width, cv2.LINE_AA, _SHIFT)
    return out


def with_filled_contour(
    picture: Picture, points_xy: ArrayLike, colour: Colour, *, scale: float = 1.0, opacity: float = 0.4
) -> Picture:
    """The ring (P, 2) and its inside (even-odd), tinted."""
    ring = _fixed(points_xy, scale)
    if len(ring) < 3:
        return with_contour(picture, points_xy, colour, scale=scale)
    tinted = picture.copy()
    cv2.fillPoly(tinted, [ring], colour, cv2.LINE_AA, _SHIFT)
    mixed = cv2.addWeighted(tinted, opacity, picture, 1 - opacity, 0)
    return with_contour(np.asarray(mixed, np.uint8), points_xy, colour, scale=scale)


def with_points(
    picture: Picture, points_xy: ArrayLike, colour: Colour, *, scale: float = 1.0, radius: float = 4.0
) -> Picture:
    """Each point (P, 2) as a disc with a white and a dark rim; `radius` in drawn pixels, less where half of the points
    would touch the next one."""
    out = picture.copy()
    points = np.asarray(points_xy, np.float64).reshape(-1, 2)
    shrunk = 1.0
    if len(points) > 1:
        apart = float(np.median(np.hypot(*np.diff(points, axis=0).T))) * scale
        shrunk = min(1.0, max(_SMALLEST_DISC, apart / 2) / (radius + _RIM))
    for x, y in _fixed(points, scale).tolist():
        for extra, fill in ((_RIM, EDGE), (_RIM - 0.8, (255, 255, 255)), (0.0, colour)):
            size = round(shrunk * (radius + extra) * (1 << _SHIFT))
            cv2.circle(out, (x, y), size, fill, -1, cv2.LINE_AA, _SHIFT)
    return out


def with_box(
    picture: Picture, box_xyxy: Sequence[float] | NDArray[np.floating], colour: Colour, *, scale: float = 1.0
) -> Picture:
    """The outline of a box (4,); a box with NaN (none) leaves the picture as it is."""
    if not np.isfinite(np.asarray(box_xyxy, np.float64)).all():
        return picture.copy()
    x1, y1, x2, y2 = box_xyxy
    return with_contour(picture, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour, scale=scale, thickness=1)


def heat_colours(values: NDArray[np.floating]) -> Picture:
    """Values in [0, 1] (H, W) -> RGB colours from black over purple to yellow (cv2's inferno)."""
    levels = np.clip(values * 255, 0, 255).round().astype(np.uint8)
    return np.asarray(
        cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8
    )


def with_heat(picture: Picture, cells: NDArray[np.floating], opacity: float = 0.75) -> Picture:
    """A map (h, w) >= 0 of cells that tile the picture, relative to its maximum, over the dimmed grey picture.

    `opacity` is that of the maximum; where the model does not look, the picture stays visible.
    """
    height, width = picture.shape[:2]
    top = float(cells.max()) if cells.size else 0.0
    smooth = cv2.resize(
        (cells / top if top > 0 else np.zeros((1, 1))).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    level = np.clip(smooth, 0, 1)
    share = (opacity * np.sqrt(level))[..., None]
    mixed = (0.55 * grey) * (1 - share) + heat_colours(level) * share
    return np.asarray(mixed.round(), np.uint8)


def png_bytes(picture: Picture) -> bytes:
    """Encoded PNG of an RGB picture."""
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6]
    )
    assert done, "PNG encoding of an RGB array cannot fail"
    return bytes(data)


def _fixed(points_xy: ArrayLike, scale: float) -> NDArray[np.int32]:
    points = np.asarray(points_xy, np.float64).reshape(-1, 2)
    return np.round((points * scale - 0.5) * (1 << _SHIFT)).astype(np.int32)
