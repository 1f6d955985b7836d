"""Losses on token logits (METHOD.md section 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RELEASE_EPSILON = 1.19e-7  # float32 machine epsilon, added to the release's normaliser


def token_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    smoothing: float = 0.1,
    spread: float = 0.0,
    release: bool = False,
) -> Tensor:
    """Weighted cross-entropy over sequence slots.

    Args:
        logits: (S, T, V) float; targets: (S, T) int64; weights: (S, T) float >= 0, 0 = the slot is not trained.
        smoothing: mass moved from the target to all classes.
        spread: standard deviation, in bins, of a Gaussian that shares the rest with neighbouring coordinates
            (0 = one class). END (the last class) is never shared.
        release: the release's two slips (ODDITIES A13, A14): the target gets 1 - smoothing instead of
            1 - smoothing + smoothing / V, and the sum is divided by the number of slots instead of the sum of weights.

    Returns:
        scalar.
    """
    log_p = F.log_softmax(logits.float(), -1)
    v = logits.shape[-1]
    if spread > 0:
        picked = (neighbour_targets(v, spread, logits.device)[targets] * log_p).sum(-1)
    else:
        picked = log_p.gather(-1, targets[..., None]).squeeze(-1)
    everywhere = log_p.sum(-1)
    if release:
        picked_class = log_p.gather(-1, targets[..., None]).squeeze(-1)
        loss = -(1 - smoothing) * picked - smoothing / v * (everywhere - picked_class)
        return (loss * weights).sum() / (targets.numel() + RELEASE_EPSILON)
    loss = -(1 - smoothing) * picked - smoothing / v * everywhere
    return (loss * weights).sum() / weights.sum().clamp(min=1e-6)


def grounding_loss(logits: Tensor, share: Tensor, valid: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of "this part of the picture shows the referent" against the share of it that does.

    A dense answer to every sentence, where the tokens of a box are four: the encoder finds out much sooner which part
    a sentence means, and the tokens only have to read it off (docs/EXPERIMENTS.md).

    Args:
        logits, share: (S, H, W) float, share in [0, 1]; valid: (S, H, W) bool; weight: (S,) float, 0 = not known.

    Returns:
        scalar, mean over the valid parts of a sentence, then weighted mean over sentences.
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), share, reduction="none") * valid
    each = loss.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    return (each * weight).sum() / weight.sum().clamp(min=1e-6)


def cell_coverage(boxes_xyxy: Tensor, grid_hw: tuple[int, ...], stride: int) -> Tensor:
    """(S, 4) boxes in pixels -> (S, H, W) float32, share of each cell of `stride` pixels inside the box."""
    h, w = grid_hw
    shares = []
    for axis, n in ((1, h), (0, w)):
        edge = torch.arange(n, device=boxes_xyxy.device) * stride
        low, high = boxes_xyxy[:, axis, None], boxes_xyxy[:, axis + 2, None]
        inside = torch.minimum(high, edge + stride) - torch.maximum(low, edge)
        shares.append(inside.clamp(min=0) / stride)
    return shares[0][:, :, None] * shares[1][:, None, :]


def neighbour_targets(vocabulary_size: int, spread: float, device: torch.device) -> Tensor:
    """(V, V) rows sum to 1: row t is a Gaussian of `spread` bins around coordinate t; END's row is one-hot."""
    coordinate = torch.arange(vocabulary_size, device=device, dtype=torch.float32)
    table = torch.exp(-0.5 * ((coordinate[None] - coordinate[:, None]) / spread).square())
    table[:, -1] = 0
    table[-1] = 0
    table[-1, -1] = 1
    return table / table.sum(-1, keepdim=True)
