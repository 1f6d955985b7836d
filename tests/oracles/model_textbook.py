"""The model's head done plainly, as the public release does it: what the fast paths are tested and timed against.

The weights and the arithmetic are those of a `PointSequenceModel`; nothing is kept between decoding steps. Each step
runs the decoder over the whole prefix and projects the memory to keys and values in every layer, attention is two
matrix products around a softmax, CCTF takes one mean after another in a Python loop over sentences and tokens, and PMCA
fills a grid of (sentence, head, position, cell, axis).
Letters: S sentences, M memory tokens, H x W of them image cells, T positions, D width, h heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.models.attention import MultiheadAttention
from stages.models.image_maps import VisionMaps
from stages.models.language import SentenceFeatures
from stages.models.memory import Memory
from stages.models.pmca import PointModulation
from stages.models.point_content import FineMap
from stages.models.positions import sine_positions
from stages.models.seqtr import PointSequenceModel
from stages.models.transformer import DecoderLayer, EncoderLayer, FeedForwardMixin


def attention(block: MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """query (S, T, D), key and value (S, M, D), bias broadcast to (S, h, T, M) -> (S, T, D)."""
    d = query.shape[-1]
    parts = []
    for i, x in enumerate((query, key, value)):
        rows = slice(i * d, (i + 1) * d)
        x = F.linear(x, block.in_proj_weight[rows], block.in_proj_bias[rows])
        parts.append(x.view(x.shape[0], x.shape[1], block.n_heads, -1).transpose(1, 2))
    q, k, v = parts
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias).softmax(-1)
    weights = F.dropout(weights, block.dropout, block.training)
    return block.out_proj((weights @ v).transpose(1, 2).reshape(query.shape))


def padding_bias(memory_mask: Tensor) -> Tensor:
    """(S, M) True = valid -> (S, 1, 1, M) 0 or -inf."""
    zero = torch.zeros(memory_mask.shape, device=memory_mask.device)
    return zero.masked_fill(~memory_mask, -torch.inf)[:, None, None]


def dropped(layer: FeedForwardMixin, x: Tensor) -> Tensor:
    return F.dropout(x, layer.dropout.p, layer.training)


def feed_forward(layer: FeedForwardMixin, x: Tensor) -> Tensor:
    return layer.linear2(dropped(layer, F.relu(layer.linear1(x))))


def encode(model: PointSequenceModel, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
    """x, positions (S, M, D), mask (S, M) -> memory tokens (S, M, D)."""
    bias = padding_bias(mask)
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        x = layer.norm1(x + dropped(layer, attention(layer.self_attn, x + positions, x + positions, x, bias)))
        x = layer.norm2(x + dropped(layer, feed_forward(layer, x)))
    return x


def modulation(block: PointModulation, state: Tensor, memory: Memory) -> Tensor:
    """PMCA bias (S, h, T, M) from a grid of all cells."""
    s, t, _ = state.shape
    h, w = memory.grid_hw
    point = block.mlp(state).view(s, t, 2, block.n_heads, 2)
    extent = memory.valid_cells_hw.flip(-1).to(state.dtype)  # (S, 2) as (W, H)
    centre = point[:, :, 0].sigmoid() * extent[:, None, None]  # (S, T, h, 2)
    scale = point[:, :, 1]
    rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    grid = torch.stack((columns, rows), -1).view(1, 1, 1, h * w, 2).to(state)
    distance = (centre[:, :, :, None] - grid).square() * scale[:, :, :, None].square()  # (S, T, h, H*W, 2)
    bias = -distance.sum(-1).permute(0, 2, 1, 3) / 8
    return F.pad(bias, (0, memory.tokens.shape[1] - h * w))


def decoder_states(model: PointSequenceModel, x: Tensor, memory: Memory) -> Tensor:
    """Inputs (S, T, D) of the whole prefix -> states (S, T, D)."""
    t = x.shape[1]
    slots = model.slot_embedding.weight[:t]
    causal = torch.full((t, t), -torch.inf, device=x.device).triu(1)
    padding = padding_bias(memory.mask)
    for layer in model.decoder.layers:
        assert isinstance(layer, DecoderLayer)
        x = layer.norm1(x + dropped(layer, attention(layer.self_attn, x + slots, x + slots, x, causal)))
        bias = padding if layer.point is None else padding + modulation(layer.point, x, memory)
        key = memory.tokens + memory.positions
        x = layer.norm2(
            x + dropped(layer, attention(layer.multihead_attn, x + slots, key, memory.tokens, bias))
        )
        x = layer.norm3(x + dropped(layer, feed_forward(layer, x)))
    return model.decoder.norm(x)


def content(model: PointSequenceModel, memory: Memory, tokens: Tensor) -> Tensor:
    """CCTF of tokens (S, T): one line of the batch's memory and one mean after another."""
    h, w = memory.grid_hw
    cells = memory.tokens[:, : h * w].unflatten(1, (h, w))
    valid = memory.mask[:, : h * w].unflatten(1, (h, w))
    bins, end, axes = model.config.n_bins, model.layout.end, model.output_axes.tolist()
    out = []
    for s, (rows, columns) in enumerate(memory.own_cells_hw.tolist()):
        for k, token in enumerate(tokens[s].tolist()):
            if token == end or axes[k] < 0:
                out.append(torch.zeros_like(cells[s, 0, 0]))
            elif axes[k] == 0:
                u = token * columns // bins
                out.append(cells[s, :, u][valid[s, :, u]].mean(0))
            else:
                v = token * rows // bins
                out.append(cells[s, v][valid[s, v]].mean(0))
    return torch.stack(out).view(*tokens.shape, -1)


