"""Large-scale jitter: which part of a training image is shown, and how large. One function a rule, named in `RULES`."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from stages.data.release_pipeline import choose_window
from stages.data.transforms import Augmentation, Frame, plain_frame


def random_frame(
    rng: np.random.Generator,
    size_hw: tuple[int, int],
    size: int,
    augmentation: Augmentation,
    keep_xyxy: NDArray[np.floating],
) -> Frame:
    """A random frame of an image of `size_hw` pixels; `keep_xyxy` (4,), original pixels, is the box that it is to show."""
    mirrored = bool(rng.random() < augmentation.mirror)
    jitter = (augmentation.jitter_min, augmentation.jitter_max)
    if jitter == (1.0, 1.0):
        frame = plain_frame(*size_hw, size)
    else:
        frame = RULES[augmentation.jitter_rule](rng, size_hw, size, jitter, keep_xyxy)
    return dataclasses.replace(frame, mirrored=mirrored)


def window_with_box(
    rng: np.random.Generator,
    size_hw: tuple[int, int],
    size: int,
    jitter: tuple[float, float],
    keep_xyxy: NDArray[np.floating],
) -> Frame:
    """Scale by U(jitter), then show a random window of at most `size` pixels that contains the box as far as it fits."""
    height, width = size_hw
    scale = rng.uniform(*jitter) * size / max(height, width)
    span = [min(length, size / scale) for length in (width, height)]
    start, stop = [], []
    for axis, (length, shown) in enumerate(zip((width, height), span, strict=True)):
        low = max(0.0, min(keep_xyxy[2 + axis] - shown, length - shown))
        high = min(max(float(keep_xyxy[axis]), 0.0), length - shown)
        begin = rng.uniform(min(low, high), max(low, high))
        start.append(int(begin))
        stop.append(min(length, int(begin) + max(1, int(shown))))
    shown_hw = (max(1, round((stop[1] - start[1]) * scale)), max(1, round((stop[0] - start[0]) * scale)))
    return Frame((start[0], start[1], stop[0], stop[1]), (min(shown_hw[0], size), min(shown_hw[1], size)))


def window_as_released(
    rng: np.random.Generator,
    size_hw: tuple[int, int],
    size: int,
    jitter: tuple[float, float],
    keep_xyxy: NDArray[np.floating],
) -> Frame:
    """The release's choice of scale and window, as a frame whose corners are whole original pixels.

    Where the release gives up and hands on the picture unscaled with a wrong size (ODDITIES E3), the whole picture is
    shown at model size; boxes move with the window that is shown, not with the last one tried (E2).
    """
    height, width = size_hw
    window = choose_window(rng.random, size_hw, size, keep_xyxy, jitter=jitter)
    if window.untouched:
        return plain_frame(height, width, size)
    if not window.cut:
        return Frame((0, 0, width, height), (max(1, window.scaled_hw[0]), max(1, window.scaled_hw[1])))
    scale_x, scale_y = window.scaled_hw[1] / width, window.scaled_hw[0] / height
    x, y = int(window.corner_xy[0] / scale_x), int(window.corner_xy[1] / scale_y)
    right = min(width, x + max(1, round(window.size_hw[1] / scale_x)))
    bottom = min(height, y + max(1, round(window.size_hw[0] / scale_y)))
    return Frame((x, y, right, bottom), window.size_hw)


RULES = {"keep": window_with_box, "release": window_as_released}
