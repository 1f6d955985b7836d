"""Losses of the detector (METHOD.md section 5): soft tokens, boxes, contrastive alignment; and of its masks.

Every sum is divided by the number of target boxes of the step, so that a step counts by its targets.
Letters: S rows (sentences), Q queries, N targets of all rows together, K matched pairs, V soft-token classes (the last
one means "no object"), L text tokens, C width of the contrastive space.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.models.detection_boxes import centre_to_corners, giou
from stages.models.matcher import MatchCosts, Matches, match
from stages.models.to_device import to_device


@dataclass
class LayerOutputs:
    """What one decoder layer predicts.

    Attributes:
        logits: (S, Q, V) float; boxes: (S, Q, 4) float in (0, 1), cxcywh relative to the image.
        aligned: (S, Q, C) float of length 1, the queries in the contrastive space.
        is_final: (S, Q, 1) float logits of "this is the answer, not something it mentions".
    """

    logits: Tensor
    boxes: Tensor
    aligned: Tensor | None = None
    is_final: Tensor | None = None


@dataclass
class DetectionTargets:
    """N targets, ordered by row.

    Attributes:
        row: (N,) int64, on the host, where the way of matching is chosen; boxes: (N, 4) cxcywh relative to the image.
        positive_map: (N, V) float, each row sums to 1 over the tokens that name the target.
        positive_tokens: (N, L) bool, the same for the contrastive loss.
        is_final: (N,) float.
    """

    row: Tensor
    boxes: Tensor
    positive_map: Tensor
    positive_tokens: Tensor | None = None
    is_final: Tensor | None = None


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms, and the constants of two of them."""

    tokens: float = 1.0
    l1: float = 5.0
    giou: float = 2.0
    align: float = 1.0
    final: float = 1.0
    no_object: float = 0.1  # weight of unmatched queries in the token loss
    temperature: float = 0.07


def single_class_map(n: int, device: torch.device) -> Tensor:
    """(N, 2): every target is of the one class (SiRi's head)."""
    return to_device(torch.tensor([[1.0, 0.0]]), device).expand(n, 2)


def soft_token_loss(
    logits: Tensor, matches: Matches, positive_map: Tensor, n_boxes: float, no_object: float = 0.1
) -> Tensor:
    """Cross-entropy against the token distribution of the matched target, "no object" for the other queries."""
    log_p = logits.float().log_softmax(-1)
    wanted = torch.zeros_like(log_p)
    wanted[..., -1] = 1.0
    wanted[matches.row, matches.query] = positive_map[matches.target].to(wanted.dtype)
    weight = torch.full(logits.shape[:2], no_object, device=logits.device)
    weight[matches.row, matches.query] = 1.0
    return -((log_p * wanted).sum(-1) * weight).sum() / n_boxes


def box_losses(
    boxes: Tensor, matches: Matches, target_boxes: Tensor, n_boxes: float
) -> tuple[Tensor, Tensor]:
    """L1 distance and 1 - GIoU of matched boxes, both (S, Q, 4) / (N, 4) cxcywh."""
    predicted, wanted = boxes[matches.row, matches.query].float(), target_boxes[matches.target].float()
    overlap = giou(centre_to_corners(predicted), centre_to_corners(wanted))
    return (predicted - wanted).abs().sum() / n_boxes, (1 - overlap).sum() / n_boxes


def alignment_loss(
    queries: Tensor,
    tokens: Tensor,
    matches: Matches,
    positive_tokens: Tensor,
    n_boxes: float,
    temperature: float = 0.07,
) -> Tensor:
    """Contrastive loss between matched queries and the words that name their target, in both directions.

    queries (S, Q, C) and tokens (S, L, C) of length 1, positive_tokens (N, L) bool. Every token of the batch's width takes
    part in the denominators, padding included, as in the original.
    """
    logits = queries.float() @ tokens.float().transpose(1, 2) / temperature
    positive = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    positive[matches.row, matches.query] = positive_tokens[matches.target]
    total = logits.new_zeros(())
    for dim in (2, 1):
        attracted = logits.masked_fill(~positive, 0).sum(dim) / (positive.sum(dim) + 1e-6)
        loss = logits.logsumexp(dim) - attracted
        total = total + loss.masked_fill(~positive.any(dim), 0).sum()
    return total / 2 / n_boxes


def final_query_loss(
    is_final: Tensor, matches: Matches, wanted: Tensor, n_boxes: float
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of the matched queries' "this is the answer", and its accuracy."""
    predicted, truth = is_final[matches.row, matches.query, 0].float(), wanted[matches.target].float()
    loss = F.binary_cross_entropy_with_logits(predicted, truth, reduction="sum") / n_boxes
    right = ((predicted > 0) == (truth > 0.5)).float()
    return loss, right.mean() if len(right) else right.new_ones(())


def focal_mask_loss(
    logits: Tensor, truth: Tensor, valid: Tensor | None = None, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """logits, truth (K, P) over P pixels -> (K,) mean over pixels.

    `valid` (K, P) bool leaves padding out, here and below; the original counts it (ODDITIES H5).
    """
    logits, truth = logits.float(), truth.float()
    p = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missed = p * (1 - truth) + (1 - p) * truth
    balance = alpha * truth + (1 - alpha) * (1 - truth)
    return _mean_over_pixels(balance * missed**gamma * cross_entropy, valid)


def dice_mask_loss(logits: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 - Dice with one pixel added above and below; logits, truth (K, P) -> (K,)."""
    p, truth = logits.float().sigmoid(), truth.float()
    if valid is not None:
        p, truth = p * valid, truth * valid
    return 1 - (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)


def pixel_cross_entropy(logits: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Binary cross-entropy; logits, truth (K, P) -> (K,) mean over pixels (the supplement's mask loss)."""
    return _mean_over_pixels(
        F.binary_cross_entropy_with_logits(logits.float(), truth.float(), reduction="none"), valid
    )


def _mean_over_pixels(loss: Tensor, valid: Tensor | None) -> Tensor:
    return loss.mean(1) if valid is None else (loss * valid).sum(1) / valid.sum(1).clamp(min=1)


def resize_masks(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(K, h, w) mask logits -> (K, H, W), bilinear, pixel centres as DETR (corners not aligned)."""
    return F.interpolate(logits[:, None].float(), size=size_hw, mode="bilinear", align_corners=False)[:, 0]


def layer_losses(
    outputs: LayerOutputs,
    aligned_text: Tensor | None,
    targets: DetectionTargets,
    weights: LossWeights,
    costs: MatchCosts,
    n_boxes: float,
) -> tuple[dict[str, Tensor], Matches]:
    """Unweighted terms of one decoder layer, and its own matching."""
    matches = match(outputs.logits, outputs.boxes, targets.row, targets.positive_map, targets.boxes, costs)
    terms = {
        "tokens": soft_token_loss(outputs.logits, matches, targets.positive_map, n_boxes, weights.no_object)
    }
    terms["l1"], terms["giou"] = box_losses(outputs.boxes, matches, targets.boxes, n_boxes)
    if outputs.aligned is not None and aligned_text is not None and targets.positive_tokens is not None:
        terms["align"] = alignment_loss(
            outputs.aligned, aligned_text, matches, targets.positive_tokens, n_boxes, weights.temperature
        )
    if outputs.is_final is not None and targets.is_final is not None:
        terms["final"], _ = final_query_loss(outputs.is_final, matches, targets.is_final, n_boxes)
    return terms, matches