def written_inputs(model: PointSequenceModel, memory: Memory, tokens: Tensor) -> Tensor:
    """Decoder inputs (S, 1 + k, D) after the tokens (S, k) were written: the task token, then theirs."""
    x = model.start_input(0, len(tokens))
    if not tokens.shape[1]:
        return x
    written = model.token_embedding(tokens)
    if model.config.cctf:
        written = written + content(model, memory, tokens)
    if model.point_content is not None:
        assert memory.fine is not None
        before = F.pad(tokens[:, :-1], (1, 0))
        is_y = model.output_axes[: tokens.shape[1]] == 1
        written = written + model.point_content(memory.fine, before, tokens, is_y, model.config.n_bins)
    return torch.cat((x, written), 1)


@torch.no_grad()
def generate(model: PointSequenceModel, memory: Memory) -> Tensor:
    """Greedy tokens (S, K) of a sequence with one task token, the whole prefix at every step."""
    tokens = torch.zeros(len(memory.tokens), 0, dtype=torch.long, device=memory.tokens.device)
    for t in model.layout.decoded:
        logits = model.predictor(decoder_states(model, written_inputs(model, memory, tokens), memory)[:, -1])
        if not model.end_is_allowed[t]:
            logits[:, model.layout.end] = -torch.inf
        tokens = torch.cat((tokens, logits.softmax(-1).argmax(-1, keepdim=True)), 1)
    return tokens


def fuse(
    model: PointSequenceModel, vision: VisionMaps, image_of_sentence: Tensor, text: SentenceFeatures
) -> Memory:
    """The fused cells of each sentence, its text tokens, and the encoder above -> Memory."""
    h, w = vision.cells.shape[-2:]
    cells, sentence = vision.cells.tanh().flatten(2).transpose(1, 2), text.sentence.tanh()[:, None]
    parts = [cells[image_of_sentence] * sentence]
    masks = [vision.valid.flatten(1)[image_of_sentence]]
    if model.config.text_in_memory == "sentence":
        parts, masks = [*parts, sentence], [*masks, masks[0].new_ones(len(sentence), 1)]
    elif model.config.text_in_memory == "words":
        parts, masks = [*parts, text.words.tanh()], [*masks, text.mask]
    x, mask = torch.cat(parts, 1), torch.cat(masks, 1)
    x = model.input_norm.forward_tokens(model.input_proj(x), mask)
    positions = sine_positions(vision.valid, model.config.d_model)[image_of_sentence]
    positions = F.pad(positions, (0, 0, 0, x.shape[1] - h * w))
    own, used = vision.own_cells_hw[image_of_sentence], vision.valid_cells_hw[image_of_sentence]
    fine = None
    if vision.finer:
        fine = FineMap(vision.finer[0], image_of_sentence, own * (vision.finer[0].shape[-2] // h))
    return Memory(encode(model, x, positions, mask), mask, positions, (h, w), own, used, False, fine)


def logits(model: PointSequenceModel, memory: Memory, targets: Tensor) -> Tensor:
    """Teacher-forced logits (S, T, V)."""
    states = decoder_states(model, written_inputs(model, memory, targets[:, :-1]), memory)
    out: Tensor = model.predictor(states)
    return out
