"""One answer drawn on its picture: the mask tinted, contour, box, and the phrase below."""

import numpy as np
from numpy.typing import NDArray

from stages.figures.layout import GAP, captioned
from stages.figures.overlays import (
    BOX,
    PREDICTED,
    TRUTH,
    Picture,
    enlarged,
    with_box,
    with_contour,
    with_mask,
)

SMALLEST, LARGEST = 384, 1280  # longer side of what is drawn, pixels
_NARROWEST = 160  # a caption needs some room below a tall picture


def prediction_figure(
    picture: Picture,
    phrase: str,
    *,
    mask: NDArray[np.bool_] | None,
    points_xy: NDArray[np.floating],
    box_xyxy: NDArray[np.floating],
    given_box_xyxy: NDArray[np.floating],
) -> Picture:
    """mask (H, W) or None; ring (P, 2) and boxes (4,) in original pixels, NaN = no box; the given box is green."""
    drawn, scale = enlarged(picture, min(max(*picture.shape[:2], SMALLEST), LARGEST))
    if mask is not None:
        drawn = with_mask(drawn, mask, PREDICTED, opacity=0.35)
    drawn = with_box(drawn, box_xyxy, BOX, scale=scale)
    drawn = with_box(drawn, given_box_xyxy, TRUTH, scale=scale)
    drawn = with_contour(drawn, points_xy, PREDICTED, scale=scale)
    if drawn.shape[1] < _NARROWEST + GAP:
        wider = np.full((drawn.shape[0], _NARROWEST + GAP, 3), 255, np.uint8)
        wider[:, : drawn.shape[1]] = drawn
        drawn = wider
    return captioned(drawn, phrase, size=16)
