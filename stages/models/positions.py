"""Sine positions of memory cells (METHOD.md section 2; DETR's normalised 2-D code)."""

import math

import torch
from torch import Tensor


def sine_positions(valid: Tensor, d_model: int, temperature: float = 10000.0) -> Tensor:
    """Code of each cell, normalised by the image's own valid extent.

    Args:
        valid: (B, H, W) bool, True inside the image.
        d_model: width D; the first half encodes y, the second x.

    Returns:
        (B, H*W, D) float32. Cells of padding get a finite, meaningless code.
    """
    ones = valid.float()
    y, x = ones.cumsum(1), ones.cumsum(2)
    y = y / (y[:, -1:, :] + 1e-6) * (2 * math.pi)
    x = x / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
    half = d_model // 2
    exponent = 2 * torch.arange(half, device=valid.device).div(2, rounding_mode="floor") / half
    frequency = temperature**exponent
    codes = []
    for coordinate in (y, x):
        angle = coordinate[..., None] / frequency  # (B, H, W, D/2)
        codes.append(torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), -1).flatten(-2))
    return torch.cat(codes, -1).flatten(1, 2)
