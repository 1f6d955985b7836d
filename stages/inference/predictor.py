"""A model in a program: arrays in, arrays out, the model loaded once. `stages.predict` offers it by its name."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.reporter import Reporter, SilentReporter
from stages.world import ALONE, World

if TYPE_CHECKING:
    from stages.data.photographs import Photographs
    from stages.inference.photograph_answers import Answers
    from stages.refinement.segmenter import Segmenter
    from stages.weights.model_file import LoadedModel


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model answers to one phrase, in pixels of the picture (origin: outer corner of its top-left pixel).

    Attributes:
        mask: (H, W) bool; None from a model that answers with boxes only.
        box_xyxy: (4,) float64, x1 y1 x2 y2 inside the picture; None = no box.
        contour_xy: (P, 2) float64; without points where there is none.
        confidence: in [0, 1].
        unknown_words: words of the phrase that the model does not know; they are read as one and the same word.
    """

    phrase: str
    mask: NDArray[np.bool_] | None
    box_xyxy: NDArray[np.float64] | None
    contour_xy: NDArray[np.float64]
    confidence: float
    unknown_words: tuple[str, ...]


class Predictor:
    """A model that is loaded once and answers any number of pictures; options as in `Config`."""

    def __init__(
        self,
        model: str | Path,
        *,
        weights: Literal["best", "ema", "raw"] = "best",
        precision: Literal["fp32", "bf16"] = "fp32",
        device: str = "auto",
        segmenter: str | None = None,
        contour: Literal["decoder", "auxiliary"] = "decoder",
        batch_size: int = 16,
    ) -> None:
        """ArtifactError when the model or the segmenter cannot be used."""
        from stages.inference.devices import choose_device
        from stages.refinement.load import GRABCUT, load_segmenter
        from stages.weights.model_file import load_model

        where = choose_device(device)
        self._loaded: LoadedModel = load_model(Path(model), where, weights=weights, precision=precision)
        self._contour, self._batch_size = contour, batch_size
        self._segmenter: Segmenter | None = None
        self._promptable = segmenter != GRABCUT
        if segmenter is not None:
            self._segmenter, _ = load_segmenter(segmenter, where, prompt_points=1, max_prompts=64)
        self.device = str(self._loaded.device)

    @property
    def answers_masks(self) -> bool:
        """Whether the model answers with masks."""
        return bool(self._loaded.config.answers_masks)

    def __call__(
        self,
        image: NDArray[Any],
        phrases: str | Sequence[str],
        boxes: Sequence[Sequence[float]] | NDArray[Any] | None = None,
    ) -> list[Prediction]:
        """One answer a phrase. image: (H, W, 3) RGB, (H, W, 4) or grey (H, W), uint8 or uint16; boxes: known ones, one a
        phrase, x1 y1 x2 y2 in pixels.

        Raises:
            UsageError: no picture, an empty phrase, not as many boxes as phrases.
            ArtifactError: a box lies outside.
        """
        from stages.data.photographs import ArrayPhotograph
        from stages.geometry.rasterise import rle_to_mask
        from stages.inference.prediction_rows import inside

        texts = [phrases] if isinstance(phrases, str) else list(phrases)
        photograph = ArrayPhotograph.of(image, texts, [] if boxes is None else [list(box) for box in boxes])
        answers = self.answers(photograph, SilentReporter())
        unknown = self.unknown_words(photograph.texts, SilentReporter())
        return [
            Prediction(
                phrase=text,
                mask=None if answers.rles is None else rle_to_mask(answers.rles[i]),
                box_xyxy=inside(answers.boxes_xyxy[i], photograph.size_hw(i)),
                contour_xy=answers.points_xy[i].astype("float64"),
                confidence=float(answers.confidence[i]),
                unknown_words=tuple(unknown[i]),
            )
            for i, text in enumerate(photograph.texts)
        ]

    def answers(self, photographs: Photographs, reporter: Reporter, world: World = ALONE) -> Answers:
        """To all requests, refined where there is a segmenter; of several processes, the first has all of them."""
        from stages.inference.photograph_answers import answer

        found = answer(
            self._loaded, photographs, contour=self._contour, batch_size=self._batch_size, reporter=reporter,
            world=world,
        )  # fmt: skip
        if self._segmenter is None:
            return found
        return self._refined(photographs, found, reporter, world)

    def unknown_words(self, texts: Sequence[str], reporter: Reporter) -> list[list[str]]:
        """Of each phrase; the reporter is told, with the words that the model does know."""
        from stages.inference.photograph_answers import unknown_words, warn_of_words

        warn_of_words(self._loaded, texts, reporter)
        return unknown_words(self._loaded, texts)

    def _refined(self, photographs: Photographs, found: Answers, reporter: Reporter, world: World) -> Answers:
        from stages.geometry.rasterise import rle_area
        from stages.refinement.answers import ellipses, refine_answers
        from stages.refinement.verdict import REFINED

        assert self._segmenter is not None
        known = photographs.has_box[:, None]
        boxes = np.where(known, photographs.boxes_xyxy, found.boxes_xyxy.astype(np.float64))
        sizes = [photographs.size_hw(i) for i in range(len(photographs.requests))]
        masks = ellipses(boxes, sizes)
        # a model that predicts nothing in a known box leaves the ellipse to start from
        if found.rles is not None:
            masks = [
                e if k and not rle_area(m) else m
                for m, e, k in zip(found.rles, masks, photographs.has_box, strict=True)
            ]
        verdicts = refine_answers(
            photographs.image, photographs.referent_image, boxes, masks, self._segmenter,
            promptable=self._promptable, by_box_alone=photographs.has_box | (found.rles is None), reporter=reporter,
            world=world,
        )  # fmt: skip
        found.refinement = [v.reason for v in verdicts]
        refined = [v.reason == REFINED and v.rle is not None for v in verdicts]
        found.rles = [v.rle if r and v.rle else m for v, m, r in zip(verdicts, masks, refined, strict=True)]
        found.points_xy = [
            v.contour_xy if r else p for v, p, r in zip(verdicts, found.points_xy, refined, strict=True)
        ]
        return found


def predict(
    image: NDArray[Any],
    phrases: str | Sequence[str],
    *,
    model: str | Path | Predictor,
    boxes: Sequence[Sequence[float]] | NDArray[Any] | None = None,
    device: str = "auto",
    segmenter: str | None = None,
) -> list[Prediction]:
    """Answers to phrases about a picture in memory, see `Predictor.__call__`; a model that was used last is still there."""
    if not isinstance(model, Predictor):
        path = Path(os.path.realpath(model))
        stamp = path.stat().st_mtime_ns if path.exists() else 0
        model = _kept(path, stamp, device, segmenter)
    return model(image, phrases, boxes)


@functools.lru_cache(maxsize=2)
def _kept(path: Path, stamp: int, device: str, segmenter: str | None) -> Predictor:
    return Predictor(path, device=device, segmenter=segmenter)
