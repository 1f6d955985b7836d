"""`ModelConfig` -> modules. The only place that knows which class serves which family."""

from __future__ import annotations

import torch

from stages.models.config import ModelConfig, VisionConfig
from stages.models.mdetr import DetectorModel
from stages.models.resnet import basic_strides, is_basic_resnet
from stages.models.seqtr import PointSequenceModel
from stages.models.vision import build_vision


def vision_strides(config: VisionConfig) -> tuple[int, ...]:
    """Strides of the backbone's levels, finest first, measured on the meta device (no weights are made)."""
    if config.kind == "darknet53":
        return (8, 16, 32)
    if is_basic_resnet(config.settings):
        return basic_strides(config.settings)
    with torch.device("meta"):
        body, _ = build_vision(config)
        side = 256
        maps = body.eval()(torch.empty(1, 3, side, side))
    return tuple(side // int(m.shape[-1]) for m in maps)


ReferringModel = PointSequenceModel | DetectorModel


def build_model(config: ModelConfig, vocabulary_size: int) -> ReferringModel:
    """Randomly initialised model; `vocabulary_size` is the number of word ids (gru) and unused otherwise."""
    family = DetectorModel if config.family == "mdetr" else PointSequenceModel
    return family(config, vocabulary_size, vision_strides(config.vision))
