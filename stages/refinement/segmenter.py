"""What refinement asks of a segmenter, whatever it comes as, and what all of them share.

A promptable segmenter encodes a photograph once and answers every box in it. P prompts, C masks offered for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.geometry.boxes import pixel_interval

HINT = (
    "give grabcut, a folder with config.json and model.safetensors, a hub id, a folder with an encoder and a decoder "
    "in .onnx files, or both files: ENCODER.onnx,DECODER.onnx"
)
MEAN, STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # of every published SAM, SAM 2 and their small students


class Segmenter(Protocol):
    """Masks for boxes."""

    def encode(self, picture: NDArray[np.uint8]) -> Any:
        """(H, W, 3) RGB -> whatever `segment` takes."""

    def segment(
        self, encoded: Any, boxes_xyxy: NDArray[np.floating], starts: NDArray[np.bool_]
    ) -> tuple[Iterable[NDArray[np.bool_]], Iterable[NDArray[np.float32]]]:
        """P times masks (C, H, W) and the segmenter's own estimate of their IoU (C,), NaN if it has none.

        boxes_xyxy (P, 4): pixels of the original image. starts (P, H, W): the masks to be refined, none empty.
        """


@dataclass(frozen=True)
class Frame:
    """How a photograph lies in a segmenter's square input.

    Attributes:
        side: pixels of the input, both ways.
        own_hw: the part of it, from the top left, that is photograph; the rest is zeros.
        size_hw: of the photograph.
    """

    side: int
    own_hw: tuple[int, int]
    size_hw: tuple[int, int]

    @classmethod
    def of(cls, size_hw: tuple[int, int], side: int, *, stretch: bool) -> Frame:
        """stretch: both sides are made `side` (SAM 2); else only the longer one (SAM)."""
        scale = side / max(size_hw)
        shorter = [max(1, int(n * scale + 0.5)) for n in size_hw]
        return cls(side, (side, side) if stretch else (shorter[0], shorter[1]), size_hw)

    @property
    def scale_xy(self) -> NDArray[np.float64]:
        """(2,) input pixels per pixel of the photograph."""
        return np.array(self.own_hw[::-1], np.float64) / np.array(self.size_hw[::-1], np.float64)

    def resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) -> (*own_hw, 3)."""
        shrinks = self.own_hw[0] < self.size_hw[0] or self.own_hw[1] < self.size_hw[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(picture, self.own_hw[::-1], interpolation=how), np.uint8)

    def canvas(
        self,
        picture: NDArray[np.uint8],
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
        factor: float = 1 / 255,
    ) -> NDArray[np.float32]:
        """(H, W, 3) RGB -> (1, 3, side, side): resized, (x * factor - mean) / std, zeros at the bottom or right."""
        scale = (factor / np.array(std)).astype(np.float32)
        shift = (np.array(mean) / np.array(std)).astype(np.float32)
        canvas = np.zeros((1, 3, self.side, self.side), np.float32)
        own = canvas[0, :, : self.own_hw[0], : self.own_hw[1]]
        np.multiply(self.resized(picture).transpose(2, 0, 1), scale[:, None, None], out=own)
        own -= shift[:, None, None]
        return canvas

    def masks(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Logits (P, C, h, w) over the whole input -> masks (P, C, H, W) of the photograph, bilinear between cells."""
        height, width = self.size_hw
        per_pixel = self.scale_xy * np.array(logits.shape[:-3:-1]) / self.side  # cells per pixel, x y
        lies = np.array(
            [[per_pixel[0], 0, per_pixel[0] / 2 - 0.5], [0, per_pixel[1], per_pixel[1] / 2 - 0.5]]
        )
        flat = np.ascontiguousarray(logits, np.float32).reshape(-1, *logits.shape[-2:])
        out = np.empty((len(flat), height, width), np.bool_)
        for one, mask in zip(flat, out, strict=True):
            full = cv2.warpAffine(
                one, lies, (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            np.greater(full, 0, out=mask)
        return out.reshape(*logits.shape[:2], height, width)


def cut_to_box(masks: NDArray[np.bool_], box_xyxy: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Masks (..., H, W) without the pixels whose centres lie outside the box (4,)."""
    starts, stops = pixel_interval(box_xyxy[:2], box_xyxy[2:], masks.shape[:-3:-1])
    inside = (..., slice(int(starts[1]), int(stops[1])), slice(int(starts[0]), int(stops[0])))
    cut = np.zeros_like(masks)
    cut[inside] = masks[inside]
    return cut


def interior_points(mask: NDArray[np.bool_], n: int) -> NDArray[np.float32]:
    """n pixel centres deep inside a mask (H, W) that is not empty, and apart from each other: (n, 2) float32 xy.

    Each is the largest of min(distance to the border, distance to the points before it); a mask of fewer pixels gives
    some twice.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    window = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    # a frame of one empty pixel, so that the edge of the window is a border, too
    depth = cv2.distanceTransform(np.pad(window, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.mgrid[: window.shape[0], : window.shape[1]]
    points = np.zeros((n, 2), np.float32)
    for k in range(n):
        at = int(depth.argmax())
        v, u = divmod(at, window.shape[1])
        points[k] = (u + left + 0.5, v + top + 0.5)
        if depth.flat[at] > 0:
            depth = np.minimum(depth, np.hypot(x - u, y - v))
        else:  # every pixel is taken
            points[k] = points[0]
    return points
