"""Run a model over sentences of a dataset."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stages.inference.answers import Predictions
from stages.inference.auxiliary_contours import Outline
from stages.inference.devices import autocast
from stages.inference.encoding import ReferringSource, encoded_groups
from stages.inference.families import answers_of
from stages.reporter import Reporter, SilentReporter
from stages.weights.model_file import LoadedModel


@torch.inference_mode()
def predict_sentences(
    loaded: LoadedModel,
    dataset: ReferringSource,
    sentences: NDArray[np.int64],
    *,
    batch_images: int = 32,
    box_prompt: bool = False,
    outline: Outline = "decoder",
    reporter: Reporter | None = None,
    what: str = "predict",
) -> Predictions:
    """Greedy decoding of every sentence.

    Args:
        sentences: (S,) int64 sentence indices of `dataset`.
        box_prompt: give the dataset's box as the first four tokens (needs a sequence that starts with a box).
        outline: `auxiliary` takes the contours from the auxiliary mask; tokens and boxes stay. UsageError for a model
            without that head.
    """
    answers = answers_of(loaded, outline=outline, box_prompt=box_prompt)
    loaded.model.eval()
    out = Predictions.empty(sentences, len(loaded.model.layout.decoded))
    with (
        (reporter or SilentReporter()).progress(what, len(sentences), unit="sentence") as task,
        autocast(loaded.device, loaded.precision),
    ):
        for group in encoded_groups(loaded, dataset, sentences, batch_images, box_prompt):
            out.put(group.rows, answers.answer(group))
            task.advance(len(group.rows))
    return out
