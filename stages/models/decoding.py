"""One decoder position after another, for greedy decoding: the fast twin of `transformer.Decoder` at inference.

The arithmetic is that of `DecoderLayer`. What does not depend on the predicted tokens is computed once for each call:
keys and values of the memory, the part of every projection that comes from the slot's position, the cells of PMCA. The
step itself is nothing but products with the weights and attention over what is kept; the next tokens stay on the device.
Letters: S sentences, M memory tokens, T positions, D width, h heads, d = D / h.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.attention import MultiheadAttention
from stages.models.memory import Memory
from stages.models.pmca import CellAxes
from stages.models.transformer import Decoder, DecoderLayer


class LayerSteps:
    """One decoder layer over positions 0, 1, … of S sentences."""

    def __init__(self, layer: DecoderLayer, slots: Tensor, memory: Memory) -> None:
        """slots (T, D): the embeddings of all positions."""
        own, cross = layer.self_attn, layer.multihead_attn
        n, (length, d_model), h = len(memory.tokens), slots.shape, own.n_heads
        self.heads, self.layer, self.scale = (n * h, d_model // h), layer, (d_model // h) ** -0.5
        # x + slot enters query and key, x alone the value: W (x + slot) + b = W x + (W slot + b)
        own_slots = F.linear(slots, own.in_proj_weight[: 2 * d_model], own.in_proj_bias[: 2 * d_model])
        own_value = own.in_proj_bias[2 * d_model :].expand(length, -1)
        self.own_bias = torch.cat((own_slots, own_value.to(own_slots)), 1).unbind()  # T times (3D,)
        self.own_weight = own.in_proj_weight.t()
        self.query_bias = F.linear(
            slots, cross.in_proj_weight[:d_model], cross.in_proj_bias[:d_model]
        ).unbind()
        self.query_weight = cross.in_proj_weight[:d_model].t()
        self.memory_k = projected(cross, memory.tokens + memory.positions, 1)  # (S h, d, M)
        self.memory_v = projected(cross, memory.tokens, 2)
        self.prefix = self.memory_k.new_zeros(
            2, n, h, length, self.heads[1]
        )  # keys and values predicted so far
        self.prefix_k, self.prefix_v = self.prefix.flatten(1, 2)  # (S h, T, d) each
        # beta = 0 below: what the scaled product of queries and keys is added to when there is no bias
        self.nothing = self.memory_k.new_zeros(1, 1, 1)

    def step(
        self, x: Tensor, t: int, axes: CellAxes, padding: Tensor | None, maps: list[Tensor] | None
    ) -> Tensor:
        """x (S, D) at position t -> (S, D). padding (S, 1, 1, M) float, 0 or -inf, or None."""
        layer, (n, d_model) = self.layer, x.shape
        qkv = torch.addmm(self.own_bias[t], x, self.own_weight)  # (S, 3D)
        self.prefix[:, :, :, t] = qkv[:, d_model:].unflatten(1, (2, *self.prefix.shape[2::2])).transpose(0, 1)
        q = qkv[:, :d_model].reshape(self.heads[0], 1, self.heads[1])
        k, v = self.prefix_k[:, : t + 1], self.prefix_v[:, : t + 1]
        logits = torch.baddbmm(
            self.nothing, q, k.transpose(1, 2), beta=0, alpha=self.scale
        )  # (S h, 1, t + 1)
        seen = torch.bmm(logits.softmax(-1), v).view(n, d_model)
        x = normed(layer.norm1, x + linear(layer.self_attn.out_proj, seen))

        q = torch.addmm(self.query_bias[t], x, self.query_weight).view(self.heads[0], 1, self.heads[1])
        bias = padding
        if layer.point is not None:
            point: Tensor = layer.point(x[:, None], axes)  # (S, h, 1, M)
            bias = point if padding is None else point + padding
        if bias is None:
            logits = torch.baddbmm(self.nothing, q, self.memory_k, beta=0, alpha=self.scale)
        else:
            bias = bias.expand(n, self.heads[0] // n, 1, -1).flatten(0, 1)
            logits = torch.baddbmm(bias, q, self.memory_k, alpha=self.scale)  # (S h, 1, M)
        weights = logits.softmax(-1)
        if maps is not None:
            maps.append(weights.unflatten(0, (n, -1)))
        seen = torch.bmm(weights, self.memory_v.transpose(1, 2)).view(n, d_model)
        x = normed(layer.norm2, x + linear(layer.multihead_attn.out_proj, seen))
        hidden = linear(layer.linear1, x).relu_()
        return normed(layer.norm3, x + linear(layer.linear2, hidden))


class DecoderSteps:
    """The decoder over positions 0, 1, … of S sentences; `step` must be called once for each, in order."""

    def __init__(self, decoder: Decoder, slots: Tensor, memory: Memory) -> None:
        self.norm = decoder.norm
        self.layers = [LayerSteps(layer, slots, memory) for layer in decoder.layers]  # type: ignore[arg-type]
        self.axes = CellAxes.of(memory)
        self.padding = None
        if not memory.all_valid:
            zeros = memory.tokens.new_zeros(memory.mask.shape)
            self.padding = zeros.masked_fill(~memory.mask, -torch.inf)[:, None, None]

    def step(self, x: Tensor, t: int, maps: list[Tensor] | None = None) -> Tensor:
        """Input (S, D) of position t -> state (S, D); `maps` receives each layer's cross-attention (S, h, 1, M)."""
        for layer in self.layers:
            x = layer.step(x, t, self.axes, self.padding, maps)
        return normed(self.norm, x)


def projected(block: MultiheadAttention, memory: Tensor, part: int) -> Tensor:
    """memory (S, M, D) -> its keys (part 1) or values (part 2), transposed: (S h, d, M)."""
    n, m, d_model = memory.shape
    rows = slice(part * d_model, (part + 1) * d_model)
    weight, bias = block.in_proj_weight[rows].expand(n, -1, -1), block.in_proj_bias[rows, None]
    return torch.baddbmm(bias, weight, memory.transpose(1, 2)).view(n * block.n_heads, -1, m)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
