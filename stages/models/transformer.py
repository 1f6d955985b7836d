"""Post-norm encoder and auto-regressive decoder (METHOD.md section 2), with PMCA in the decoder's cross-attention.

Letters: S sentences, M memory tokens, T decoder positions, D width, h heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.attention import MultiheadAttention
from stages.models.dropout import Dropout
from stages.models.memory import Memory
from stages.models.pmca import PointModulation


class FeedForwardMixin(nn.Module):
    """linear1 -> ReLU -> linear2 with the release's parameter names."""

    linear1: nn.Linear
    linear2: nn.Linear
    dropout: Dropout

    def feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return out


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


@dataclass
class LayerCache:
    """Keys and values of one decoder layer: the memory's (fixed) and the predicted prefix's (growing)."""

    memory_k: Tensor  # (S, h, M, D/h)
    memory_v: Tensor
    k: Tensor  # (S, h, T_max, D/h), filled up to `DecoderCache.length`
    v: Tensor


@dataclass
class DecoderCache:
    layers: list[LayerCache]
    length: int = 0


class CrossLayer(FeedForwardMixin):
    """Parts of a post-norm layer that attends to itself, then to the memory."""

    def __init__(self, d_model: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, n_heads, dropout)
        self.multihead_attn = MultiheadAttention(d_model, n_heads, dropout)
        self.linear1, self.linear2 = nn.Linear(d_model, ffn_dim), nn.Linear(ffn_dim, d_model)
        self.norm1, self.norm2, self.norm3 = (
            nn.LayerNorm(d_model),
            nn.LayerNorm(d_model),
            nn.LayerNorm(d_model),
        )
        self.dropout = Dropout(dropout)


class DecoderLayer(CrossLayer):
    def __init__(self, d_model: int, n_heads: int, ffn_dim: int, dropout: float, *, pmca: bool) -> None:
        super().__init__(d_model, n_heads, ffn_dim, dropout)
        self.point = PointModulation(d_model, n_heads) if pmca else None

    def cross_mask(self, state: Tensor, memory: Memory) -> Tensor | None:
        """Padding mask and PMCA bias in one tensor: (S, h, T, M) float, (S, 1, 1, M) bool, or None."""
        padding = None if memory.all_valid else memory.mask[:, None, None]
        if self.point is None:
            return padding
        bias: Tensor = self.point(state, memory)
        return bias if padding is None else bias.masked_fill(~padding, -torch.inf)

    def forward(
        self,
        x: Tensor,
        slots: Tensor,
        memory: Memory,
        cache: LayerCache | None = None,
        start: int = 0,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        """One layer over positions start … start+T-1.

        Args:
            x: (S, T, D) states; slots: (T, D) positions of those slots.
            cache: predicted prefix, extended in place; None = x is the whole sequence.
            maps: receives the cross-attention (S, h, T, M) when given.
        """
        q, k, v = self.self_attn.self_project(x, slots)
        t = x.shape[1]
        if cache is None:
            memory_k, memory_v = self.multihead_attn.project_memory(memory.tokens, memory.positions)
            seen = self.self_attn.attend(q, k, v, causal=True)
        else:
            memory_k, memory_v = cache.memory_k, cache.memory_v
            cache.k[:, :, start : start + t], cache.v[:, :, start : start + t] = k, v
            k, v = cache.k[:, :, : start + t], cache.v[:, :, : start + t]
            mask = None if t == 1 else torch.ones(t, start + t, dtype=torch.bool, device=x.device).tril(start)
            seen = self.self_attn.attend(q, k, v, mask)
        x = self.norm1(x + self.dropout(seen))
        q = self.multihead_attn.project_query(x + slots)
        mask = self.cross_mask(x, memory)
        if maps is not None:
            maps.append(self.multihead_attn.weights(q, memory_k, mask))
        x = self.norm2(x + self.dropout(self.multihead_attn.attend(q, memory_k, memory_v, mask)))
        out: Tensor = self.norm3(x + self.dropout(self.feed_forward(x)))
        return out


class Decoder(nn.Module):
    def __init__(
        self, n_layers: int, d_model: int, n_heads: int, ffn_dim: int, dropout: float, *, pmca: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, n_heads, ffn_dim, dropout, pmca=pmca) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def new_cache(self, memory: Memory, length: int) -> DecoderCache:
        """Project the memory once for every layer and reserve room for `length` positions."""
        layers = []
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            k, v = layer.multihead_attn.project_memory(memory.tokens, memory.positions)
            room = k.new_zeros(k.shape[0], k.shape[1], length, k.shape[3])
            layers.append(LayerCache(k.contiguous(), v.contiguous(), room, room.clone()))
        return DecoderCache(layers)

    def forward(
        self,
        x: Tensor,
        slots: Tensor,
        memory: Memory,
        cache: DecoderCache | None = None,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        """x (S, T, D) inputs of the next T positions, slots (T, D) -> states (S, T, D); a cache is advanced by T."""
        start = cache.length if cache else 0
        for i, layer in enumerate(self.layers):
            x = layer(x, slots, memory, cache.layers[i] if cache else None, start, maps)
        if cache:
            cache.length += x.shape[1]
        out: Tensor = self.norm(x)
        return out
