"""A model's answers to phrases about photographs that belong to no data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.data.photographs import Photographs
from stages.data.text import WordCodec, clean
from stages.geometry.rasterise import Rle
from stages.inference.answers import Predictions
from stages.inference.auxiliary_contours import Outline
from stages.inference.predictions import predict_sentences
from stages.reporter import Reporter, SilentReporter
from stages.weights.model_file import LoadedModel


@dataclass
class Answers:
    """Answers to N requests, in original pixels.

    Attributes:
        boxes_xyxy: (N, 4) float32, NaN = none. points_xy: N contours (k, 2) float32.
        rles: N masks at the pictures' sizes; None for a model that answers with boxes only.
        confidence: (N,) float32 in [0, 1]. prompted: (N,) bool, whose given box was used.
    """

    boxes_xyxy: NDArray[np.float32]
    points_xy: list[NDArray[np.float32]]
    rles: list[Rle] | None
    confidence: NDArray[np.float32]
    prompted: NDArray[np.bool_]


def answer(
    loaded: LoadedModel,
    photographs: Photographs,
    *,
    outline: Outline = "decoder",
    batch_size: int = 16,
    reporter: Reporter | None = None,
) -> Answers:
    """Predict every request. A given box starts the sequence of a box-then-contour model; other models ignore it."""
    reporter = reporter or SilentReporter()
    n = len(photographs.requests)
    layout = loaded.model.layout
    takes_box = bool(layout.box and layout.contour)
    if photographs.has_box.any() and not takes_box:
        reporter.warn(
            f"the boxes given are ignored: a model that predicts {loaded.config.sequence!r} takes none as its start"
        )
    prompted = photographs.has_box & takes_box
    found = Predictions.empty(np.arange(n), len(layout.decoded))
    for with_box in (False, True):
        rows = np.flatnonzero(prompted == with_box)
        if len(rows):
            part = predict_sentences(
                loaded, photographs, rows, batch_images=batch_size, box_prompt=with_box, outline=outline, reporter=reporter,
                what="predict with boxes" if with_box else "predict",
            )  # fmt: skip
            found.put(rows, part)
    rles = found.masks([photographs.size_hw(i) for i in range(n)]) if loaded.config.draws else None
    return Answers(found.boxes_xyxy, found.points_xy, rles, found.confidence(), prompted)


def warn_of_words(loaded: LoadedModel, photographs: Photographs, reporter: Reporter) -> None:
    """Words that a closed word list does not have are read as one unknown word: say so, it explains odd answers."""
    if not isinstance(loaded.codec, WordCodec):
        return
    known, limit = set(loaded.codec.words), loaded.codec.max_words
    sentences = [clean(text).split() for text in photographs.texts]
    unknown = list(dict.fromkeys(word for words in sentences for word in words[:limit] if word not in known))
    if unknown:
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        reporter.warn(f"words that the model never saw: {', '.join(map(repr, unknown[:10]))}{more}")
    if cut := sum(len(words) > limit for words in sentences):
        reporter.warn(f"expressions longer than the {limit} words that the model reads, cut: {cut}")
