"""What a model returns for a group of expressions: one protocol for both model families.

A family turns an `EncodedGroup` into `Predictions`; everything else (encoding, the loop, attention pages, validation) is
the same whatever the family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.data.transforms import Frame
from stages.geometry.boxes import ellipse_in
from stages.geometry.rasterise import Rle, polygon_to_rle
from stages.models.memory import Memory

ELLIPSE_POINTS = 80


@dataclass
class EncodedGroup:
    """Expressions that are answered together.

    Attributes:
        rows: (S,) their places among those asked for; sentences: (S,) sentence indices.
        frames: S frames of their images. prompt_xyxy: (S, 4) box prompts in original pixels, or None.
    """

    rows: NDArray[np.int64]
    sentences: NDArray[np.int64]
    memory: Memory
    frames: list[Frame]
    prompt_xyxy: NDArray[np.float64] | None


@dataclass
class Predictions:
    """Row i belongs to the i-th sentence asked for; K decoded slots.

    Attributes:
        sentence_index: (S,) int64.
        tokens: (S, K) int32; token_probability: (S, K) float32.
        points_xy: S contours (k, 2) float32 in original pixels, cut at the first END.
        boxes_xyxy: (S, 4) float32 original pixels: the predicted box, else the contour's extent, NaN if neither.
        rles: masks at the original size, of models that answer with masks (a detector; its only token is the number of
            its best query, and `points_xy` is the largest outer contour of the mask); empty for sequence models.
        n_tokens: (S,) int64, how many of the K tokens are the answer: up to and with the contour's first END; None = all.
        maps: only when asked for: S times (K, layers, h, w) float32 cross-attention of each slot over the image's own valid
            cells (mean of heads; a detector keeps its last layer alone).
    """

    sentence_index: NDArray[np.int64]
    tokens: NDArray[np.int32]
    token_probability: NDArray[np.float32]
    points_xy: list[NDArray[np.float32]]
    boxes_xyxy: NDArray[np.float32]
    rles: list[Rle] = field(default_factory=list)
    n_tokens: NDArray[np.int64] | None = None
    maps: list[NDArray[np.float32]] = field(default_factory=list)

    def with_ellipses(self) -> Predictions:
        """The same boxes, each with the ellipse in it as its contour (none where there is no box)."""
        rings = [
            ellipse_in(box, ELLIPSE_POINTS) if np.isfinite(box).all() else np.zeros((0, 2), np.float32)
            for box in self.boxes_xyxy
        ]
        return replace(self, points_xy=rings, rles=[])

    @classmethod
    def empty(cls, sentences: NDArray[np.int64], k: int) -> Predictions:
        """Nothing predicted yet; `put` fills the rows. A detector's one token is its query (K = 1)."""
        s, k = len(sentences), max(k, 1)
        return cls(
            sentences, np.zeros((s, k), np.int32), np.zeros((s, k), np.float32),
            [np.zeros((0, 2), np.float32)] * s, np.full((s, 4), np.nan, np.float32),
        )  # fmt: skip

    def put(self, rows: NDArray[np.int64], part: Predictions) -> None:
        """Fill `rows` (P,) with the P predictions of a part."""
        self.tokens[rows], self.token_probability[rows] = part.tokens, part.token_probability
        self.boxes_xyxy[rows] = part.boxes_xyxy
        for row, contour in zip(rows, part.points_xy, strict=True):
            self.points_xy[row] = contour
        if part.n_tokens is not None:
            self.n_tokens = np.zeros(len(self.tokens), np.int64) if self.n_tokens is None else self.n_tokens
            self.n_tokens[rows] = part.n_tokens
        if part.rles:
            self.rles = self.rles or [{}] * len(self.tokens)
            for row, rle in zip(rows, part.rles, strict=True):
                self.rles[row] = rle

    def confidence(self) -> NDArray[np.float32]:
        """(S,) geometric mean of the probabilities of the tokens of the answer (given ones count as certain)."""
        log_p = np.log(np.maximum(self.token_probability, 1e-12))
        if self.n_tokens is None:
            return np.exp(log_p.mean(1)).astype(np.float32)
        counted = np.arange(log_p.shape[1]) < self.n_tokens[:, None]
        return np.exp((log_p * counted).sum(1) / self.n_tokens).astype(np.float32)

    def masks(self, sizes_hw: Sequence[Any]) -> list[Rle]:
        """(S,) masks at the original sizes: predicted ones, else the filled contours."""
        if self.rles:
            return self.rles
        return [polygon_to_rle(contour, size) for contour, size in zip(self.points_xy, sizes_hw, strict=True)]


class Answers(Protocol):
    """A loaded model that answers."""

    def answer(self, group: EncodedGroup, *, keep_maps: bool = False) -> Predictions:
        """Predictions of the group's expressions."""

    def slot_of_points(self, n: int) -> NDArray[np.int64]:
        """(n,) which decoded slot each of the first n contour points came from."""
