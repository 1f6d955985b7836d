"""The score after each epoch: box IoU for comprehension, mask IoU for segmentation, on sentences of one split."""

import numpy as np
from numpy.typing import NDArray

from stages.data.dataset import ReferringDataset
from stages.geometry.boxes import box_iou_pairwise
from stages.inference.answers import Predictions
from stages.metrics.segmentation import overlaps
from stages.weights.model_file import LoadedModel


def validation_sentences(
    dataset: ReferringDataset, split: str, limit: int, *, with_mask: bool, seed: int
) -> NDArray[np.int64]:
    """A fixed random subset (`limit`, 0 = all) of the split's sentences whose referent has what is scored."""
    if split not in dataset.split_names:
        return np.zeros(0, np.int64)
    referents = dataset.referents_in(split)
    if with_mask:
        referents = referents[dataset.mask_visible[referents]]
    return some_sentences(dataset, referents, limit, seed)


def some_sentences(
    dataset: ReferringDataset, referents: NDArray[np.int64], limit: int, seed: int
) -> NDArray[np.int64]:
    """A fixed random subset (`limit`, 0 = all) of the referents' sentences."""
    sentences = dataset.sentences_of(referents)
    if limit and len(sentences) > limit:
        sentences = np.sort(np.random.default_rng([seed, 7]).choice(sentences, limit, replace=False))
    return sentences


def score(
    loaded: LoadedModel, dataset: ReferringDataset, sentences: NDArray[np.int64], found: Predictions
) -> dict[str, float]:
    """`score`: mean IoU of masks for a model with contours or masks, of boxes otherwise. It is told, and chooses nothing."""
    referents = dataset.sentence_referent[sentences]
    box_iou = box_iou_pairwise(np.nan_to_num(found.boxes_xyxy), dataset.boxes_xyxy[referents])
    out = {"val_box_acc50": float((box_iou >= 0.5).mean()), "val_box_iou": float(box_iou.mean())}
    if not loaded.config.answers_masks:
        return {"score": out["val_box_iou"], **out}
    truth = [dataset.mask_rle(int(r)) for r in referents]
    mask_iou = overlaps(found.masks([t["size"] for t in truth]), truth).iou
    return {"score": float(mask_iou.mean()), "val_miou": float(mask_iou.mean()), **out}
