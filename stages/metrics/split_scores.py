"""Scores of one split, collected block by block: numbers stay in memory, contours and masks in a temporary file."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.packed import Packed, Packing
from stages.geometry.boxes import box_iou_pairwise
from stages.geometry.runs import counts_of
from stages.metrics.measure import MaskScores, summarise_split
from stages.metrics.segmentation import Overlaps


class SplitScores:
    """S expressions of a split.

    Attributes:
        sentences: (S,) int64 sentence indices; masked: (S,) bool, the referent has a mask that may be seen.
        boxes_xyxy: (S, 4) float32 predicted boxes in original pixels; box_iou: (S,) float64 with the true boxes.
        masks: row of the mask table -> (S, 3) float64 IoU, intersection, union; NaN where there is no mask. Empty without
            masks.
        summary: the table, see `summarise_split`.
    """

    def __init__(
        self, name: str, sentences: NDArray[Any], true_boxes_xyxy: NDArray[Any], masked: NDArray[np.bool_]
    ) -> None:
        self.name, self.sentences, self.masked = name, sentences, masked
        self._true_boxes_xyxy = true_boxes_xyxy
        self.boxes_xyxy = np.full((len(sentences), 4), np.nan, np.float32)
        self.box_iou = np.zeros(len(sentences))
        self.masks: dict[str, NDArray[np.float64]] = {}
        self.summary: dict[str, Any] = {}
        self._contours, self._rles, self._order = Packing(bytes), Packing(bytes), array("q")

    def put(
        self, rows: NDArray[Any], boxes_xyxy: NDArray[Any], contours: Sequence[NDArray[Any]], masks: MaskScores | None
    ) -> None:  # fmt: skip
        """Predictions of some rows (P,); `masks` belongs to those of them whose referent has one."""
        self.boxes_xyxy[rows] = boxes_xyxy
        self.box_iou[rows] = box_iou_pairwise(boxes_xyxy, self._true_boxes_xyxy[rows])
        if masks is None:
            return
        self._order.extend(rows.tolist())
        masked, rles = self.masked[rows], iter(masks.rles)
        for contour, there in zip(contours, masked.tolist(), strict=True):
            self._contours.append(np.asarray(contour, np.float32).tobytes())
            self._rles.append(counts_of(next(rles)) if there else b"")
        for key, of in masks.rows.items():
            values = self.masks.setdefault(key, np.full((len(self.sentences), 3), np.nan))
            values[rows[masked]] = np.stack([of.iou, of.intersection, of.union], axis=1)

    def summarise(self, images: NDArray[Any], referents: NDArray[Any], *, boxes_given: bool) -> None:
        """Make the table, when all is there; `images`, `referents` (S,). A box that was given is no prediction."""
        masks = None
        if self.masks:
            of = {key: values[self.masked].T for key, values in self.masks.items()}
            rows = {key: Overlaps(i.astype(int), u.astype(int), iou) for key, (iou, i, u) in of.items()}
            masks = MaskScores(rows, [])
        boxes = None if boxes_given else self.box_iou
        self.summary = summarise_split(images, referents, boxes, masks, self.masked)

    def contours(self) -> Iterator[NDArray[np.float32]]:
        """(k, 2) float32 of each expression."""
        for data in self._in_order(self._contours):
            yield np.frombuffer(data, np.float32).reshape(-1, 2)

    def rles(self) -> Iterator[bytes]:
        """Compressed counts of each expression, b"" where its referent has no mask that may be seen."""
        return iter(self._in_order(self._rles))

    def _in_order(self, packing: Packing[bytes]) -> Packed[bytes]:
        return packing.packed().take(np.argsort(self._order))
