"""What the public release does to a picture, its box and its mask before the network (golden/pipeline.json).

Validation resizes to fit a square; training scales by a random factor and, when the picture became larger than
the square, looks for a window that shows enough of the referent. `--jitter-rule release` draws its windows
with `choose_window` (jitter.py); everything else here exists to be compared with the release number by number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]
WANTED_SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)  # of the box inside the window, tried in this order
TRIES = 100  # windows a share
SMALLEST_SHARE = 0.3  # below it the picture is left as it is


@dataclass(frozen=True)
class Window:
    """What one draw of the jitter decided.

    Attributes:
        scaled_hw: the whole picture after scaling, pixels.
        corner_xy: real corner of the window in the scaled picture; the picture is cut at its whole part.
        shift_xy: what is subtracted from boxes: the corner of the LAST window tried (ODDITIES E2).
        size_hw: size of the window, or of the scaled picture when nothing is cut.
        cut: whether a window is cut out. untouched: nothing was done at all, because no window showed enough.
    """

    scaled_hw: tuple[int, int]
    corner_xy: tuple[float, float]
    shift_xy: tuple[float, float]
    size_hw: tuple[int, int]
    cut: bool = False
    untouched: bool = False


def scaled_size(size_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """(h, w) after scaling, rounded half up."""
    return int(size_hw[0] * scale + 0.5), int(size_hw[1] * scale + 0.5)


def fit_size(size_hw: tuple[int, int], square: int) -> tuple[int, int]:
    """(h, w) that fits the square with the ratio kept (validation, and the window of the jitter)."""
    return scaled_size(size_hw, min(square / max(size_hw), square / min(size_hw)))


def choose_window(
    draw: Callable[[], float],
    size_hw: tuple[int, int],
    square: int,
    box_xyxy: ArrayLike,
    mask: NDArray[np.uint8] | None = None,
    *,
    jitter: tuple[float, float] = (0.3, 1.4),
) -> Window:
    """Large-scale jitter: `draw()` gives numbers in [0, 1), first the scale, then pairs for window corners.

    A window is good enough when it holds a share of the mask (H, W) 0/1, or of the box where there is no mask.
    """
    factor = jitter[0] + draw() * (jitter[1] - jitter[0])
    scaled = scaled_size(size_hw, factor * square / max(size_hw))
    whole = Window(scaled, (0.0, 0.0), (0.0, 0.0), scaled)
    if factor <= 1.0:
        return whole
    out_h, out_w = fit_size(size_hw, square)
    ratio = np.array([scaled[1] / size_hw[1], scaled[0] / size_hw[0]] * 2)
    box = np.asarray(box_xyxy, np.float64) * ratio
    pixels = None if mask is None else jitter_pixels(mask, whole)
    best, best_share = (0.0, 0.0), 0.0
    corner = best
    for wanted in WANTED_SHARES:
        for _ in range(TRIES):
            corner = (draw() * (scaled[1] - out_w), draw() * (scaled[0] - out_h))
            window = np.array([*corner, corner[0] + out_w, corner[1] + out_h])
            share = _box_share(window, box) if pixels is None else _mask_share(window, pixels)
            if share > best_share:
                best, best_share = corner, share
            if share >= wanted:
                return Window(scaled, corner, corner, (out_h, out_w), cut=True)
    if best_share < SMALLEST_SHARE:
        return Window(scaled, (0.0, 0.0), (0.0, 0.0), size_hw, untouched=True)
    return Window(scaled, best, corner, (out_h, out_w), cut=True)


def _box_share(window: Float, box: Float) -> float:
    """The product of the two overlaps even when both are negative: a window diagonal to the box counts as showing
    it (ODDITIES E4)."""
    sides = np.minimum(window[2:], box[2:]) - np.maximum(window[:2], box[:2])
    return float(sides.prod() / (box[2:] - box[:2]).prod())


def _mask_share(window: Float, mask: NDArray[Any]) -> float:
    x1, y1, x2, y2 = window.astype(np.int64)
    total = int(mask.sum())
    return int(mask[y1:y2, x1:x2].sum()) / total if total else 0.0


def jitter_boxes(boxes_xyxy: ArrayLike, size_hw: tuple[int, int], window: Window) -> Float:
    """(..., 4) original pixels -> jittered pixels, clipped to the last pixel's index."""
    boxes = np.asarray(boxes_xyxy, np.float64)
    if window.untouched:
        return boxes.copy()
    ratio = np.array([window.scaled_hw[1] / size_hw[1], window.scaled_hw[0] / size_hw[0]] * 2)
    moved = boxes * ratio - np.array(window.shift_xy * 2)
    return np.clip(moved, 0, np.array([window.size_hw[1] - 1, window.size_hw[0] - 1] * 2))


def jitter_pixels(pixels: NDArray[Any], window: Window) -> NDArray[Any]:
    """Picture (H, W, 3) or mask (H, W) uint8 -> scaled bilinearly, then cut at the window's whole corner."""
    if window.untouched:
        return pixels
    h, w = window.scaled_hw
    scaled = np.asarray(cv2.resize(pixels, (w, h), interpolation=cv2.INTER_LINEAR))
    if not window.cut:
        return scaled
    x, y = (int(c) for c in window.corner_xy)
    return scaled[y : y + window.size_hw[0], x : x + window.size_hw[1]]
