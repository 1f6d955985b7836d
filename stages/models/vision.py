"""Backbones: images in, feature maps at several strides out (METHOD.md section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stages.models.config import VisionConfig
from stages.models.darknet import DarkNet53
from stages.models.resnet import BasicResNet, is_basic_resnet


class AutoVision(nn.Module):
    """Any `transformers` AutoBackbone described by its own config (`out_features` chooses the levels)."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        if is_basic_resnet(settings):
            self.backbone = BasicResNet(settings)
        else:
            from transformers import AutoBackbone, AutoConfig

            self.backbone = AutoBackbone.from_config(AutoConfig.for_model(**settings))
        self.channels = tuple(int(c) for c in self.backbone.channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images (I, 3, H, W) normalised -> maps, finest first."""
        maps = self.backbone(images)
        return list(getattr(maps, "feature_maps", maps))


class FrozenParts(nn.Module):
    """A backbone whose frozen parts get no gradient and, by default, keep their batch-norm statistics."""

    def __init__(self, body: nn.Module, config: VisionConfig) -> None:
        super().__init__()
        self.body = body
        self.fixed_statistics = config.frozen_batch_norm
        if config.frozen == "all":
            self.frozen: list[nn.Module] = [body]
        elif config.frozen == "all-but-last-two":
            self.frozen = _all_but_last_two(body)
        else:
            self.frozen = []
        for module in self.frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenParts:
        super().train(mode)
        if self.fixed_statistics:
            for module in self.frozen:
                module.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.body(images)
        return maps


def _all_but_last_two(body: nn.Module) -> list[nn.Module]:
    """Everything before the last two modules of DarkNet, or before the last two stages of an AutoBackbone.

    The stages are the first list of modules in an AutoBackbone (ResNet, Swin and ConvNeXt alike); what comes before
    them, the stem, is frozen with the first stages, what comes after them stays trainable.
    """
    lists = [(name, module) for name, module in body.named_modules() if isinstance(module, nn.ModuleList)]
    name, stages = lists[0]
    frozen: list[nn.Module] = list(stages[:-2])
    parent = body
    for part in name.split("."):  # siblings that come before the list, at each level on the way to it
        for sibling, module in parent.named_children():
            if sibling == part:
                break
            frozen.append(module)
        parent = parent.get_submodule(part)
    return frozen


def build_vision(config: VisionConfig) -> tuple[FrozenParts, tuple[int, ...]]:
    """The backbone and the channels of its levels, finest first."""
    body = DarkNet53() if config.kind == "darknet53" else AutoVision(config.settings)
    return FrozenParts(body, config), body.channels
