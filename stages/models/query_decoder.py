"""A fixed set of queries reads the memory and refines itself layer by layer (METHOD.md section 5).

Letters: S sentences, Q queries, M memory tokens, D width, h heads.
"""

import math

import torch
from torch import Tensor, nn

from stages.models.dropout import Dropout
from stages.models.memory import Memory
from stages.models.transformer import CrossLayer

GRID_SIDE = 4  # the second decoder of multi-task SiRi asks at 4 x 4 fixed places


class QueryDecoderLayer(CrossLayer):
    """Self-attention among queries (all see all), cross-attention to the memory, feed-forward; post-norm."""

    def forward(self, x: Tensor, queries: Tensor, memory: Memory, maps: list[Tensor] | None = None) -> Tensor:
        """x, queries (S, Q, D) -> (S, Q, D); `maps` receives the cross-attention (S, h, Q, M) when given."""
        q, k, v = self.self_attn.self_project(x, queries)
        x = self.norm1(x + self.dropout(self.self_attn.attend(q, k, v)))
        q = self.multihead_attn.project_query(x + queries)
        k, v = self.multihead_attn.project_memory(memory.tokens, memory.positions)
        mask = None if memory.all_valid else memory.mask[:, None, None]
        if maps is not None:
            maps.append(self.multihead_attn.weights(q, k, mask))
        x = self.norm2(x + self.dropout(self.multihead_attn.attend(q, k, v, mask)))
        out: Tensor = self.norm3(x + self.dropout(self.feed_forward(x)))
        return out


class QueryDecoder(nn.Module):
    """Layers with one shared closing norm, so that every layer's state can be read by the same heads."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            QueryDecoderLayer(d_model, n_heads, ffn_dim, dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, queries: Tensor, memory: Memory, maps: list[Tensor] | None = None) -> list[Tensor]:
        """queries (Q, D), the same for every sentence -> the normed states (S, Q, D) after each layer."""
        queries = queries.expand(len(memory.tokens), -1, -1)
        x, states = torch.zeros_like(queries), []
        for layer in self.layers:
            x = layer(x, queries, memory, maps)
            states.append(self.norm(x))
        return states


class TextProjection(nn.Module):
    """Words of the text encoder -> width of the memory: linear, layer norm (epsilon 1e-12, as the original)."""

    def __init__(self, channels: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, d_model)
        self.norm = nn.LayerNorm(d_model, eps=1e-12)
        self.dropout = Dropout(dropout)

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.norm(self.linear(words)))
        return out


class BoxHead(nn.Module):
    """Three linear layers; (…, D) -> (…, 4) in (0, 1)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        d = d_model
        self.layers = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 4))

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.layers(states).sigmoid()
        return out


def grid_code(d_model: int) -> Tensor:
    """(16, D) sine code of the places {0.2, 0.4, 0.6, 0.8}², row by row; the first half of D encodes y."""
    return _sine_code(torch.arange(1, GRID_SIDE + 1) * (1 / (GRID_SIDE + 1)), d_model)


def grid_code_release(d_model: int) -> Tensor:
    """SiRi writes the places as {20, 40, 60, 80} / 99; its sigmoid squeezes them into (0.55, 0.70)."""
    return _sine_code((torch.arange(1, GRID_SIDE + 1) * (20 / 99)).sigmoid(), d_model)


def _sine_code(places: Tensor, d_model: int, temperature: float = 10000.0) -> Tensor:
    y, x = torch.meshgrid(places, places, indexing="ij")
    half = d_model // 2
    frequency = temperature ** (2 * torch.arange(half).div(2, rounding_mode="floor") / half)
    codes = []
    for coordinate in (y.flatten(), x.flatten()):
        angle = coordinate[:, None] * 2 * math.pi / frequency
        codes.append(torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), -1).flatten(-2))
    return torch.cat(codes, -1)
