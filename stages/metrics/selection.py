"""Pseudo labels as columns: read and score them piece by piece, choose a sentence a referent, resample
(METHOD.md RPP).

Work and memory grow with the number of rows: points and masks are read in pieces, only a few numbers a row
stay.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.ragged import Ragged
from stages.artifacts.reader import Artifact
from stages.geometry.contours import largest_outer_contour
from stages.geometry.fit import fit_extent_to_box
from stages.geometry.polygons import curve_through, polygon_scores, resample_polygons
from stages.geometry.projection import projection_scores
from stages.geometry.rasterise import Rle, checked_rle, polygon_to_rle, rle_area, rle_to_mask
from stages.geometry.resampling import mask_to_points, resample_uniform
from stages.reporter import Reporter, SilentReporter

SCORE_BINS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
NOTHING_DRAWN = 2.0  # the score of an empty mask
_PIECE = 8192
_PIECES = 8  # of the curve between two drawn points


@dataclass
class Candidates:
    """S pseudo labels, one a (referent, sentence)."""

    referent: NDArray[np.int64]  # (S,)
    sentence: NDArray[np.int64]  # (S,)
    confidence: NDArray[np.float32]  # (S,)
    score: NDArray[np.float64]  # (S,) projection score, NOTHING_DRAWN where nothing is drawn
    drawn: NDArray[np.bool_]  # (S,) False: fewer than two points and no mask
    n_points: int  # as many as the model draws
    boxes_xyxy: NDArray[np.float64]  # (S, 4) the known boxes, original pixels
    sizes_hw: NDArray[np.int64]  # (S, 2)
    pseudo: Artifact | None  # None: rows that lie in memory, which are not resampled
    points: Ragged
    masks: Ragged | None


def read_candidates(dataset: Artifact, pseudo: Artifact, reporter: Reporter | None = None) -> Candidates:
    """Columns of the pseudo labels with their scores against the dataset's boxes.

    A row without points that has a mask is scored by its mask.

    Raises:
        ArtifactError: a referent the dataset does not have, or points that are not finite.
    """
    referent = pseudo["referent_index"].astype(np.int64)
    boxes = dataset["referents/box_xyxy"]
    pseudo.require_rows_of(dataset)
    points = pseudo.ragged("points_xy")
    masks = pseudo.ragged("masks/rle") if "masks/rle" in pseudo else None
    drawn = points.lengths >= 2
    if masks is not None:
        drawn = drawn | (masks.lengths > 0)
    widest = int(points.lengths.max(initial=0))
    c = Candidates(
        referent=referent,
        sentence=pseudo["sentence_index"].astype(np.int64),
        confidence=pseudo["confidence"].astype(np.float32),
        score=np.full(len(referent), NOTHING_DRAWN),
        drawn=drawn,
        n_points=pseudo.whole_attr("n_points", max(3, widest), low=3, high=10_000),
        boxes_xyxy=boxes[referent].astype(np.float64),
        sizes_hw=dataset.referent_sizes_hw()[referent],
        pseudo=pseudo,
        points=points,
        masks=masks,
    )
    with (reporter or SilentReporter()).progress("score", len(referent), unit="sentence") as task:
        for begin in range(0, len(referent), _PIECE):
            rows = np.arange(begin, min(begin + _PIECE, len(referent)))
            _score_piece(c, rows)
            task.advance(len(rows))
    return c


def best_sentences(candidates: Candidates, min_confidence: float = 0.0) -> NDArray[np.int64]:
    """One row a referent, in ascending order of referents: (K,) int64.

    Rows that draw something before those that do not, confident enough before not, then the lowest score,
    then the highest confidence, then the first sentence.
    """
    c = candidates
    unsure = ~(c.confidence >= min_confidence)
    order = np.lexsort((c.sentence, -np.nan_to_num(c.confidence), c.score, unsure, ~c.drawn, c.referent))
    _, first = np.unique(c.referent[order], return_index=True)
    return order[first].astype(np.int64)


def resample_rows(
    candidates: Candidates,
    rows: NDArray[np.int64],
    n: int,
    *,
    fit: bool = False,
    curve: bool = False,
    reporter: Reporter | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Connect, fill, take the contour, n points at equal distances: ((K, n, 2) float32, found (K,) bool).

    `fit` stretches each shape to its box first; `curve` bends the edges between its points. Rows should
    ascend, so that they are read in order.
    """
    result = np.full((len(rows), n, 2), np.nan, dtype=np.float32)
    with (reporter or SilentReporter()).progress("resample", len(rows), unit="referent") as task:
        for begin in range(0, len(rows), _PIECE):
            piece = np.sort(rows[begin : begin + _PIECE])
            back = np.argsort(np.argsort(rows[begin : begin + _PIECE]))
            result[begin : begin + len(piece)] = _resample_piece(candidates, piece, n, fit, curve)[back]
            task.advance(len(piece))
    return result, np.asarray(np.isfinite(result).all(axis=(1, 2)))


