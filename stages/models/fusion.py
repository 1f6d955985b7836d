"""Bring several backbone levels to the memory's stride: the part of the fusion that does not depend on the sentence.

The sentence joins afterwards as tanh(vision) * tanh(sentence) at every cell (METHOD.md section 2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import UsageError
from stages.models.config import FusionConfig
from stages.models.darknet import ConvBlock


class BottomUpFusion(nn.Module):
    """SeqTR: 8 -> 16 -> 32 by average pooling + 3x3 convolution, concatenated, then two convolutions."""

    def __init__(self, channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        total = fine + middle + coarse
        self.down_bot2mid = nn.Sequential(nn.AvgPool2d(2), ConvBlock(fine, fine, 3))
        self.down_mid2top = nn.Sequential(nn.AvgPool2d(2), ConvBlock(fine + middle, fine + middle, 3))
        self.top_project = nn.Sequential(ConvBlock(total, total, 3), ConvBlock(total, out_channels, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        fine, middle, coarse = maps
        middle = torch.cat((self.down_bot2mid(fine), middle), 1)
        coarse = torch.cat((self.down_mid2top(middle), coarse), 1)
        out: Tensor = self.top_project(coarse)
        return out


class PatchFusion(nn.Module):
    """Finer levels enter a cell as the pixels they are (1x1 reduction, then space-to-depth), not as their average.

    A contour needs to know where inside the cell the edge lies; average pooling forgets it.
    """

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], fine_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        self.ratios = [strides[-1] // s for s in strides[:-1]]
        self.reduce = nn.ModuleList(
            nn.Conv2d(c, max(fine_channels // (r // 2), 8), 1)
            for c, r in zip(channels[:-1], self.ratios, strict=True)
        )
        width = sum(
            conv.out_channels * r * r
            for conv, r in zip(self.reduce, self.ratios, strict=True)
            if isinstance(conv, nn.Conv2d)
        )
        self.mix = nn.Sequential(
            ConvBlock(width + channels[-1], out_channels, 1), ConvBlock(out_channels, out_channels, 3)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        parts = [
            F.pixel_unshuffle(conv(x), r) for conv, x, r in zip(self.reduce, maps, self.ratios, strict=False)
        ]
        out: Tensor = self.mix(torch.cat((*parts, maps[-1]), 1))
        return out


class LastLevel(nn.Module):
    """MDETR: the coarsest level as it is."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[-1]


class AddedLevel(nn.Module):
    """SiRi: the finest of three levels joins the coarsest through two strided convolutions without a non-linearity."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.down = nn.Sequential(nn.Conv2d(fine, middle, 3, 2, 1), nn.Conv2d(middle, coarse, 3, 2, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        out: Tensor = maps[-1] + self.down(maps[0])
        return out


Fusion = BottomUpFusion | PatchFusion | LastLevel | AddedLevel


def build_fusion(config: FusionConfig, channels: tuple[int, ...], strides: tuple[int, ...]) -> Fusion:
    if config.kind in ("last", "added"):
        if config.channels != channels[-1]:
            raise UsageError(
                f"fusion {config.kind!r} keeps the {channels[-1]} channels of the coarsest level, got {config.channels}"
            )
        return LastLevel() if config.kind == "last" else AddedLevel(channels)
    if config.kind == "bottom-up":
        return BottomUpFusion(channels, config.channels)
    return PatchFusion(channels, strides, config.fine_channels, config.channels)
