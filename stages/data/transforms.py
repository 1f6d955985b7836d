"""Between original pixels and the model's frame: resize, pad, and the training augmentations.

The model frame of an image: longer side scaled to `size`, ratio kept, padded at the bottom and right to its own
multiple of `multiple`. Everything here keeps boxes and points in ORIGINAL pixels until `Frame.to_model`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.config import in_panel

Image = NDArray[np.uint8]  # (H, W, 3) RGB


def model_frame_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) in pixels after scaling the longer side to `size` (at least 1 pixel each)."""
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def padded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


@dataclass(frozen=True)
class Frame:
    """An affine map original -> model frame, and what part of the original it shows.

    Attributes:
        window_xyxy: integer pixels of the original that are shown (the whole image without augmentation).
        size_hw: pixels of that window in the model frame.
        mirrored: flipped left-right after the crop.
    """

    window_xyxy: tuple[int, int, int, int]
    size_hw: tuple[int, int]
    mirrored: bool = False

    def padded_hw(self, multiple: int) -> tuple[int, int]:
        """Its own padded size: pixels that token coordinates refer to."""
        return padded(self.size_hw[0], multiple), padded(self.size_hw[1], multiple)

    @property
    def scale_xy(self) -> NDArray[np.float64]:
        x0, y0, x1, y1 = self.window_xyxy
        return np.array([self.size_hw[1] / (x1 - x0), self.size_hw[0] / (y1 - y0)])

    def to_model(self, points_xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., 2) original pixels -> model pixels."""
        out = (np.asarray(points_xy, np.float64) - self.window_xyxy[:2]) * self.scale_xy
        if self.mirrored:
            out[..., 0] = self.size_hw[1] - out[..., 0]
        return out

    def to_original(self, points_xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Inverse of `to_model`."""
        out = np.array(points_xy, np.float64)
        if self.mirrored:
            out[..., 0] = self.size_hw[1] - out[..., 0]
        return out / self.scale_xy + self.window_xyxy[:2]

    def boxes_to_model(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
        """(S, 4) original -> (S, 4) model pixels, clipped to the shown window, x1 <= x2."""
        corners = self.to_model(np.asarray(boxes_xyxy, np.float64).reshape(-1, 2, 2))
        low, high = corners.min(1), corners.max(1)
        limit = np.array([self.size_hw[1], self.size_hw[0]], np.float64)
        return np.concatenate((low.clip(0, limit), high.clip(0, limit)), 1)

    def shows(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
        """(S,) share of each box's area inside the window."""
        b = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        w = np.array(self.window_xyxy, np.float64)
        inside = (np.minimum(b[:, 2:], w[2:]) - np.maximum(b[:, :2], w[:2])).clip(0).prod(1)
        return np.asarray(inside / (b[:, 2:] - b[:, :2]).prod(1).clip(1e-9))


def plain_frame(height: int, width: int, size: int) -> Frame:
    """The whole image, as used in validation and prediction."""
    return Frame((0, 0, width, height), model_frame_size(height, width, size))


_augmentation = in_panel("Augmentation")
_crop = in_panel("Crop refinement")
_release = in_panel("Release compatibility")


@dataclass(frozen=True)
class Augmentation:
    """What happens to training images; the neutral values switch a part off."""

    jitter_min: float = _augmentation(
        1.0, "smallest scale of an image, relative to the model's size", min=0.05, max=1.0
    )
    jitter_max: float = _augmentation(
        1.0, "largest scale; above 1 a window of the image is shown", min=1.0, max=4.0
    )
    jitter_rule: Literal["keep", "release"] = _release(
        "keep", "window shown: one that holds a referent, or random ones until enough of it shows"
    )
    colour: float = _augmentation(
        0.1, "strength of noise in brightness, contrast and tint; 0 = off", min=0.0, max=1.0
    )
    zoom_jitter: float = _crop(
        0.15, "noise of the window's place and size, as a share of its side", min=0.0, max=0.5
    )
    mirror: float = _augmentation(
        0.0, "chance of a flip; left and right change places in the expression", min=0.0, max=1.0
    )
    shuffle_points: float = _release(
        0.0, "share of contours with points in random order; SeqTR: 0.2 for RefCOCO+/g", min=0.0, max=1.0
    )


def zoom_frame(
    box_xyxy: NDArray[np.floating],
    size: int,
    margin: float,
    *,
    shift_xy: tuple[float, float] = (0.0, 0.0),
    mirrored: bool = False,
) -> Frame:
    """A square window around a box, `margin` of its longer side wider on each side, shown at `size` pixels.

    It may reach beyond the image (`render` paints that black). `shift_xy` moves it, in shares of its side.
    """
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    side = max(x1 - x0, y1 - y0, 4.0) * (1 + 2 * margin)
    pixels = max(4, round(side))
    left = round((x0 + x1 - side) / 2 + shift_xy[0] * side)
    top = round((y0 + y1 - side) / 2 + shift_xy[1] * side)
    return Frame((left, top, left + pixels, top + pixels), (size, size), mirrored)


def random_zoom(
    rng: np.random.Generator,
    box_xyxy: NDArray[np.floating],
    size: int,
    margin: float,
    augmentation: Augmentation,
) -> Frame:
    """`zoom_frame` around a box as a locator might have drawn it: other margin, moved, perhaps mirrored."""
    j = augmentation.zoom_jitter
    wide = (1 + 2 * margin) * np.exp(rng.uniform(-j, j)) - 1
    shift = (float(rng.uniform(-j, j)) / 2, float(rng.uniform(-j, j)) / 2)
    return zoom_frame(
        box_xyxy, size, float(wide) / 2, shift_xy=shift, mirrored=bool(rng.random() < augmentation.mirror)
    )


def _cut(image: Image, window_xyxy: tuple[int, int, int, int]) -> Image:
    """The window of an image, black where it reaches beyond."""
    x0, y0, x1, y1 = window_xyxy
    height, width = image.shape[:2]
    inside = image[max(y0, 0) : max(min(y1, height), 0), max(x0, 0) : max(min(x1, width), 0)]
    if inside.shape[:2] == (y1 - y0, x1 - x0):
        return inside
    out = np.zeros((y1 - y0, x1 - x0, *image.shape[2:]), np.uint8)
    if inside.size:
        top, left = max(-y0, 0), max(-x0, 0)
        out[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return out


def render(image: Image, frame: Frame) -> Image:
    """The frame's window of an image at model resolution, (h, w, 3) uint8, without padding."""
    import cv2  # here, because the options of training are declared in this module and read for --help

    h, w = frame.size_hw
    part = _cut(image, frame.window_xyxy)
    if part.shape[:2] != (h, w):
        shrinking = h * w < part.shape[0] * part.shape[1]
        part = np.asarray(
            cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR),
            np.uint8,
        )
    return np.ascontiguousarray(part[:, ::-1] if frame.mirrored else part)


def on_canvas(
    pictures: Sequence[Image], multiple: int, least_hw: tuple[int, int] = (1, 1)
) -> NDArray[np.uint8]:
    """Pictures (h, w, 3) at the top left of one canvas (I, H, W, 3), black beside them; its sides are multiples."""
    height, width = (
        padded(max(least_hw[axis], *(p.shape[axis] for p in pictures)), multiple) for axis in (0, 1)
    )
    canvas = np.zeros((len(pictures), height, width, 3), np.uint8)
    for place, picture in zip(canvas, pictures, strict=True):
        place[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def colour_noise(rng: np.random.Generator, image: Image, strength: float) -> Image:
    """Brightness, contrast and per-channel tint, as one lookup table a channel."""
    import cv2

    if strength <= 0:
        return image
    gain = 1 + rng.uniform(-strength, strength) + rng.uniform(-strength, strength, 3) * 0.3
    shift = 255 * rng.uniform(-strength, strength) * 0.5
    ramp = np.arange(256, dtype=np.float64)[:, None]
    table = ((ramp - 128) * gain + 128 + shift).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table.reshape(256, 1, 3)), np.uint8)
