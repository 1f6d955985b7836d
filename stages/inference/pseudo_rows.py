"""Pseudo labels as rows of a file: written whole, or in shards that are joined later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.ragged import pack, spans
from stages.errors import ArtifactError
from stages.geometry.runs import pack_rles
from stages.inference.answers import Predictions

if TYPE_CHECKING:
    from stages.artifacts import Artifact, ArtifactWriter

HISTOGRAM_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
_COLUMNS = ("referent_index", "sentence_index", "tokens", "token_probability", "box_xyxy", "confidence")
Flat = tuple[NDArray[Any], NDArray[np.int64]]  # values and offsets (S+1,)


@dataclass(frozen=True)
class PseudoRows:
    """S rows, one an expression.

    Attributes:
        columns: `referent_index` and so on, each of length S.
        scores: (S,) float64 projection scores.
        points_xy: contours (k, 2) float32 px, and masks: compressed RLE, of models that answer with masks.
    """

    columns: dict[str, NDArray[Any]]
    scores: NDArray[np.float64]
    points_xy: Flat
    masks: Flat | None

    @classmethod
    def of(
        cls, predictions: Predictions, referents: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> PseudoRows:
        """referents: (S,) of the expressions."""
        columns: dict[str, NDArray[Any]] = {
            "referent_index": referents,
            "sentence_index": predictions.sentence_index,
            "tokens": predictions.tokens,
            "token_probability": predictions.token_probability,
            "box_xyxy": predictions.boxes_xyxy,
            "confidence": predictions.confidence(),
        }
        masks = pack_rles(predictions.rles) if predictions.rles else None
        return cls(columns, scores, pack(predictions.points_xy, np.float32, (2,)), masks)

    @classmethod
    def read(cls, shard: Artifact) -> PseudoRows:
        """Of a pseudo_shard, whose scores are float64."""
        masks = _flat(shard, "masks/rle") if "masks/rle" in shard else None
        columns = {name: shard[name] for name in _COLUMNS}
        return cls(columns, shard["projection_score"], _flat(shard, "points_xy"), masks)

    @classmethod
    def join(cls, parts: Sequence[PseudoRows], order: NDArray[np.int64]) -> PseudoRows:
        """All rows of the parts; row i is the order[i]-th of them, one part after the other.

        ArtifactError when their rows are not of one form.
        """
        full = [part for part in parts if len(part.scores)] or list(parts[:1])
        masks = [part.masks for part in full if part.masks is not None]
        forms = {
            (part.columns["tokens"].shape[1], part.masks is None, *(c.dtype for c in part.columns.values()))
            for part in full
        }
        if len(forms) > 1:
            raise ArtifactError("the shards have tokens or masks of different models", hint="make them again")
        return cls(
            {name: np.concatenate([part.columns[name] for part in full])[order] for name in _COLUMNS},
            np.concatenate([part.scores for part in full])[order],
            _joined([part.points_xy for part in full], order),
            _joined(masks, order) if masks else None,
        )

    def write(self, w: ArtifactWriter, scores: type[np.floating[Any]] = np.float32) -> None:
        """All columns."""
        for name, column in self.columns.items():
            w.column(name, column)
        w.column("projection_score", self.scores.astype(scores))
        w.ragged("points_xy", *self.points_xy)
        if self.masks is not None:
            w.ragged("masks/rle", *self.masks)

    def summary(
        self, *, held_out: int, weights_chosen_by: str, prompt: str, audit: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Of all rows: how well contours and known boxes agree, how sure the model is; and what is known beside."""
        confidence = self.columns["confidence"]
        n = len(self.scores)
        return {
            "referents": len(set(self.columns["referent_index"].tolist())),
            "sentences": n,
            "held_out_referents": held_out,
            "weights_chosen_by": weights_chosen_by,
            "prompt": prompt,
            "empty": int((np.diff(self.points_xy[1]) < 3).sum()),
            "projection_score": {
                "mean": float(self.scores.mean()) if n else None,
                "below_0.1": int((self.scores < 0.1).sum()),
                "edges": list(HISTOGRAM_EDGES),
                "counts": np.histogram(self.scores, HISTOGRAM_EDGES)[0].tolist(),
            },
            "confidence_mean": float(confidence.mean()) if n else None,
            "audit": audit,
        }


def _flat(shard: Artifact, name: str) -> Flat:
    return shard[f"{name}/values"], shard.ragged(name).offsets


def _joined(parts: Sequence[Flat], order: NDArray[np.int64]) -> Flat:
    values = np.concatenate([values for values, _ in parts])
    lengths = np.concatenate([np.diff(offsets) for _, offsets in parts])
    starts = np.cumsum(lengths) - lengths
    kept = lengths[order]
    return values[spans(starts[order], kept)], np.concatenate(([0], np.cumsum(kept)))
