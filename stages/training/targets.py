"""Boxes and contours to target tokens and slot weights (METHOD.md sections 2 and 6)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.geometry.quantisation import Quantise, quantise
from stages.models.vocabulary import SequenceLayout


@dataclass(frozen=True)
class SlotWeights:
    """Weight of each kind of slot in the loss."""

    first_box: float = 1.0  # x1 of the box; the release uses 1.5 when a box is trained
    box: float = 1.0
    contour: float = 1.0
    end: float = 0.1


def sequence_targets(
    layout: SequenceLayout,
    boxes_xyxy: NDArray[np.floating],
    points_xy: NDArray[np.floating],
    contour_weight: NDArray[np.floating],
    own_size_hw: NDArray[np.integer],
    weights: SlotWeights,
    quantise: Quantise = quantise,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Target tokens and weights of S sequences.

    Args:
        boxes_xyxy: (S, 4) model pixels.
        points_xy: (S, N, 2) model pixels, NaN = no such point (tail only).
        contour_weight: (S,) weight of a sequence's contour slots; 0 = box only, the contour is not trained.
        own_size_hw: (S, 2) pixels, each image's own padded size.

    Returns:
        tokens (S, T) int64, weights (S, T) float32.
    """
    s = len(boxes_xyxy)
    tokens = np.full((s, layout.length), layout.end, np.int64)
    slot = np.zeros((s, layout.length), np.float32)
    wh = own_size_hw[:, ::-1].astype(np.float64)
    if layout.box:
        box = quantise(boxes_xyxy, np.tile(wh, 2), layout.n_bins)
        tokens[:, layout.box] = box
        slot[:, layout.box] = weights.box
        slot[:, layout.box[0]] = weights.first_box
    if layout.contour:
        missing = np.isnan(points_xy)
        points = quantise(np.where(missing, 0, points_xy), wh[:, None], layout.n_bins)
        points = np.where(missing, layout.end, points).reshape(s, -1)
        tokens[:, layout.contour] = points
        slot[:, layout.contour] = (
            np.where(points == layout.end, weights.end, weights.contour) * contour_weight[:, None]
        )
    for position in layout.ends:
        follows_box = position == len(layout.box)
        slot[:, position] = weights.end if follows_box else weights.end * contour_weight
    return tokens, slot
