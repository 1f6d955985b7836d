"""Edges by colour: GrabCut (Rother et al. 2004) between the middle of a first mask and the known box.

Needs no weights. Colours inside and outside are two mixtures of Gaussians, a cut through the pixels' graph separates
them where neighbours differ. It knows nothing about objects: the contour says what to look for, the box where it ends.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.geometry.boxes import pixel_interval

MARGIN = 0.2  # ground seen on each side of the box, of its longer side
# px of that window's longer side, at least and at most: a cut through few pixels loses small objects
LONGER_SIDE = (128, 256)
CORE = 0.3  # the deepest part of the contour is object for certain: the share of its depth, from the inside
ITERATIONS = 2


class GrabCut:
    """`Segmenter` that looks at colours alone, at so many objects of a picture at once as there are threads."""

    def __init__(self, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads)  # OpenCV works without Python's lock

    def encode(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture itself."""
        return picture

    def segment(
        self, encoded: NDArray[np.uint8], boxes_xyxy: NDArray[np.floating], starts: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """One mask a prompt, without an estimate of its IoU (NaN). See `Segmenter`."""
        masks = list(self._pool.map(cut, repeat(encoded), boxes_xyxy, starts))
        return np.stack(masks)[:, None], np.full((len(masks), 1), np.nan, np.float32)


def cut(
    picture: NDArray[np.uint8], box_xyxy: NDArray[np.floating], drawn: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The object in a box.

    Args:
        picture: (H, W, 3) RGB.
        box_xyxy: (4,) pixels; nothing outside it is object.
        drawn: (H, W) about where the object is, not empty; stretched to the box first.

    Returns:
        (H, W); `drawn`, stretched, where the box leaves no ground to compare with.
    """
    h, w = picture.shape[:2]
    box = _pixels(box_xyxy, h, w)
    margin = round(MARGIN * max(box[2] - box[0], box[3] - box[1]))
    x0, y0 = max(0, box[0] - margin), max(0, box[1] - margin)
    x1, y1 = min(w, box[2] + margin), min(h, box[3] + margin)
    scale = np.clip(max(x1 - x0, y1 - y0), *LONGER_SIDE) / max(x1 - x0, y1 - y0)
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    window = cv2.resize(
        picture[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    inner = _pixels((np.asarray(box) - (x0, y0, x0, y0)) * scale, size[1], size[0])
    labels = first_guess(size, inner, drawn)
    if 0 < np.count_nonzero(labels & 1) < labels.size:  # object and ground, both
        cv2.setRNGSeed(0)  # the mixtures start from a random clustering
        state = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(window, labels, None, *state, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    mask = np.zeros((h, w), np.bool_)
    mask[y0:y1, x0:x1] = _resized(labels & 1 == 1, (x1 - x0, y1 - y0))
    return mask


def first_guess(
    size_wh: tuple[int, int], box: tuple[int, int, int, int], drawn: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """OpenCV's labels (h, w), odd for object: ground outside the box, a guess in it, certainly object at the core."""
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    tight = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x0, y0, x1, y1 = box
    object_ = _resized(tight, (x1 - x0, y1 - y0))
    # a frame of one empty pixel, so that the box is a border, too
    depth = cv2.distanceTransform(np.pad(object_, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    labels = np.full(size_wh[::-1], cv2.GC_BGD, np.uint8)
    inner = np.where(object_, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    labels[y0:y1, x0:x1] = np.where(depth > (1 - CORE) * depth.max(), cv2.GC_FGD, inner)
    return labels


def _pixels(box_xyxy: NDArray[np.floating], h: int, w: int) -> tuple[int, int, int, int]:
    """The pixels of a box: x0, y0, x1, y1, at least one each way, inside the picture."""
    starts, stops = pixel_interval(box_xyxy[:2], box_xyxy[2:], (w, h))
    x0, y0 = (int(v) for v in np.minimum(starts, (w - 1, h - 1)))
    return x0, y0, max(x0 + 1, int(stops[0])), max(y0 + 1, int(stops[1]))


def _resized(mask: NDArray[np.bool_], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    soft = cv2.resize(mask.astype(np.uint8) * 255, size_wh, interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft >= 128)