def row_mask(c: Candidates, row: int) -> Rle:
    """The mask of one row: the one it has, else its filled points."""
    if len(_masked(c, np.array([row], np.int64))):
        return _rle(c, row)
    return polygon_to_rle(c.points[row], (int(c.sizes_hw[row][0]), int(c.sizes_hw[row][1])))


def _score_piece(c: Candidates, rows: NDArray[np.int64]) -> None:
    points, offsets = _points_of(c, rows)
    c.score[rows] = polygon_scores(points, offsets, c.boxes_xyxy[rows], c.sizes_hw[rows])
    by_mask = _masked(c, rows)
    if len(by_mask):
        rles = [_rle(c, int(row)) for row in by_mask]
        c.score[by_mask] = projection_scores(rles, c.boxes_xyxy[by_mask])
        c.drawn[by_mask] = [rle_area(rle) > 0 for rle in rles]


def _resample_piece(
    c: Candidates, rows: NDArray[np.int64], n: int, fit: bool, curve: bool
) -> NDArray[np.float32]:
    points, offsets = _points_of(c, rows)
    if fit:
        for i, row in enumerate(rows):
            part = slice(offsets[i], offsets[i + 1])
            points[part] = fit_extent_to_box(points[part], c.boxes_xyxy[row])
    if curve:
        rings = [curve_through(ring, _PIECES) for ring in np.split(points, offsets[1:-1])]
        rings = [np.clip(ring, 0, size[::-1]) for ring, size in zip(rings, c.sizes_hw[rows], strict=True)]
        points, offsets = np.concatenate(rings), np.concatenate(([0], np.cumsum([len(r) for r in rings])))
    result, _ = resample_polygons(points, offsets, c.sizes_hw[rows], n)
    for row in _masked(c, rows):
        mask = rle_to_mask(_rle(c, int(row)))
        if not mask.any():
            continue
        contour = mask_to_points(mask, n)
        if fit:
            contour = resample_uniform(fit_extent_to_box(largest_outer_contour(mask), c.boxes_xyxy[row]), n)
        result[np.searchsorted(rows, row)] = contour
    return result


def _masked(c: Candidates, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the rows that have a mask instead of points."""
    if c.masks is None:
        return rows[:0]
    return rows[(c.points.lengths[rows] < 2) & (c.masks.lengths[rows] > 0)]


def _rle(c: Candidates, row: int) -> Rle:
    assert c.masks is not None
    size = [int(v) for v in c.sizes_hw[row]]
    return checked_rle({"size": size, "counts": c.masks[row].tobytes()}, size)


def _points_of(c: Candidates, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points of ascending rows: (T, 2) and offsets. One read covers the rows and what lies between them."""
    if len(rows) == 0:
        return np.zeros((0, 2)), np.zeros(1, dtype=np.int64)
    assert c.pseudo is not None
    start, stop = c.points.offsets[rows], c.points.offsets[rows + 1]
    block = c.pseudo.rows("points_xy/values", slice(int(start[0]), int(stop[-1]))).astype(np.float64)
    lengths = stop - start
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(start - start[0], lengths)
    return block[inside], offsets
