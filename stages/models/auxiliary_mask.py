"""The auxiliary mask head, and its loss: a dense answer beside the tokens or queries (beyond the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import UsageError
from stages.models.losses import LossSum
from stages.models.memory import Memory


class AuxiliaryMaskHead(nn.Linear):
    """Encoder output to logits of "this part of the picture shows the referent", k x k parts of each memory cell."""

    def __init__(self, d_model: int, parts: int, stride: int) -> None:
        """`stride`: pixels of a memory cell; UsageError when `parts` does not divide it."""
        if stride % parts:
            raise UsageError(f"auxiliary-mask must divide the stride {stride}, got {parts}")
        super().__init__(d_model, parts**2)
        self.parts, self.part_size = parts, stride // parts

    def logits(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """(S, kH, kW) logits, and which of the parts belong to a cell that contains image pixels."""
        h, w = memory.grid_hw
        parts: Tensor = self(memory.tokens[:, : h * w])
        logits = F.pixel_shuffle(parts.transpose(1, 2).unflatten(2, (h, w)), self.parts).squeeze(1)
        valid = memory.mask[:, : h * w].unflatten(1, (h, w))
        return logits, valid.repeat_interleave(self.parts, 1).repeat_interleave(self.parts, 2)


def auxiliary_mask_loss(logits: Tensor, valid: Tensor, share: Tensor, weight: Tensor) -> LossSum:
    """Binary cross-entropy of "this part of the picture shows the referent" against the share of it that does.

    A dense answer to every sentence, where the tokens of a box are four: the encoder finds out much sooner which part
    a sentence means, and the tokens only have to read it off (docs/EXPERIMENTS.md).

    Args:
        logits, share: (S, H, W) float, share in [0, 1]; valid: (S, H, W) bool; weight: (S,) float, 0 = not known.

    Returns:
        mean over the valid parts of a sentence, then weighted sum; it counts the sentences that are known.
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), share, reduction="none") * valid
    each = loss.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    return LossSum((each * weight).sum(), (weight > 0).sum().float())


def box_share(boxes_xyxy: Tensor, grid_hw: tuple[int, ...], part_size: int) -> Tensor:
    """(S, 4) boxes in pixels -> (S, H, W) float32, share of each part of `part_size` pixels inside the box."""
    h, w = grid_hw
    shares = []
    for axis, n in ((1, h), (0, w)):
        edge = torch.arange(n, device=boxes_xyxy.device) * part_size
        low, high = boxes_xyxy[:, axis, None], boxes_xyxy[:, axis + 2, None]
        inside = torch.minimum(high, edge + part_size) - torch.maximum(low, edge)
        shares.append(inside.clamp(min=0) / part_size)
    return shares[0][:, :, None] * shares[1][:, None, :]
