"""The part of train that chooses which epoch's weights are called best, so that no split that is reported does.

Its images are neither trained on nor labelled. They follow from the image ids alone, so that every stage and seed keeps
back the same ones, and a larger share contains a smaller one.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.dataset import ReferringDataset
from stages.errors import UsageError
from stages.geometry.boxes import box_iou_pairwise, polygon_extent
from stages.inference.answers import Predictions
from stages.inference.predictions import predict_sentences
from stages.inference.validation import score, some_sentences, validation_sentences
from stages.metrics.segmentation import overlaps
from stages.reporter import Reporter
from stages.training.settings import TrainingSettings
from stages.weights.model_file import LoadedModel
from stages.world import ALONE, World

CHOICE = "held_out_score"  # key of a history row: what chooses the weights called best


def held_out_referents(data: ReferringDataset, split: str, share: float) -> NDArray[np.int64]:
    """Referents of `share` of the split's images (at least one image; none where the share is 0).

    Raises UsageError when no image would be left to train on.
    """
    referents = data.referents_in(split)
    images = np.unique(data.referent_image[referents])
    if not share or not len(images):
        return np.zeros(0, np.int64)
    count = max(1, round(share * len(images)))
    if count >= len(images):
        raise UsageError(
            f"held-out {share:g} of the {len(images)} images of {split!r} leaves none to train on",
            hint="give a smaller --held-out, or 0",
        )
    rank = [hashlib.sha256(f"held out {int(data.image_ids[i])}".encode()).digest() for i in images]
    kept_back = images[sorted(range(len(images)), key=rank.__getitem__)[:count]]
    return np.asarray(referents[np.isin(data.referent_image[referents], kept_back)])


def chosen_row(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The epoch whose average is called best: the best score on the images kept back for this, else the last epoch."""
    return max((row for row in history if CHOICE in row), key=lambda row: row[CHOICE], default=history[-1])


def keep_back(data: ReferringDataset, split: str, share: float, reporter: Reporter) -> NDArray[np.int64]:
    """`held_out_referents`, told."""
    held_out = held_out_referents(data, split, share)
    if len(held_out):
        images, masks = len(np.unique(data.referent_image[held_out])), int(data.mask_visible[held_out].sum())
        reporter.info(
            f"held out to choose the weights: {images} images, {len(held_out)} referents, {masks} visible masks"
        )
    return held_out


def selection_record(
    data: ReferringDataset, split: str, held_out: NDArray[np.int64], chosen: dict[str, Any]
) -> dict[str, Any]:
    """What chose the weights called best, for the model's file (its JSON `selection`)."""
    by = f"held-out part of {split}, epoch {chosen['epoch']}" if len(held_out) else "last moving average"
    images = len(np.unique(data.referent_image[held_out]))
    return {
        "by": by,
        "epoch": chosen["epoch"],
        "held_out_images": images,
        "held_out_referents": len(held_out),
    }


def held_out_score(
    loaded: LoadedModel, dataset: ReferringDataset, sentences: NDArray[np.int64], found: Predictions
) -> dict[str, float]:
    """Mean IoU: of masks where the dataset's view shows one, else of the box (of the contour's extent, where there is one)."""
    referents = dataset.sentence_referent[sentences]
    boxes, masked = found.boxes_xyxy.copy(), np.zeros(0, np.int64)
    if loaded.config.answers_masks:
        masked = np.flatnonzero(dataset.mask_visible[referents])
        for row, contour in enumerate(found.points_xy):
            boxes[row] = polygon_extent(contour) if len(contour) >= 2 else 0
    iou = box_iou_pairwise(np.nan_to_num(boxes), dataset.boxes_xyxy[referents])
    if len(masked):
        truth = [dataset.mask_rle(int(referents[row])) for row in masked]
        sizes = [tuple(dataset.image_sizes_hw[dataset.referent_image[r]]) for r in referents]
        predicted = found.masks(sizes)
        iou[masked] = overlaps([predicted[row] for row in masked], truth).iou
    return {CHOICE: float(iou.mean())}


def validator(
    data: ReferringDataset,
    settings: TrainingSettings,
    held_out: NDArray[np.int64],
    reporter: Reporter,
    *,
    with_mask: bool,
    locator: LoadedModel | None = None,
    world: World = ALONE,
) -> Callable[[LoadedModel], dict[str, float]]:
    """What a trainer calls after an epoch: scores of the validation split, to watch, and of what is held out, to choose.

    with_mask: watch only referents whose mask may be seen. locator: finds the windows of crop refinement.
    """
    n, seed = settings.validation_expressions, settings.seed
    watched = validation_sentences(data, settings.validation_split, n, with_mask=with_mask, seed=seed)
    choosing = some_sentences(data, held_out, n, seed)

    def validate(loaded: LoadedModel) -> dict[str, float]:
        loaded = dataclasses.replace(loaded, locator=locator)
        scores: dict[str, float] = {}
        for sentences, what, measure in (
            (watched, "validate", score),
            (choosing, "held-out", held_out_score),
        ):
            if len(sentences):
                found = predict_sentences(
                    loaded, data, sentences, batch_images=settings.batch_images, reporter=reporter, what=what,
                    world=world,
                )  # fmt: skip
                if world.first:
                    scores |= measure(loaded, data, sentences, found)
        return world.broadcast(scores)

    return validate
