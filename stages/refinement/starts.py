"""Pseudo labels before anything is known but the box: the box itself, or the ellipse inscribed in it.

The ellipse is the better guess of most things (METHOD.md section 6). Each sentence of a referent gets a row. There is no
model: no tokens, and nothing doubts the box, so each confidence is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.ragged import Ragged, offsets_of, pack
from stages.artifacts.writer import ArtifactWriter
from stages.data.dataset import ReferringDataset
from stages.geometry.boxes import ellipse_in
from stages.geometry.polygons import polygon_scores

Shape = Literal["ellipse", "box"]
POINTS = 40  # of an ellipse: IoU 0.996 with the curve
NO_MODEL = "none"  # as model_digest
_PIECE = 8192


@dataclass(frozen=True)
class Starts:
    """S rows: the columns of a pseudo_points artifact and its contours."""

    shape: Shape
    columns: dict[str, NDArray[np.generic]]
    points: Ragged
    values: NDArray[np.float32]  # all points, (T, 2)

    @property
    def attributes(self) -> dict[str, str | int]:
        return {"model_digest": NO_MODEL, "prompt": "box", "start": self.shape, "n_points": POINTS}

    def write(self, w: ArtifactWriter) -> None:
        """Everything but `dataset_digest` and the summary."""
        for name, value in self.attributes.items():
            w.attr(name, value)
        for name, column in self.columns.items():
            w.column(name, column)
        w.ragged("points_xy", self.values, self.points.offsets)


def starts_from_boxes(data: ReferringDataset, sentences: NDArray[np.int64], shape: Shape) -> Starts:
    """Rows of the sentences, in their order; a box without area gives no contour."""
    referents = data.sentence_referent[sentences]
    boxes = data.boxes_xyxy[referents]
    sizes = data.image_sizes_hw[data.referent_image[referents]]
    n = len(sentences)
    pieces, lengths, scores = [], np.zeros(n, np.int64), np.zeros(n, np.float32)
    for begin in range(0, n, _PIECE):  # lists of contours and float64 of a few only
        rows = slice(begin, begin + _PIECE)
        piece, ends = pack([contour_in(box, shape) for box in boxes[rows]], np.float32, (2,))
        lengths[rows] = np.diff(ends)
        scores[rows] = polygon_scores(piece.astype(np.float64), ends, boxes[rows], sizes[rows])
        pieces.append(piece)
    values = np.concatenate(pieces) if pieces else np.zeros((0, 2), np.float32)
    points = Ragged.from_arrays(values, offsets_of(lengths), "points_xy")
    columns: dict[str, NDArray[np.generic]] = {
        "referent_index": referents.astype(np.int64),
        "sentence_index": sentences.astype(np.int64),
        "tokens": np.zeros((n, 0), np.int32),
        "token_probability": np.zeros((n, 0), np.float32),
        "box_xyxy": boxes.astype(np.float32),
        "projection_score": scores,
        "confidence": np.ones(n, np.float32),
    }
    return Starts(shape, columns, points, values)


def contour_in(box_xyxy: NDArray[np.floating], shape: Shape) -> NDArray[np.float32]:
    """(P, 2) of one box (4,)."""
    x1, y1, x2, y2 = np.asarray(box_xyxy, np.float64)
    if not (x2 > x1 and y2 > y1):
        return np.zeros((0, 2), np.float32)
    if shape == "ellipse":
        return ellipse_in(box_xyxy, POINTS)
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float32)


def box_only(
    data: ReferringDataset, splits: Sequence[str], visible: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Sentences of the referents of these splits (none named: all) whose mask is not visible; no `visible`: of all."""
    chosen = np.zeros(len(data.boxes_xyxy), np.bool_)
    for name in splits or data.split_names:
        chosen[data.referents_in(name)] = True
    if visible is not None:
        chosen &= ~visible
    return data.sentences_of(np.flatnonzero(chosen))
