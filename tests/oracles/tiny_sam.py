"""A SAM checkpoint that is made in a moment and drives the real loading code."""

from __future__ import annotations

from pathlib import Path

import torch


def write_tiny_sam(path: Path) -> Path:
    """A SAM of random weights and tiny sizes, as `save_pretrained` leaves it."""
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    torch.manual_seed(0)
    tiny = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=16, output_channels=16, num_hidden_layers=1, num_attention_heads=2, image_size=64,
            patch_size=8, window_size=4, global_attn_indexes=[0], num_pos_feats=8, mlp_dim=16, initializer_range=0.5,
        ).to_dict(),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4
        ).to_dict(),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=16, num_hidden_layers=2, num_attention_heads=2, iou_head_hidden_dim=16
        ).to_dict(),
    )  # fmt: skip
    SamModel(tiny).save_pretrained(path)
    return path
