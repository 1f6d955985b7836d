"""PMCA, point-modulated cross-attention (METHOD.md section 3).

An MLP on the decoder state predicts, for each head, a centre p inside the image's valid cells and a scale s; the
bias -[s_x^2 (p_x - (u + 1/2))^2 + s_y^2 (p_y - (v + 1/2))^2] / 8 is added to the cross-attention logits of cell (u, v).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.models.memory import Memory


@dataclass(frozen=True)
class CellAxes:
    """Where the cells of a memory are: computed once, used by every layer and position.

    Attributes:
        extent: (S, 1, 1, 2) float (W, H) of each image's own unpadded part; centres: (L,) 1/2, 3/2, … of the longer side.
        grid_hw: (H, W) of the batch; n_text: memory tokens after the cells.
    """

    extent: Tensor
    centres: Tensor
    grid_hw: tuple[int, int]
    n_text: int

    @classmethod
    def of(cls, memory: Memory) -> CellAxes:
        h, w = memory.grid_hw
        extent = memory.valid_cells_hw.flip(-1).to(memory.tokens.dtype)[:, None, None]
        centres = torch.arange(max(h, w), device=extent.device, dtype=extent.dtype) + 0.5
        return cls(extent, centres, memory.grid_hw, memory.tokens.shape[1] - h * w)


class PointModulation(nn.Module):
    """D -> 128 -> 64 -> 4 * heads. The last layer is NOT zero: with s = 0 every gradient here stays 0 for ever.

    It starts as a weak pull (scale bias 0.5) towards a centre that the state decides.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.mlp = nn.Sequential(
            nn.Linear(d_model, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4 * n_heads)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias[2 * n_heads :], 0.5)

    def forward(self, state: Tensor, axes: CellAxes) -> Tensor:
        """state (S, T, D) -> bias (S, heads, T, M) with 0 for text tokens; computed per axis and broadcast."""
        s, t, _ = state.shape
        # each (S, heads, T, 2) xy
        centre, scale = self.mlp(state).view(s, t, 2, self.n_heads, 2).permute(2, 0, 3, 1, 4)
        # (S, heads, T, 2, longest side)
        distance = (centre.sigmoid() * axes.extent)[..., None] - axes.centres
        by_axis = distance.square() * (scale.square() / -8)[..., None]
        h, w = axes.grid_hw
        bias = (by_axis[..., 1, :h, None] + by_axis[..., 0, None, :w]).flatten(-2)  # (S, heads, T, H*W)
        return nn.functional.pad(bias, (0, axes.n_text)) if axes.n_text else bias
