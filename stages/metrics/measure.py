"""Measure predictions sentence by sentence: boxes, masks and the trivial rows that a method has to beat
(METHOD.md 6, 7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.geometry.rasterise import (
    Rle,
    box_to_rle,
    ellipse_to_rle,
    empty_rle,
    mask_to_rle,
    polygon_to_rle,
    resize_mask_nearest,
)
from stages.geometry.resampling import mask_to_points
from stages.metrics.comprehension import summarise_box_iou
from stages.metrics.segmentation import Overlaps, overlaps, summarise_masks

Points = NDArray[np.floating]


class Frame(Protocol):
    """Where the masks of one image are compared: a size, and the way there from original pixels."""

    @property
    def size_hw(self) -> tuple[int, int]: ...

    def points(self, points_xy: Points) -> Points: ...

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]: ...


@dataclass(frozen=True)
class OriginalFrame:
    """The image's own pixels."""

    size_hw: tuple[int, int]

    def points(self, points_xy: Points) -> Points:
        return points_xy

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return mask


@dataclass(frozen=True)
class ModelFrame:
    """The resized and padded picture that the model sees, as the release measures: the true mask is resized
    by nearest neighbour, and what a prediction covers of the padding counts against it."""

    original_hw: tuple[int, int]
    scaled_hw: tuple[int, int]
    padded_hw: tuple[int, int]

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.padded_hw

    def points(self, points_xy: Points) -> Points:
        scale = np.array(self.scaled_hw[::-1]) / np.array(self.original_hw[::-1])
        return np.asarray(points_xy * scale)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        padded = np.zeros(self.padded_hw, dtype=bool)
        padded[: self.scaled_hw[0], : self.scaled_hw[1]] = resize_mask_nearest(mask, self.scaled_hw)
        return padded


@dataclass
class MaskScores:
    """Overlaps with the true masks of S sentences, one `Overlaps` a row of the table."""

    rows: dict[str, Overlaps]
    rles: list[Rle]  # the model's masks, in the frame they were measured in


def predicted_rle(points_xy: Points, frame: Frame) -> Rle:
    """The mask that predicted points draw: original pixels -> mask in the frame."""
    return polygon_to_rle(frame.points(np.asarray(points_xy, dtype=np.float64)), frame.size_hw)


def framed_box(box_xyxy: Points, frame: Frame) -> NDArray[np.float64]:
    """A box in original pixels -> in the frame (NaN stays NaN)."""
    return np.asarray(
        frame.points(np.asarray(box_xyxy, dtype=np.float64).reshape(2, 2)), dtype=np.float64
    ).reshape(4)


def measure_masks(
    predicted: Sequence[Rle],
    predicted_boxes_xyxy: Points,
    true_boxes_xyxy: Points,
    referents: NDArray[np.int64],
    true_mask: Callable[[int], NDArray[np.bool_]],
    frame_of: Callable[[int], Frame],
    n_points: int,
) -> MaskScores:
    """All rows of the mask table for S sentences.

    Args:
        predicted: S masks in the frame.
        predicted_boxes_xyxy, true_boxes_xyxy: (S, 4) original pixels.
        referents: (S,) the referent of each sentence; what belongs to a referent is made once for its
            sentences (they should be neighbours).
        true_mask, frame_of: of a referent, in original pixels.
        n_points: points of the upper bound true mask -> points -> mask.
    """
    shapes: dict[str, list[Rle]] = {key: [] for key in ("filled_box", "ellipse", *_OF_REFERENT)}
    truth: list[Rle] = []
    known: tuple[int, dict[str, Rle]] = (-1, {})
    for i, referent in enumerate(referents.tolist()):
        frame = frame_of(referent)
        if known[0] != referent:
            known = (referent, _of_referent(true_mask(referent), true_boxes_xyxy[i], frame, n_points))
        truth.append(known[1]["truth"])
        for key in _OF_REFERENT:
            shapes[key].append(known[1][key])
        box = framed_box(predicted_boxes_xyxy[i], frame)
        shapes["filled_box"].append(box_to_rle(box, frame.size_hw))
        shapes["ellipse"].append(ellipse_to_rle(box, frame.size_hw))
    rows = {
        "model": overlaps(predicted, truth),
        **{key: overlaps(rles, truth) for key, rles in shapes.items()},
    }
    return MaskScores(rows, list(predicted))


_OF_REFERENT = ("true_filled_box", "true_ellipse", "upper_bound")


def _of_referent(mask: NDArray[np.bool_], box_xyxy: Points, frame: Frame, n_points: int) -> dict[str, Rle]:
    framed = frame.mask(mask)
    box = framed_box(box_xyxy, frame)
    contour = mask_to_points(framed, n_points)
    return {
        "truth": mask_to_rle(framed),
        "true_filled_box": box_to_rle(box, frame.size_hw),
        "true_ellipse": ellipse_to_rle(box, frame.size_hw),
        "upper_bound": polygon_to_rle(contour, frame.size_hw) if len(contour) else empty_rle(frame.size_hw),
    }


def summarise_split(
    images: NDArray[np.int64],
    referents: NDArray[np.int64],
    box_iou: NDArray[np.float64] | None,
    masks: MaskScores | None,
    masked: NDArray[np.bool_],
) -> dict[str, Any]:
    """The table of one split: counts, `rec` (None when boxes were given), `res` by row (None without masks).

    `images`, `referents`, `masked` (S,) belong to the sentences; `masks` to the masked ones of them.
    """
    with_mask = len(np.unique(referents[masked]))
    n_referents = len(np.unique(referents))
    return {
        "n_images": len(np.unique(images)),
        "n_referents": n_referents,
        "n_sentences": len(referents),
        "n_mask_referents": with_mask if masks is not None else 0,
        "n_mask_sentences": int(masked.sum()) if masks is not None else 0,
        "n_referents_without_mask": n_referents - with_mask if masks is not None else None,
        "rec": summarise_box_iou(box_iou) if box_iou is not None else None,
        "res": {key: summarise_masks(rows) for key, rows in masks.rows.items()}
        if masks is not None
        else None,
    }
