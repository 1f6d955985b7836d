"""Multi-head attention with packed projections and an explicit key/value cache.

Parameter names and layout are those of `torch.nn.MultiheadAttention`, so released weights load by name.
Letters: B batch, T queries, S keys, D width, h heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.dropout import dropped_attention


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention; masks are True = may be attended, or a float bias added to the logits."""

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)  # (B, T, D) -> (B, h, T, D/h)

    def self_project(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) twice -> q, k, v (B, h, T, D/h); positions join q and k only (DETR)."""
        d = x.shape[-1]
        q, k = F.linear(x + positions, self.in_proj_weight[: 2 * d], self.in_proj_bias[: 2 * d]).chunk(2, -1)
        v = F.linear(x, self.in_proj_weight[2 * d :], self.in_proj_bias[2 * d :])
        return self._heads(q), self._heads(k), self._heads(v)

    def project_query(self, x: Tensor) -> Tensor:
        d = x.shape[-1]
        return self._heads(F.linear(x, self.in_proj_weight[:d], self.in_proj_bias[:d]))

    def project_memory(self, memory: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (memory + positions) and values (memory), each (B, h, S, D/h): once an image, not once a step."""
        d = memory.shape[-1]
        k = F.linear(memory + positions, self.in_proj_weight[d : 2 * d], self.in_proj_bias[d : 2 * d])
        v = F.linear(memory, self.in_proj_weight[2 * d :], self.in_proj_bias[2 * d :])
        return self._heads(k), self._heads(v)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """(B, h, T, D/h) x (B, h, S, D/h) -> (B, T, D)."""
        p = self.dropout if self.training else 0.0
        one_query = q.shape[-2] == 1 < len(q) and not p and q.device.type == "cpu"
        if one_query:  # of several sentences: the fused kernel is made for many queries of each
            out = self.weights(q, k, mask) @ v
        else:
            out = dropped_attention(q, k, v, mask, p, causal=causal)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected

    def weights(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """Attention probabilities (B, h, T, S): the explicit path, for figures and single queries."""
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        return logits.softmax(-1)
