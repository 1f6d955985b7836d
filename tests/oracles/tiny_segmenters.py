"""Checkpoints of promptable segmenters that are made in a moment and drive the real loading code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SIDE = 64
KINDS = ("sam", "sam_hq", "sam2")


def write_tiny_segmenter(path: Path, kind: str = "sam", **processor: Any) -> Path:
    """A segmenter of random weights and tiny sizes, as `save_pretrained` leaves it; `processor`: of its JSON file."""
    torch.manual_seed(0)
    _MAKERS[kind]().save_pretrained(path)
    if processor:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def _vision() -> dict[str, Any]:
    return {
        "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIDE,
        "patch_size": 8, "window_size": 4, "global_attn_indexes": [0], "num_pos_feats": 8, "mlp_dim": 16,
        "initializer_range": 0.5,
    }  # fmt: skip


_PROMPTS = {"hidden_size": 16, "image_size": SIDE, "patch_size": 8, "mask_input_channels": 4}
_DECODER = {
    "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
}  # fmt: skip


def _sam() -> Any:
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    return SamModel(
        SamConfig(
            vision_config=SamVisionConfig(**_vision()).to_dict(),
            prompt_encoder_config=SamPromptEncoderConfig(**_PROMPTS).to_dict(),
            mask_decoder_config=SamMaskDecoderConfig(**_DECODER).to_dict(),
        )
    )


def _sam_hq() -> Any:
    from transformers import (
        SamHQConfig,
        SamHQMaskDecoderConfig,
        SamHQModel,
        SamHQPromptEncoderConfig,
        SamHQVisionConfig,
    )

    return SamHQModel(
        SamHQConfig(
            vision_config=SamHQVisionConfig(**_vision()).to_dict(),
            prompt_encoder_config=SamHQPromptEncoderConfig(**_PROMPTS).to_dict(),
            mask_decoder_config=SamHQMaskDecoderConfig(**_DECODER, vit_dim=16).to_dict(),
        )
    )


def _sam2() -> Any:
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    widths = [8, 16, 32, 64]
    backbone = Sam2HieraDetConfig(
        hidden_size=8, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 4, 4, 2], global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    cells = [SIDE // 4, SIDE // 8, SIDE // 16]
    return Sam2Model(
        Sam2Config(
            vision_config=Sam2VisionConfig(
                backbone_config=backbone, backbone_channel_list=widths[::-1],
                backbone_feature_sizes=[[n, n] for n in cells], fpn_hidden_size=32,
            ),
            prompt_encoder_config=Sam2PromptEncoderConfig(**{**_PROMPTS, "hidden_size": 32, "patch_size": 16}),
            mask_decoder_config=Sam2MaskDecoderConfig(**{**_DECODER, "hidden_size": 32}),
        )
    )  # fmt: skip


_MAKERS = {"sam": _sam, "sam_hq": _sam_hq, "sam2": _sam2}
