"""`ModelConfig` -> modules. The only place that knows which class serves which family."""

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


def least_parameters(config: ModelConfig, vocabulary_size: int) -> int:
    """A number that the model's parameters exceed, told from its description alone.

    Backbones and text encoders of transformers are built on the meta device for it.
    """
    d, text, settings = config.d_model, config.text, config.vision.settings
    count = (config.encoder_layers + config.decoder_layers) * (4 * d * d + 2 * d * config.ffn_dim)
    if text.kind == "gru":
        count += vocabulary_size * text.word_dim + 6 * text.hidden * (text.word_dim + text.hidden)
    if is_basic_resnet(settings):
        sizes, depths = settings.get("hidden_sizes", ()), settings.get("depths", ())
        count += sum(9 * n * n * depth for n, depth in zip(sizes, depths, strict=False))
    elif config.vision.kind == "auto" or text.kind == "auto":
        with torch.device("meta"):
            count = sum(p.numel() for p in build_model(config, vocabulary_size).parameters())
    return int(count)
