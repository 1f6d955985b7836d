"""What a comprehension model tells about whose mask is worth annotating: where a referent lies in the model's feature
space, and how sure the model is of its box. Reads pictures, sentences and boxes, never a mask.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError, UsageError
from stages.geometry.boxes import box_iou_pairwise
from stages.inference.encoding import encoded_groups
from stages.inference.predictions import predict_sentences
from stages.inference.sequence_answers import SequenceAnswers
from stages.models.vocabulary import BOX_SLOTS
from stages.reporter import Reporter, SilentReporter
from stages.weights.model_file import LoadedModel


@torch.inference_mode()
def box_features(
    loaded: LoadedModel, dataset: ReferringDataset, referents: NDArray[np.int64], *, batch_images: int = 32,
    reporter: Reporter | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Mean encoder memory over the cells that a referent's box touches, of its first sentence.

    Args:
        referents: (N,) int64 referents of `dataset`.

    Returns:
        (N, D) float32; one small vector a referent is all that is kept.

    Raises:
        ArtifactError: a referent has no sentence.
    """
    sentences = _first_sentences(dataset, referents)
    features = np.zeros((len(referents), loaded.config.d_model), np.float32)
    loaded.model.eval()
    with (reporter or SilentReporter()).progress("encode", len(referents), unit="referent") as task:
        for group in encoded_groups(loaded, dataset, sentences, batch_images, False):
            memory, boxes = group.memory, dataset.boxes_xyxy[referents[group.rows]]
            shown = [f.boxes_to_model(b[None])[0] for f, b in zip(group.frames, boxes, strict=True)]
            touched = cells_of_boxes(
                np.stack(shown), loaded.model.stride, memory.grid_hw, memory.valid_cells_hw.cpu().numpy()
            )
            share = torch.from_numpy(touched / touched.sum((1, 2), keepdims=True)).flatten(1)
            cells = memory.tokens[:, : share.shape[1]].float()
            means = torch.einsum("sc,scd->sd", share.to(cells), cells)
            features[group.rows] = means.cpu().numpy()
            task.advance(len(group.rows))
    return features


def cells_of_boxes(
    boxes_xyxy: NDArray[np.floating],
    stride: int,
    grid_hw: tuple[int, int],
    valid_hw: NDArray[np.integer],
) -> NDArray[np.float32]:  # fmt: skip
    """(S, H, W) 1 where a box (S, 4), model pixels, touches a cell; at least one cell each, never a padded one.

    valid_hw: (S, 2) cells of each image that contain pixels.
    """
    inside = []
    for axis, length in ((1, grid_hw[0]), (0, grid_hw[1])):
        last = valid_hw[:, 1 - axis] - 1
        first = np.minimum((boxes_xyxy[:, axis] // stride).astype(np.int64), last)
        stop = np.ceil(boxes_xyxy[:, axis + 2] / stride).astype(np.int64)
        stop = np.clip(stop, first + 1, last + 1)
        cells = np.arange(length)
        inside.append((cells >= first[:, None]) & (cells < stop[:, None]))
    return np.asarray(inside[0][:, :, None] & inside[1][:, None], np.float32)


def box_entropy(
    loaded: LoadedModel, dataset: ReferringDataset, referents: NDArray[np.int64], *, batch_images: int = 32,
    reporter: Reporter | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Entropy of the four tokens of the predicted box, mean of tokens and of the referent's sentences.

    Returns:
        (N,) float64 in [0, 1]; 1 = every coordinate equally likely.

    Raises:
        UsageError: the model predicts no tokens.
        ArtifactError: a referent has no sentence.
    """
    if not loaded.model.layout.decoded:
        raise UsageError(
            "a detector predicts no tokens, so their entropy is not known",
            hint="give --uncertainty disagreement, or a point-sequence model",
        )
    _first_sentences(dataset, referents)
    sentences = dataset.sentences_of(referents)
    entropy, answers = np.zeros(len(sentences)), SequenceAnswers(loaded)
    loaded.model.eval()
    with torch.inference_mode(), (reporter or SilentReporter()).progress(
        "decode", len(sentences), unit="sentence"
    ) as task:  # fmt: skip
        for group in encoded_groups(loaded, dataset, sentences, batch_images, False):
            logits = answers.decode(group, keep_logits=True).logits
            assert logits is not None
            entropy[group.rows] = token_entropy(logits[:, :BOX_SLOTS]).mean(1).cpu().numpy()
            task.advance(len(group.rows))
    owner = dataset.sentence_referent[sentences]
    return np.asarray((np.bincount(owner, entropy) / np.maximum(np.bincount(owner), 1))[referents])


def token_entropy(logits: torch.Tensor) -> torch.Tensor:
    """(S, K, V) logits, the last token END, which a box slot never predicts -> (S, K) entropy as a share of the largest."""
    log_p = logits[..., :-1].double().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1) / np.log(log_p.shape[-1])


def box_disagreement(
    loaded: LoadedModel, dataset: ReferringDataset, referents: NDArray[np.int64], *, batch_images: int = 32,
    reporter: Reporter | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """How little the boxes predicted for the sentences of one referent overlap: 1 - mean IoU of all their pairs.

    Returns:
        (N,) float64 in [0, 1]; 0 where there is one sentence only.
    """
    _first_sentences(dataset, referents)
    sentences = dataset.sentences_of(referents)
    predicted = predict_sentences(
        loaded, dataset, sentences, batch_images=batch_images, reporter=reporter, what="decode"
    )
    owner = dataset.sentence_referent[sentences]
    total, pairs = np.zeros(len(dataset.boxes_xyxy)), np.zeros(len(dataset.boxes_xyxy))
    most = int(np.diff(dataset.sentence_offsets)[referents].max(initial=1))
    for apart in range(1, most):  # sentences of a referent stand side by side
        same = np.flatnonzero(owner[apart:] == owner[:-apart])
        iou = box_iou_pairwise(predicted.boxes_xyxy[same], predicted.boxes_xyxy[same + apart])
        np.add.at(total, owner[same], 1 - iou)
        np.add.at(pairs, owner[same], 1)
    return np.asarray(total[referents] / np.maximum(pairs[referents], 1))


def _first_sentences(dataset: ReferringDataset, referents: NDArray[np.int64]) -> NDArray[np.int64]:
    starts, stops = dataset.sentence_offsets[referents], dataset.sentence_offsets[referents + 1]
    silent = referents[stops <= starts]
    if len(silent):
        raise ArtifactError(
            f"{len(silent)} referents have no expression, so the model cannot be asked about them",
            facts=[f"the first: ref id {int(dataset.ref_ids[silent[0]])}"],
            hint="use --strategy random",
        )
    return np.asarray(starts, np.int64)
