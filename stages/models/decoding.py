"""One decoder position after another, for greedy decoding: the fast twin of `transformer.Decoder` at inference.

The arithmetic is that of `DecoderLayer`. What does not depend on the predicted tokens is computed once for each call:
keys and values of the memory, the part of every projection that comes from the slot's position, the cells of PMCA. The
step itself is nothing but products with the weights and attention over what is kept; the next tokens stay on the device.
For one sentence, calling torch costs as much as what it computes, so no step transposes, scales or slices what could be
so from the start. What remains is reading weights, keys and values from memory (docs/BENCHMARKS.md, D1 and D2).
Letters: S sentences, M memory tokens, T positions, D width, h heads, d = D / h.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.attention import MultiheadAttention
from stages.models.memory import Memory
from stages.models.pmca import CellAxes, PointModulation
from stages.models.transformer import Decoder, DecoderLayer


class Affine:
    """A linear layer or a part of one, ready for `torch.addmm` and in the dtype of `like`: (in, out) and (out,)."""

    def __init__(self, weight: Tensor, bias: Tensor, like: Tensor) -> None:
        self.weight, self.bias = weight.t().to(like), bias.to(like)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class Norm:
    def __init__(self, norm: nn.LayerNorm) -> None:
        self.rest = (norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, *self.rest)


class OwnSteps:
    """Self-attention over the positions predicted so far."""

    def __init__(self, block: MultiheadAttention, slots: Tensor, n: int, like: Tensor) -> None:
        """slots (T, D); n sentences; `like` has the dtype that projections give."""
        (length, d_model), h = slots.shape, block.n_heads
        d = d_model // h
        # x + slot enters query and key, x alone the value: W (x + slot) + b = W x + (W slot + b)
        with_slot = F.linear(slots, block.in_proj_weight[: 2 * d_model], block.in_proj_bias[: 2 * d_model])
        bias = torch.cat((with_slot, block.in_proj_bias[2 * d_model :].expand(length, -1).to(with_slot)), 1)
        # rows head by head, so that of S sentences the heads follow each other: h times (query, key, value)
        scale = bias.new_ones(3, 1, 1, 1)
        scale[0] = d**-0.5
        weight = (block.in_proj_weight.view(3, h, d, -1) * scale).transpose(0, 1).reshape(3 * d_model, -1)
        self.weight = weight.t().to(like)
        bias = (bias.view(length, 3, h, d).transpose(0, 1) * scale).permute(1, 2, 0, 3)
        self.bias = bias.reshape(length, 3 * d_model).to(like).unbind()
        kept = like.new_empty(length, n, 3 * d_model)
        self.kept = kept.unbind()
        q, k, v = kept.view(length, n * h, 3, d).unbind(2)
        self.q, self.k, self.v = q[:, :, None].unbind(), k.permute(1, 2, 0), v.transpose(0, 1)

    def step(self, x: Tensor, t: int) -> Tensor:
        """x (S, D) at position t -> what it sees, (S, D)."""
        self.kept[t].copy_(torch.addmm(self.bias[t], x, self.weight))
        weights = torch.bmm(self.q[t], self.k[:, :, : t + 1]).softmax(-1)  # (S h, 1, t + 1)
        return torch.bmm(weights, self.v[:, : t + 1]).view(x.shape)


class PointSteps:
    """The negative of PMCA's bias at one position: (s p - s u)^2 along both axes, the 8 within s."""

    def __init__(self, point: PointModulation, axes: CellAxes, like: Tensor) -> None:
        first, second, last = (layer for layer in point.mlp if isinstance(layer, nn.Linear))
        self.first, self.second = (
            Affine(first.weight, first.bias, like),
            Affine(second.weight, second.bias, like),
        )
        self.n_heads, self.centres, self.extent = point.n_heads, axes.centres, axes.extent[:, 0]  # (S, 1, 2)
        share = torch.ones_like(last.bias)
        share[2 * self.n_heads :] = 8**-0.5
        self.last = Affine(last.weight * share[:, None], last.bias * share, like)
        (h, w), n = axes.grid_hw, len(axes.extent)
        self.bias = self.extent.new_zeros(n, self.n_heads, h * w + axes.n_text)  # that of text tokens stays 0
        self.cells, self.grid_hw = self.bias[..., : h * w].unflatten(-1, (h, w)), axes.grid_hw

    def step(self, x: Tensor) -> Tensor:
        """x (S, D) -> (S, h, M), until the next step."""
        answer = self.last(self.second(self.first(x).relu_()).relu_())
        centre, scale = answer.view(len(x), 2, self.n_heads, 2).unbind(1)  # (S, h, 2) each, xy
        place = centre.sigmoid() * self.extent * scale
        by_axis = torch.addcmul(place[..., None], scale[..., None], self.centres, value=-1).square_()
        h, w = self.grid_hw
        torch.add(by_axis[:, :, 1, :h, None], by_axis[:, :, 0, None, :w], out=self.cells)
        return self.bias


