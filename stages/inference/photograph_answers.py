"""A model's answers to phrases about photographs that belong to no data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from stages.data.photographs import Photographs
from stages.data.text import SPECIAL, WordCodec, clean
from stages.errors import listed
from stages.geometry.rasterise import Rle
from stages.inference.answers import Predictions
from stages.inference.auxiliary_contours import ContourSource
from stages.inference.picture_groups import picture_groups
from stages.inference.predictions import predict_sentences
from stages.reporter import Reporter, SilentReporter
from stages.weights.model_file import LoadedModel
from stages.world import ALONE, World

_SHOWN = 10  # unknown words
_SHOWN_KNOWN = 20


@dataclass
class Answers:
    """Answers to N requests, in original pixels.

    Attributes:
        boxes_xyxy: (N, 4) float32, NaN = none. points_xy: N contours (k, 2) float32.
        rles: N masks at the pictures' sizes; None for a model that answers with boxes only.
        confidence: (N,) float32 in [0, 1]. prompted: (N,) bool, whose given box was used.
        refinement: N reasons ("refined", or why not); None without a segmenter.
    """

    boxes_xyxy: NDArray[np.float32]
    points_xy: list[NDArray[np.float32]]
    rles: list[Rle] | None
    confidence: NDArray[np.float32]
    prompted: NDArray[np.bool_]
    refinement: list[str] | None = None


def answer(
    loaded: LoadedModel,
    photographs: Photographs,
    *,
    contour: ContourSource = "decoder",
    batch_size: int = 16,
    reporter: Reporter = SilentReporter(),
    world: World = ALONE,
) -> Answers:
    """Predict every request; of several processes, each gets all answers. A given box starts the sequence of a box-then-contour model; other models ignore it."""
    n = len(photographs.requests)
    layout = loaded.model.layout
    takes_box = bool(layout.box and layout.contour)
    if photographs.has_box.any() and not takes_box:
        reporter.warn(
            f"the boxes given are ignored: a model that predicts {loaded.config.sequence!r} takes none as its start"
        )
    prompted = photographs.has_box & takes_box
    found = Predictions.empty(np.arange(n), len(layout.decoded))
    groups = picture_groups(photographs.referent_image, batch_size)
    for with_box in (False, True):
        rows = np.flatnonzero(prompted == with_box)
        if len(rows):
            together = [np.searchsorted(rows, group[prompted[group] == with_box]) for group in groups]
            part = predict_sentences(
                loaded, photographs, rows, batch_images=batch_size, box_prompt=with_box, contour=contour, reporter=reporter,
                what="predict with boxes" if with_box else "predict", groups=together, world=world,
            )  # fmt: skip
            found.put(rows, part)
    found = world.broadcast(found)
    rles = found.masks([photographs.size_hw(i) for i in range(n)]) if loaded.config.answers_masks else None
    return Answers(found.boxes_xyxy, found.points_xy, rles, found.confidence(), prompted)


def unknown_words(loaded: LoadedModel, texts: Sequence[str]) -> list[list[str]]:
    """Of each phrase, the words that a closed word list does not have: they are all read as one unknown word."""
    if not isinstance(loaded.codec, WordCodec):
        return [[] for _ in texts]
    known, limit = set(loaded.codec.words), loaded.codec.max_words
    return [
        list(dict.fromkeys(word for word in clean(text).split()[:limit] if word not in known))
        for text in texts
    ]


def warn_of_words(loaded: LoadedModel, texts: Sequence[str], reporter: Reporter) -> None:
    """Say which words the model does not know and which it does: it explains odd answers."""
    if not isinstance(loaded.codec, WordCodec):
        return
    limit, words = loaded.codec.max_words, sorted(set(loaded.codec.words) - set(SPECIAL))
    unknown = list(dict.fromkeys(word for found in unknown_words(loaded, texts) for word in found))
    if unknown:
        lines = [f"words that the model never saw: {listed([repr(word) for word in unknown], _SHOWN)}"]
        near = {word: get_close_matches(word, words, n=1, cutoff=0.75) for word in unknown[:_SHOWN]}
        if any(near.values()):
            told = ", ".join(f"{found[0]!r} ({word})" for word, found in near.items() if found)
            lines.append(f"near them it knows {told}")
        lines.append(f"it knows {len(words)} words: {listed(words, _SHOWN_KNOWN)}")
        reporter.warn("\n  ".join(lines))
    if cut := sum(len(clean(text).split()) > limit for text in texts):
        reporter.warn(f"expressions longer than the {limit} words that the model reads, cut: {cut}")
