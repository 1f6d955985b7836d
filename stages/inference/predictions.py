"""Run a model over sentences of a dataset."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stages.inference.answers import Predictions
from stages.inference.auxiliary_contours import ContourSource
from stages.inference.devices import autocast
from stages.inference.encoding import ReferringSource, encoded_groups
from stages.inference.families import answers_of
from stages.inference.picture_groups import picture_groups
from stages.reporter import Reporter, SilentReporter
from stages.weights.model_file import LoadedModel
from stages.world import ALONE, World


@torch.inference_mode()
def predict_sentences(
    loaded: LoadedModel,
    dataset: ReferringSource,
    sentences: NDArray[np.int64],
    *,
    batch_images: int = 32,
    box_prompt: bool = False,
    contour: ContourSource = "decoder",
    reporter: Reporter | None = None,
    what: str = "predict",
    groups: Sequence[NDArray[np.int64]] | None = None,
    world: World = ALONE,
) -> Predictions:
    """Greedy decoding of every sentence; of several processes, the first has the others' answers as well.

    Args:
        sentences: (S,) int64 sentence indices of `dataset`.
        box_prompt: give the dataset's box as the first four tokens (needs a sequence that starts with a box).
        contour: `auxiliary` takes the contours from the auxiliary mask; tokens and boxes stay. UsageError for a model
            without that head.
        groups: rows of `sentences` that are computed together, if not all of them in groups of `batch_images` pictures.
    """
    answers = answers_of(loaded, contour=contour, box_prompt=box_prompt)
    loaded.model.eval()
    out = Predictions.empty(sentences, len(loaded.model.layout.decoded))
    mine: list[tuple[NDArray[np.int64], Predictions]] = []
    images = dataset.referent_image[dataset.sentence_referent[sentences]]
    groups = world.share(picture_groups(images, batch_images) if groups is None else groups)
    with (
        (reporter or SilentReporter()).progress(what, sum(map(len, groups)), unit="sentence") as task,
        autocast(loaded.device, loaded.precision),
    ):
        for group in encoded_groups(loaded, dataset, sentences, batch_images, box_prompt, groups):
            part = answers.answer(group)
            out.put(group.rows, part)
            if not world.first:
                mine.append((group.rows, part))
            task.advance(len(group.rows))
    for parts in world.gather(mine):
        for rows, part in parts:
            out.put(rows, part)
    return out