class LayerSteps:
    """One decoder layer over positions 0, 1, … of S sentences."""

    def __init__(
        self, layer: DecoderLayer, slots: Tensor, memory: Memory, keys: Tensor, axes: CellAxes
    ) -> None:
        """slots (T, D): the embeddings of all positions; keys (S, M, D): what the keys are projected from."""
        cross, d_model = layer.multihead_attn, slots.shape[1]
        n, h = len(keys), cross.n_heads
        self.heads, self.scale = (n * h, 1, d_model // h), (d_model // h) ** -0.5
        self.memory_k = projected(cross, keys, 1)  # (S h, d, M)
        self.memory_v = projected(cross, memory.tokens, 2).transpose(1, 2)
        like = self.memory_k
        self.own = OwnSteps(layer.self_attn, slots, n, like)
        query = cross.in_proj_weight[:d_model]
        self.query_bias = F.linear(slots, query, cross.in_proj_bias[:d_model]).to(like).unbind()
        self.query_weight = query.t().to(like)
        self.point = None if layer.point is None else PointSteps(layer.point, axes, like)
        self.own_out, self.cross_out, self.linear1, self.linear2 = (
            Affine(part.weight, part.bias, like)
            for part in (layer.self_attn.out_proj, cross.out_proj, layer.linear1, layer.linear2)
        )
        self.norm1, self.norm2, self.norm3 = Norm(layer.norm1), Norm(layer.norm2), Norm(layer.norm3)
        # what the products of queries and keys are added to where there is no bias
        self.nothing = like.new_zeros(1, 1, 1)

    def step(self, x: Tensor, t: int, padding: Tensor | None, maps: list[Tensor] | None) -> Tensor:
        """x (S, D) at position t -> (S, D). padding (S, 1, M) float, 0 or infinity, or None."""
        x = self.norm1(x + self.own_out(self.own.step(x, t)))
        q = torch.addmm(self.query_bias[t], x, self.query_weight).view(self.heads)
        far = padding  # what is taken away from the logits
        if self.point is not None:
            far = self.point.step(x) if padding is None else self.point.step(x) + padding
        if far is None:
            logits = torch.baddbmm(self.nothing, q, self.memory_k, beta=0, alpha=self.scale)
        else:
            far = far.expand(len(x), self.heads[0] // len(x), -1).reshape(self.heads[0], 1, -1)
            logits = torch.baddbmm(far, q, self.memory_k, beta=-1, alpha=self.scale)  # (S h, 1, M)
        weights = logits.softmax(-1)
        if maps is not None:
            maps.append(weights.unflatten(0, (len(x), -1)))
        x = self.norm2(x + self.cross_out(torch.bmm(weights, self.memory_v).view(x.shape)))
        return self.norm3(x + self.linear2(self.linear1(x).relu_()))


class DecoderSteps:
    """The decoder over positions 0, 1, … of S sentences; `step` must be called once for each, in order."""

    def __init__(self, decoder: Decoder, slots: Tensor, memory: Memory) -> None:
        self.norm = Norm(decoder.norm)
        axes, keys = CellAxes.of(memory), memory.tokens + memory.positions
        self.layers = [LayerSteps(layer, slots, memory, keys, axes) for layer in decoder.layers]  # type: ignore[arg-type]
        self.padding = None
        if not memory.all_valid:
            zeros = memory.tokens.new_zeros(memory.mask.shape)
            self.padding = zeros.masked_fill(~memory.mask, torch.inf)[:, None]

    def step(self, x: Tensor, t: int, maps: list[Tensor] | None = None) -> Tensor:
        """Input (S, D) of position t -> state (S, D); `maps` receives each layer's cross-attention (S, h, 1, M)."""
        for layer in self.layers:
            x = layer.step(x, t, self.padding, maps)
        return self.norm(x)


def projected(block: MultiheadAttention, memory: Tensor, part: int) -> Tensor:
    """memory (S, M, D) -> its keys (part 1) or values (part 2), transposed: (S h, d, M)."""
    n, m, d_model = memory.shape
    rows = slice(part * d_model, (part + 1) * d_model)
    weight, bias = block.in_proj_weight[rows].expand(n, -1, -1), block.in_proj_bias[rows, None]
    return torch.baddbmm(bias, weight, memory.transpose(1, 2)).view(n * block.n_heads, -1, m)
