"""Losses on token logits (METHOD.md section 2), and the sums that every loss is made of."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_WEIGHT = 1e-6  # of a step that counts nothing; its loss is 0
RELEASE_EPSILON = 1.19e-7  # float32 machine epsilon, added to the release's normaliser


@dataclass(frozen=True)
class LossSum:
    """A loss before it is divided by what it counts, so that several processes can add up both parts first.

    Attributes:
        total: (K,) sums of K terms that count the same things, or () of one; weight: () float, what is counted.
        scale: weight of each term in the training loss, (K,) or a number.
    """

    total: Tensor
    weight: Tensor
    scale: Tensor | float = 1.0

    def mean(self) -> Tensor:
        """() float."""
        return (self.scale * (self.total / self.weight.clamp(min=SMALLEST_WEIGHT))).sum()


def token_sums(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    smoothing: float = 0.1,
    spread: float = 0.0,
    count: Tensor | None = None,
) -> LossSum:
    """Weighted cross-entropy over sequence slots.

    Args:
        logits: (S, T, V) float; targets: (S, T) int64; weights: (S, T) float >= 0, 0 = the slot is not trained.
        smoothing: mass moved from the target to all classes.
        spread: standard deviation, in bins, of a Gaussian that shares the rest with neighbouring coordinates
            (0 = one class). END (the last class) is never shared.
        count: what the sum is divided by, if not the sum of weights: their sum as if no sequence weighed less than
            another, or else a step of nothing but pseudo labels would count the same whatever weight they have.

    """
    log_p = F.log_softmax(logits.float(), -1)
    picked = _picked(log_p, targets, spread)
    loss = -(1 - smoothing) * picked - smoothing / log_p.shape[-1] * log_p.sum(-1)
    return LossSum((loss * weights).sum(), weights.sum() if count is None else count)


def token_sums_release(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    smoothing: float = 0.1,
    spread: float = 0.0,
    count: Tensor | None = None,
) -> LossSum:
    """`token_sums` with the release's two slips (ODDITIES A13, A14).

    The target gets 1 - smoothing instead of 1 - smoothing + smoothing / V, and the sum is divided by the number of slots
    instead of the sum of weights; `count` changes nothing.
    """
    log_p = F.log_softmax(logits.float(), -1)
    others = log_p.sum(-1) - _picked(log_p, targets, spread=0)
    loss = -(1 - smoothing) * _picked(log_p, targets, spread) - smoothing / log_p.shape[-1] * others
    return LossSum((loss * weights).sum(), loss.new_tensor(targets.numel() + RELEASE_EPSILON))


def _picked(log_p: Tensor, targets: Tensor, spread: float) -> Tensor:
    """(S, T) log probability of the targets, shared with their neighbours where `spread` > 0."""
    if spread > 0:
        return (neighbour_targets(log_p.shape[-1], spread, log_p.device)[targets] * log_p).sum(-1)
    return log_p.gather(-1, targets[..., None]).squeeze(-1)


def neighbour_targets(vocabulary_size: int, spread: float, device: torch.device) -> Tensor:
    """(V, V) rows sum to 1: row t is a Gaussian of `spread` bins around coordinate t; END's row is one-hot."""
    coordinate = torch.arange(vocabulary_size, device=device, dtype=torch.float32)
    table = torch.exp(-0.5 * ((coordinate[None] - coordinate[:, None]) / spread).square())
    table[:, -1] = 0
    table[-1] = 0
    table[-1, -1] = 1
    return table / table.sum(-1, keepdim=True)
