"""Rotation of a picture and of a contour in it about a point (augmentation of the few masks)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stages.data.transforms import Frame, Image, render
from stages.geometry.boxes import box_iou_pairwise, polygon_extent

# A contour tells how its box turns only if it reaches the box: one part of an object in several parts does not.
SPANS_ITS_BOX = 0.8


@dataclass(frozen=True)
class Turn:
    """Rotation by `degrees` (positive = clockwise on the screen, y down) about `centre_xy`, original pixels."""

    degrees: float
    centre_xy: tuple[float, float]

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3): original pixels (x, y, 1) -> pixels of the turned picture."""
        angle = np.radians(self.degrees)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = np.array(self.centre_xy)
        return np.column_stack([rotation, centre - rotation @ centre])

    def points(self, points_xy: NDArray[np.floating]) -> NDArray[np.float32]:
        """(P, 2) original pixels -> (P, 2) pixels of the turned picture, in the same order."""
        m = self.matrix
        return (np.asarray(points_xy, np.float64) @ m[:, :2].T + m[:, 2]).astype(np.float32)

    def render(self, image: Image, frame: Frame) -> Image:
        """The frame's window of the turned picture, as `transforms.render`; black where the picture ends.

        A window that is enlarged is read from the picture in one interpolation; one that shrinks is read at its own
        resolution first, so that every pixel counts.
        """
        import cv2

        x0, y0, x1, y1 = frame.window_xyxy
        h, w = frame.size_hw
        if h * w < (x1 - x0) * (y1 - y0):
            w, h = x1 - x0, y1 - y0
        scale = np.array([[w / (x1 - x0)], [h / (y1 - y0)]])
        m = self.matrix.copy()
        m[:, 2] -= (x0, y0)
        m = m * scale
        m[:, 2] += m[:, :2].sum(1) * 0.5 - 0.5  # cv2 puts a pixel's centre, we its corner, at whole numbers
        part = np.asarray(cv2.warpAffine(image, m, (w, h), flags=cv2.INTER_LINEAR), np.uint8)
        return render(part, Frame((0, 0, w, h), frame.size_hw, frame.mirrored))


def random_turn(
    rng: np.random.Generator, ring_xy: NDArray[np.floating], box_xyxy: NDArray[np.floating], most: float
) -> Turn | None:
    """A turn by U(-most, most) degrees about the box's centre; None without a contour (M, 2) that spans the box."""
    if most <= 0 or len(ring_xy) < 3:
        return None
    if box_iou_pairwise(polygon_extent(ring_xy)[None], np.asarray(box_xyxy)[None])[0] < SPANS_ITS_BOX:
        return None
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    return Turn(float(rng.uniform(-most, most)), ((x0 + x1) / 2, (y0 + y1) / 2))
