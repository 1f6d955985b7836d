"""The figures of the paper's supplement: attention of chosen contour points (2) and pseudo labels (3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.figures import overlays
from stages.figures.layout import captioned, column, row, text_band
from stages.figures.overlays import BOX, CHOSEN, PREDICTED, TRUTH, Picture

TILE = 288  # longer side of one tile, drawn pixels


@dataclass(frozen=True)
class AttentionRow:
    """One model's view of a sample.

    Attributes:
        points_xy: (P, 2) predicted contour, original pixels.
        chosen: positions in `points_xy` whose attention is shown; None when the model wrote no points and looked once
            for the whole contour (a detector's query).
        maps: (len(chosen) or 1, h, w) float attention over the cells of the picture.
        box_xyxy: (4,) the box that the model wrote, or None.
    """

    label: str
    points_xy: NDArray[np.floating]
    chosen: Sequence[int] | None
    maps: NDArray[np.floating]
    box_xyxy: NDArray[np.floating] | None = None


def attention_figure(
    picture: Picture,
    sentence: str,
    rows: Sequence[AttentionRow],
    truth_xy: NDArray[np.floating] | None = None,
    *,
    tile: int = TILE,
) -> Picture:
    """Sentence on top; then for each model its contour with the chosen points in red, and a map a point (or one for all).

    `truth_xy`: contour (M, 2) of the true mask where it may be shown, drawn in green under the prediction.
    """
    drawn, scale = overlays.enlarged(picture, tile)
    lines = []
    for one in rows:
        first = drawn
        if truth_xy is not None:
            first = overlays.with_contour(first, truth_xy, TRUTH, scale=scale, thickness=2)
        if one.box_xyxy is not None:
            first = overlays.with_box(first, one.box_xyxy, BOX, scale=scale)
        first = overlays.with_filled_contour(first, one.points_xy, PREDICTED, scale=scale, opacity=0.25)
        if one.chosen is not None:
            first = overlays.with_points(first, one.points_xy, PREDICTED, scale=scale, radius=2.5)
            first = overlays.with_points(
                first, one.points_xy[list(one.chosen)], CHOSEN, scale=scale, radius=4
            )
        label = one.label if len(one.points_xy) else f"{one.label}: no contour"
        heats = [overlays.with_heat(drawn, cells) for cells in one.maps]
        if one.chosen is None:
            tiles = [captioned(heat, "attention of the query") for heat in heats]
        else:
            tiles = []
            for position, heat in zip(one.chosen, heats, strict=True):
                heat = overlays.with_points(heat, one.points_xy[[position]], CHOSEN, scale=scale, radius=4)
                tiles.append(captioned(heat, f"point {position + 1} of {len(one.points_xy)}"))
        lines.append(row([captioned(first, label), *tiles]))
    body = column(lines)
    return np.concatenate([text_band(f"“{sentence}”", body.shape[1], size=18, bold=True), body])


def pseudo_label_figure(
    picture: Picture,
    sentence: str,
    box_xyxy: NDArray[np.floating],
    drawn_xy: NDArray[np.floating],
    resampled_xy: NDArray[np.floating] | None,
    truth_xy: NDArray[np.floating] | None,
    captions: tuple[str, str, str],
    *,
    tile: int = TILE,
) -> Picture:
    """Pseudo mask with the known box / resampled pseudo points / true points, side by side.

    A contour that is None leaves its tile with the plain picture; its caption says why.
    """
    base, scale = overlays.enlarged(picture, tile)
    pseudo = overlays.with_filled_contour(base, drawn_xy, PREDICTED, scale=scale)
    tiles = [overlays.with_box(pseudo, box_xyxy, BOX, scale=scale)]
    for points, colour in ((resampled_xy, PREDICTED), (truth_xy, TRUTH)):
        one = base
        if points is not None:
            one = overlays.with_contour(base, points, colour, scale=scale)
            one = overlays.with_points(one, points, colour, scale=scale, radius=3.5)
        tiles.append(one)
    body = row([captioned(t, c) for t, c in zip(tiles, captions, strict=True)])
    return np.concatenate([text_band(f"“{sentence}”", body.shape[1], size=18, bold=True), body])
