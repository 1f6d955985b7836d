"""Masks from a query's state: the supplement's mask embedding, and the attention-map head of the original.

Letters: S sentences, Q queries, D width, h heads, H x W memory cells; levels are finer backbone maps, coarse to fine.
Both heads give logits at the finest level's resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8  # of a group norm, or the most that divide its channels


def smoothing(before: int, after: int) -> nn.Sequential:
    """3x3 convolution, group norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(math.gcd(GROUPS, after), after), nn.ReLU()
    )


@dataclass
class MaskInputs:
    """What both heads read.

    Attributes:
        cells: (S, D, H, W) encoder output; valid: (S, H, W) bool; projected: (S, D, H, W) encoder input.
        levels: finer backbone maps (S, C, h, w), coarse to fine.
    """

    cells: Tensor
    valid: Tensor
    projected: Tensor
    levels: list[Tensor]

    def __getitem__(self, rows: Tensor) -> MaskInputs:
        return MaskInputs(
            self.cells[rows], self.valid[rows], self.projected[rows], [x[rows] for x in self.levels]
        )

    def crop(self, h: int, w: int) -> MaskInputs:
        """The top-left h x w cells and what lies under them."""
        ratios = [x.shape[-1] // self.cells.shape[-1] for x in self.levels]
        parts = [x[..., : h * r, : w * r] for x, r in zip(self.levels, ratios, strict=True)]
        return MaskInputs(self.cells[..., :h, :w], self.valid[:, :h, :w], self.projected[..., :h, :w], parts)


class EmbeddingMaskHead(nn.Module):
    """Three linear layers make a mask embedding of the state; its product with the pixel features is the mask.

    Pixel features: encoder output, brought up level by level with a lateral connection (supplement of the paper; the
    up-sampling path is our choice, the text only says "upsampled").
    """

    def __init__(self, d_model: int, level_channels: Sequence[int], mask_channels: int) -> None:
        super().__init__()
        n = len(level_channels)
        widths = [mask_channels * 2 ** (n - 1 - i) for i in range(n)] if n else []
        before = [d_model, *widths]
        self.reduce = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(before, widths, strict=False))
        self.lateral = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(level_channels, widths, strict=True))
        self.smooth = nn.ModuleList(smoothing(w, w) for w in widths)
        self.embedding = nn.Sequential(
            nn.Linear(d_model, d_model),
            nn.ReLU(),
            nn.Linear(d_model, d_model),
            nn.ReLU(),
            nn.Linear(d_model, before[-1] + 1),
        )

    def forward(self, states: Tensor, inputs: MaskInputs) -> Tensor:
        """states (S, Q, D) -> logits (S, Q, h, w)."""
        x = inputs.cells * inputs.valid[:, None]
        for reduce, lateral, smooth, level in zip(
            self.reduce, self.lateral, self.smooth, inputs.levels, strict=True
        ):
            up = F.interpolate(reduce(x), size=level.shape[-2:], mode="bilinear", align_corners=False)
            x = smooth(up + lateral(level))
        embedding = self.embedding(states)
        product = torch.einsum("sqc,schw->sqhw", embedding[..., :-1], x) / x.shape[1] ** 0.5
        out: Tensor = product + embedding[..., -1, None, None]
        return out


class AttentionMaps(nn.Module):
    """Where a query looks: softmax over the cells, separately for each head, without values."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, states: Tensor, cells: Tensor, valid: Tensor) -> Tensor:
        """states (S, Q, D), cells (S, D, H, W), valid (S, H, W) bool -> (S, Q, h, H, W), each map sums to 1."""
        q = self.query(states).unflatten(-1, (self.n_heads, -1))  # (S, Q, h, D/h)
        k = self.key(cells.flatten(2).transpose(1, 2)).unflatten(-1, (self.n_heads, -1))  # (S, HW, h, D/h)
        logits = torch.einsum("sqhc,snhc->sqhn", q, k) / q.shape[-1] ** 0.5
        logits = logits.masked_fill(~valid.flatten(1)[:, None, None], -torch.inf)
        return logits.softmax(-1).unflatten(-1, cells.shape[-2:])


class AttentionMaskHead(nn.Module):
    """Attention maps beside the projected image, then a small pyramid of convolutions up to the finest level."""

    def __init__(self, d_model: int, n_heads: int, level_channels: Sequence[int]) -> None:
        super().__init__()
        self.attention = AttentionMaps(d_model, n_heads)
        first = d_model + n_heads
        widths = [max(d_model // 2 ** (i + 1), GROUPS) for i in range(len(level_channels) + 1)]
        before, after = [first, first, *widths[:-1]], [first, *widths]
        self.convolutions = nn.ModuleList(smoothing(a, b) for a, b in zip(before, after, strict=True))
        self.lateral = nn.ModuleList(
            nn.Conv2d(c, w, 1) for c, w in zip(level_channels, widths[:-1], strict=True)
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def refine(self, projected: Tensor, maps: Tensor, levels: list[Tensor]) -> Tensor:
        """projected (S, D, H, W), maps (S, Q, h, H, W), levels coarse to fine -> logits (S, Q, h', w')."""
        s, q = maps.shape[:2]
        x = torch.cat((projected.repeat_interleave(q, 0), maps.flatten(0, 1)), 1)
        x = self.convolutions[1](self.convolutions[0](x))
        for lateral, convolution, level in zip(self.lateral, self.convolutions[2:], levels, strict=True):
            side = lateral(level).repeat_interleave(q, 0)
            x = convolution(side + F.interpolate(x, size=level.shape[-2:], mode="nearest"))
        return self.out(x)[:, 0].unflatten(0, (s, q))

    def forward(self, states: Tensor, inputs: MaskInputs) -> Tensor:
        """states (S, Q, D) -> logits (S, Q, h, w)."""
        maps = self.attention(states, inputs.cells, inputs.valid)
        return self.refine(inputs.projected, maps, inputs.levels)


def masks_in_image(
    logits: Tensor, padded_hw: tuple[int, int], size_hw: tuple[int, int], original_hw: tuple[int, int]
) -> Tensor:
    """Logits of one image (K, h, w) over its padded frame -> (K, H, W) bool at the original size.

    Up to the padded model frame, cut to the image, then to its original size, both bilinear; a pixel belongs to the
    mask where the logit is above 0.
    """
    up = F.interpolate(logits[None].float(), size=padded_hw, mode="bilinear", align_corners=False)
    up = up[..., : size_hw[0], : size_hw[1]]
    return F.interpolate(up, size=original_hw, mode="bilinear", align_corners=False)[0] > 0
