"""PMCA, point-modulated cross-attention (METHOD.md section 3).

An MLP on the decoder state predicts, for each head, a centre p inside the image's valid cells and a scale s; the
bias -[s_x^2 (p_x - (u + 1/2))^2 + s_y^2 (p_y - (v + 1/2))^2] / 8 is added to the cross-attention logits of cell (u, v).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.models.memory import Memory


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

    def forward(self, state: Tensor, memory: Memory) -> Tensor:
        """state (S, T, D) -> bias (S, heads, T, M) with 0 for text tokens; computed per axis and broadcast."""
        s, t, _ = state.shape
        h, w = memory.grid_hw
        centre, scale = (
            self.mlp(state).view(s, t, 2, self.n_heads, 2).permute(2, 0, 3, 1, 4)
        )  # each (S, heads, T, 2) xy
        extent = memory.valid_cells_hw.flip(-1).to(centre.dtype)[:, None, None]  # (S, 1, 1, 2) as (W, H)
        centre = centre.sigmoid() * extent
        weight = scale.square() / 8
        columns = torch.arange(w, device=state.device, dtype=centre.dtype) + 0.5
        rows = torch.arange(h, device=state.device, dtype=centre.dtype) + 0.5
        by_x = weight[..., :1] * (centre[..., :1] - columns).square()  # (S, heads, T, W)
        by_y = weight[..., 1:] * (centre[..., 1:] - rows).square()  # (S, heads, T, H)
        bias = -(by_y[..., :, None] + by_x[..., None, :]).flatten(-2)  # (S, heads, T, H*W)
        n_text = memory.tokens.shape[1] - h * w
        return nn.functional.pad(bias, (0, n_text)) if n_text else bias
