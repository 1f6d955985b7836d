"""Named architectures: the small default, and the full-size models of the literature.

Numbers of `seqtr-darknet53` and `partial-res-darknet53` are those of METHOD.md sections 2 and 3; the others put the
same decoder on backbones and sentence encoders of `transformers`. All have corrected semantics; `--semantics release`
turns every one of the release's differences on.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from stages.errors import UsageError, nearest_hint
from stages.models.config import PRESETS as SMALL
from stages.models.config import (
    DetectorConfig,
    FusionConfig,
    ImageConfig,
    ModelConfig,
    TextConfig,
    VisionConfig,
)

RESNET101: dict[str, Any] = {
    "model_type": "resnet",
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 23, 3],
    "layer_type": "bottleneck",
    "hidden_act": "relu",
    "out_features": ["stage2", "stage3", "stage4"],
}
ROBERTA: dict[str, Any] = {
    "model_type": "roberta",
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
SWIN_TINY: dict[str, Any] = {
    "model_type": "swin",
    "image_size": 224,
    "patch_size": 4,
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "window_size": 7,
    "drop_path_rate": 0.1,
    "out_features": ["stage2", "stage3", "stage4"],
}
MINILM: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}

SEQTR = ModelConfig(
    n_points=18,
    n_bins=1000,
    d_model=256,
    n_heads=8,
    encoder_layers=6,
    decoder_layers=3,
    ffn_dim=1024,
    dropout=0.1,
    image=ImageConfig(size=640, multiple=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    vision=VisionConfig(kind="darknet53", frozen="all-but-last-two"),
    fusion=FusionConfig(kind="bottom-up", channels=1024),
    text=TextConfig(kind="gru", word_dim=300, hidden=512, max_words=15, frozen_words=True),
)

MDETR = ModelConfig(
    family="mdetr",
    d_model=256,
    n_heads=8,
    encoder_layers=6,
    decoder_layers=6,
    ffn_dim=2048,
    dropout=0.1,
    image=ImageConfig(size=640, multiple=32),
    vision=VisionConfig(source="microsoft/resnet-101", settings=RESNET101),
    fusion=FusionConfig(kind="last", channels=2048),
    text=TextConfig(
        kind="auto", source="FacebookAI/roberta-base", settings=ROBERTA, max_words=40, frozen_words=False
    ),
    detector=DetectorConfig(queries=100, classes=255, align_dim=64),
)

PRESETS: dict[str, ModelConfig] = {
    **SMALL,
    "mdetr-resnet101-roberta": MDETR,
    # SiRi: 16 queries, one class, no contrastive loss; --second-decoder makes it the multi-task one
    "siri-resnet101-roberta": MDETR.replace(
        fusion=FusionConfig(kind="added", channels=2048), detector=DetectorConfig()
    ),
    "seqtr-darknet53": SEQTR,
    # the published recipe starts from REC weights of plain seqtr-darknet53 (configs/partial-res-darknet53.toml)
    "partial-res-darknet53": SEQTR.replace(n_points=12, text_in_memory="sentence", cctf=True, pmca=True),
    "resnet101-roberta": SEQTR.replace(
        text_in_memory="words",
        image=ImageConfig(size=640, multiple=32),
        vision=VisionConfig(source="microsoft/resnet-101", settings=RESNET101, frozen="all-but-last-two"),
        fusion=FusionConfig(kind="patch", channels=768, fine_channels=128),
        text=TextConfig(
            kind="auto", source="FacebookAI/roberta-base", settings=ROBERTA, max_words=40, frozen_words=False
        ),
    ),
    "swin-minilm": SEQTR.replace(
        n_points=24,
        text_in_memory="words",
        image=ImageConfig(size=512, multiple=32),
        vision=VisionConfig(source="microsoft/swin-tiny-patch4-window7-224", settings=SWIN_TINY),
        fusion=FusionConfig(kind="patch", channels=384, fine_channels=64),
        text=TextConfig(
            kind="auto",
            source="sentence-transformers/all-MiniLM-L6-v2",
            settings=MINILM,
            max_words=40,
            frozen_words=False,
        ),
    ),
}


def preset(name: str) -> ModelConfig:
    """The named configuration; UsageError lists the known names."""
    if name not in PRESETS:
        raise UsageError(
            f"unknown model preset {name!r}",
            facts=[f"known presets: {', '.join(sorted(PRESETS))}"],
            hint=nearest_hint(name, PRESETS),
        )
    return PRESETS[name]


def released(config: ModelConfig) -> ModelConfig:
    """The same architecture as the public release computes it: its GRU also reads the padding, it has no auxiliary mask head."""
    text = dataclasses.replace(config.text, packed=False)
    return config.replace(semantics="release", text=text, auxiliary_mask=0)
