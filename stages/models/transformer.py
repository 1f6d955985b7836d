"""Post-norm encoder and auto-regressive decoder (METHOD.md section 2), with PMCA in the decoder's cross-attention.

Letters: S sentences, M memory tokens, T decoder positions, D width, h heads.
"""

import torch
from torch import Tensor, nn

from stages.models.attention import MultiheadAttention
from stages.models.dropout import Dropout
from stages.models.feed_forward import feed_forward
from stages.models.memory import Memory
from stages.models.pmca import CellAxes, PointModulation


class FeedForwardMixin(nn.Module):
    """linear1 -> ReLU -> linear2 with the release's parameter names."""

    linear1: nn.Linear
    linear2: nn.Linear
    dropout: Dropout

    def feed_forward(self, x: Tensor) -> Tensor:
        return feed_forward(x, self.linear1, self.linear2, self.dropout)


class EncoderLayer(FeedForwardMixin):
    def __init__(self, d_model: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, n_heads, dropout)
        self.linear1, self.linear2 = nn.Linear(d_model, ffn_dim), nn.Linear(ffn_dim, d_model)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """x, positions (S, M, D); mask (S, 1, 1, M) bool or None -> (S, M, D)."""
        q, k, v = self.self_attn.self_project(x, positions)
        x = self.norm1(x + self.dropout(self.self_attn.attend(q, k, v, mask)))
        out: Tensor = self.norm2(x + self.dropout(self.feed_forward(x)))
        return out


class Encoder(nn.Module):
    def __init__(self, n_layers: int, d_model: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(d_model, n_heads, ffn_dim, dropout) for _ in range(n_layers))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, positions, mask)
        return x


class CrossLayer(FeedForwardMixin):
    """Parts of a post-norm layer that attends to itself, then to the memory."""

    def __init__(self, d_model: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, n_heads, dropout)
        self.multihead_attn = MultiheadAttention(d_model, n_heads, dropout)
        self.linear1, self.linear2 = nn.Linear(d_model, ffn_dim), nn.Linear(ffn_dim, d_model)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d_model) for _ in range(3))
        self.dropout = Dropout(dropout)


class DecoderLayer(CrossLayer):
    def __init__(self, d_model: int, n_heads: int, ffn_dim: int, dropout: float, *, pmca: bool) -> None:
        super().__init__(d_model, n_heads, ffn_dim, dropout)
        self.point = PointModulation(d_model, n_heads) if pmca else None

    def cross_mask(self, state: Tensor, memory: Memory, axes: CellAxes) -> Tensor | None:
        """Padding mask and PMCA bias in one tensor: (S, h, T, M) float, (S, 1, 1, M) bool, or None."""
        padding = None if memory.all_valid else memory.mask[:, None, None]
        if self.point is None:
            return padding
        bias: Tensor = self.point(state, axes)
        return bias if padding is None else bias.masked_fill(~padding, -torch.inf)

    def forward(self, x: Tensor, slots: Tensor, memory: Memory, axes: CellAxes) -> Tensor:
        """One layer over the whole sequence: states x (S, T, D), slots (T, D) their positions -> (S, T, D)."""
        q, k, v = self.self_attn.self_project(x, slots)
        x = self.norm1(x + self.dropout(self.self_attn.attend(q, k, v, causal=True)))
        q = self.multihead_attn.project_query(x + slots)
        k, v = self.multihead_attn.project_memory(memory.tokens, memory.positions)
        mask = self.cross_mask(x, memory, axes)
        x = self.norm2(x + self.dropout(self.multihead_attn.attend(q, k, v, mask)))
        out: Tensor = self.norm3(x + self.dropout(self.feed_forward(x)))
        return out


class Decoder(nn.Module):
    """The whole sequence at once (teacher forcing); `decoding.DecoderSteps` takes one position after another."""

    def __init__(
        self, n_layers: int, d_model: int, n_heads: int, ffn_dim: int, dropout: float, *, pmca: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, n_heads, ffn_dim, dropout, pmca=pmca) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, slots: Tensor, memory: Memory) -> Tensor:
        """x (S, T, D) inputs, slots (T, D) -> states (S, T, D)."""
        axes = CellAxes.of(memory)
        for layer in self.layers:
            x = layer(x, slots, memory, axes)
        out: Tensor = self.norm(x)
        return out
