"""The point-sequence model: SeqTR with the paper's additions switched by `ModelConfig` (METHOD.md sections 2 and 3).

Letters: I images, S sentences (each belongs to one image), L words, H x W memory cells, M memory tokens,
T decoder positions, D width, V = n_bins + 1 tokens. An image is encoded once for all of its sentences.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.models.auxiliary_mask import AuxiliaryMaskHead
from stages.models.cctf import Content
from stages.models.config import ModelConfig
from stages.models.decoding import DecoderSteps
from stages.models.fusion import build_fusion
from stages.models.image_maps import VisionMaps, encode_images
from stages.models.language import SentenceFeatures, build_text_encoder
from stages.models.memory import Memory
from stages.models.point_content import FineMap, PointContent
from stages.models.positions import sine_positions
from stages.models.semantics import semantics_of
from stages.models.transformer import Decoder, Encoder
from stages.models.vision import build_vision
from stages.models.vocabulary import sequence_layout


@dataclass
class Taught:
    """A teacher-forced pass.

    Attributes:
        logits: (S, T, V) float.
        auxiliary: the auxiliary mask, when the model has that head: see `AuxiliaryMaskHead.logits`.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, Tensor] | None


@dataclass
class Decoded:
    """Greedy decoding: tokens (S, K) int64, probability (S, K) float of each, over the K decoded slots."""

    tokens: Tensor
    probability: Tensor
    logits: Tensor | None = None
    maps: Tensor | None = None


class TokenGroupNorm(nn.GroupNorm):
    """GroupNorm over (tokens, channels of the group) that leaves padding out of the statistics."""

    def forward_tokens(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (S, M, D), mask (S, M) bool or None -> (S, M, D)."""
        s, m, d = x.shape
        if mask is None:
            out: Tensor = super().forward(x.transpose(1, 2)).transpose(1, 2)
            return out
        groups = x.view(s, m, self.num_groups, -1)
        keep = mask[:, :, None, None].to(x.dtype)
        count = keep.sum((1, 3), keepdim=True) * groups.shape[-1]
        mean = (groups * keep).sum((1, 3), keepdim=True) / count
        variance = ((groups - mean).square() * keep).sum((1, 3), keepdim=True) / count
        normal = ((groups - mean) * (variance + self.eps).rsqrt()).view(s, m, d)
        return normal * self.weight + self.bias


class PointSequenceModel(nn.Module):
    def __init__(self, config: ModelConfig, vocabulary_size: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.layout, self.semantics = sequence_layout(config), semantics_of(config)
        self.stride = strides[-1]
        d, channels = config.d_model, config.fusion.channels
        self.vision, levels = build_vision(config.vision)
        self.fusion = build_fusion(config.fusion, levels, strides)
        self.text = build_text_encoder(config.text, vocabulary_size)
        self.text_projection = (
            nn.Identity() if self.text.channels == channels else nn.Linear(self.text.channels, channels)
        )
        self.input_proj = nn.Linear(channels, d)
        self.input_norm = TokenGroupNorm(32, d)
        self.encoder = Encoder(config.encoder_layers, d, config.n_heads, config.ffn_dim, config.dropout)
        self.decoder = Decoder(
            config.decoder_layers, d, config.n_heads, config.ffn_dim, config.dropout, pmca=config.pmca
        )
        self.token_embedding = nn.Embedding(config.n_bins + 1, d)
        self.slot_embedding = nn.Embedding(self.layout.length, d)
        self.point_content = PointContent(levels[-2], d) if config.point_content else None
        # named as its tensors are in model files
        self.grounding_head = (
            AuxiliaryMaskHead(d, config.auxiliary_mask, self.stride) if config.auxiliary_mask else None
        )
        n_tasks = len(self.layout.starts)
        self.task_embedding = None if config.task_token == "zero" else nn.Embedding(n_tasks, d)
        self.predictor = nn.Sequential(
            nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, config.n_bins + 1)
        )
        axes = torch.from_numpy(self.layout.axis_of_output())
        self.register_buffer("output_axes", axes, persistent=False)
        allowed = self.semantics.end_allowed(self.layout)
        self.end_is_allowed = allowed.tolist()  # on the host, where the decoding loop runs
        slots = list(self.layout.decoded)
        self.register_buffer("decoded_slots", torch.tensor(slots, dtype=torch.long), persistent=False)
        not_allowed = torch.zeros(len(slots), config.n_bins + 1, dtype=torch.bool)
        not_allowed[:, self.layout.end] = ~torch.from_numpy(allowed)[slots]
        self.register_buffer("never_decoded", not_allowed, persistent=False)
        self.output_axes: Tensor
        self.decoded_slots: Tensor
        self.never_decoded: Tensor

    # ---------------------------------------------------------------- encode

    def encode_images(self, images: Tensor, sizes_hw: Tensor) -> VisionMaps:
        """Backbone and fusion.

        Args:
            images: (I, 3, Hb, Wb) float, normalised, padding 0, sides multiples of the stride.
            sizes_hw: (I, 2) int64 pixels, the part of each that is image.

        Outside training each image is encoded at its own padded size, so what else is in the batch cannot
        change it; training (and release semantics) encode the padded batch at once.
        """
        return encode_images(
            self._maps, images, sizes_hw, stride=self.stride, multiple=self.config.image.multiple,
            at_once=self.training or self.semantics.sees_padding,
        )  # fmt: skip

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Fused map at the memory's stride, and the finer level that point content reads."""
        levels = self.vision(images)
        return [self.fusion(levels), *([levels[-2]] if self.point_content else [])]

    def encode_text(self, tokens: Tensor, mask: Tensor) -> SentenceFeatures:
        """tokens (S, L) int64, mask (S, L) bool True = a word -> features of the fused width."""
        features: SentenceFeatures = self.text(tokens, mask)
        return SentenceFeatures(
            self.text_projection(features.words), features.mask, self.text_projection(features.sentence)
        )

    def fuse(self, vision: VisionMaps, image_of_sentence: Tensor, text: SentenceFeatures) -> Memory:
        """tanh(vision) * tanh(sentence) at every cell, optional text tokens, projection, encoder -> Memory."""
        h, w = vision.cells.shape[-2:]
        of_image = vision.cells.tanh().flatten(2).transpose(1, 2)  # (I, H*W, C)
        cells = of_image.index_select(0, image_of_sentence)
        sentence = text.sentence.tanh()[:, None]
        parts, masks = [cells * sentence], [vision.valid.flatten(1)[image_of_sentence]]
        all_valid = vision.all_valid
        if self.config.text_in_memory == "sentence":
            parts.append(sentence)
            masks.append(masks[0].new_ones(len(sentence), 1))
        elif self.config.text_in_memory == "words":
            parts.append(text.words.tanh())
            masks.append(text.mask)
            all_valid = False
        x, mask = torch.cat(parts, 1), torch.cat(masks, 1)
        x = self.input_norm.forward_tokens(
            self.input_proj(x), None if all_valid or self.semantics.sees_padding else mask
        )
        positions = sine_positions(vision.valid, self.config.d_model).to(x.dtype)[image_of_sentence]
        positions = nn.functional.pad(positions, (0, 0, 0, x.shape[1] - h * w))
        x = self.encoder(x, positions, None if all_valid else mask[:, None, None])
        own, used = vision.own_cells_hw[image_of_sentence], vision.valid_cells_hw[image_of_sentence]
        fine = None
        if vision.finer:
            fine = FineMap(vision.finer[0], image_of_sentence, own * (vision.finer[0].shape[-2] // h))
        return Memory(x, mask, positions, (h, w), own, used, all_valid, fine)

    def content(self, memory: Memory) -> Content | None:
        return self.semantics.content(memory, self.config.n_bins) if self.config.cctf else None

    # ---------------------------------------------------------------- decode

    def start_input(self, task: int, n: int) -> Tensor:
        """(n, 1, D) decoder input of a task token."""
        if self.task_embedding is None:
            return self.token_embedding.weight.new_zeros(n, 1, self.config.d_model)
        return self.task_embedding.weight[task].expand(n, 1, -1)

    def token_input(self, tokens: Tensor, begin: int, memory: Memory, content: Content | None) -> Tensor:
        """Embedding plus content of the tokens predicted at output slots `begin` … -> (S, k, D).

        tokens: (S, begin + k) all tokens so far.
        """
        new, axes = tokens[:, begin:], self.output_axes[begin : tokens.shape[1]]
        x: Tensor = self.token_embedding(new)
        if content is not None:
            x = x + content.look_up(new, axes)
        if self.point_content is not None:
            assert memory.fine is not None
            before = tokens[:, begin - 1 : -1] if begin else nn.functional.pad(new[:, :-1], (1, 0))
            x = x + self.point_content(memory.fine, before, new, axes == 1, self.config.n_bins)
        return x

    def decoder_input(self, targets: Tensor, memory: Memory, content: Content | None) -> Tensor:
        """Teacher forcing: targets (S, T) -> inputs (S, T, D), task tokens at their starts."""
        x = self.token_input(targets, 0, memory, content)
        shifted = torch.cat((x[:, :1], x[:, :-1]), 1)
        pieces, last = [], 0
        for position, task in self.layout.starts.items():
            pieces += [shifted[:, last:position], self.start_input(task, len(targets))]
            last = position + 1
        return torch.cat((*pieces, shifted[:, last:]), 1)

    def decode(self, memory: Memory, targets: Tensor) -> Tensor:
        """Teacher-forced logits (S, T, V) for targets (S, T) int64."""
        x = self.decoder_input(targets, memory, self.content(memory))
        out: Tensor = self.predictor(self.decoder(x, self.slot_embedding.weight, memory))
        return out

    def forward(
        self,
        images: Tensor,
        sizes_hw: Tensor,
        image_of_sentence: Tensor,
        words: Tensor,
        word_mask: Tensor,
        targets: Tensor,
    ) -> Taught:
        """Whole teacher-forced pass. Arguments as in the methods above."""
        vision = self.encode_images(images, sizes_hw)
        memory = self.fuse(vision, image_of_sentence, self.encode_text(words, word_mask))
        auxiliary = self.grounding_head.logits(memory) if self.grounding_head is not None else None
        return Taught(self.decode(memory, targets), auxiliary)

    @torch.inference_mode()
    def generate(
        self,
        memory: Memory,
        prompt: Tensor | None = None,
        *,
        keep_logits: bool = False,
        keep_maps: bool = False,
    ) -> Decoded:
        """Greedy decoding with a key/value cache.

        Args:
            prompt: (S, P) int64 tokens that are given for the first P slots instead of decoded (their
                probability is 1): the ground-truth box in box-prompted pseudo-labelling.
            keep_logits: also return the raw logits (S, K, V). keep_maps: also the cross-attention of each
                layer, averaged over heads, (S, K, layers, M).
        """
        content, n, length = self.content(memory), len(memory.tokens), self.layout.length
        steps = DecoderSteps(self.decoder, self.slot_embedding.weight, memory)
        tokens = memory.tokens.new_full((n, length), self.layout.end, dtype=torch.long)
        n_prompt = 0
        if prompt is not None:
            n_prompt = prompt.shape[1]
            tokens[:, :n_prompt] = prompt
        logits, maps_kept = [], []
        decoded = self.layout.decoded
        for t in range(decoded[-1] + 1):
            if t in self.layout.starts:
                x = self.start_input(self.layout.starts[t], n)
            else:
                x = self.token_input(tokens[:, :t], t - 1, memory, content)
            maps: list[Tensor] | None = [] if keep_maps else None
            state = steps.step(x[:, 0], t, maps)
            if t not in decoded:
                continue
            logits.append(self.predictor(state))
            if maps is not None:
                maps_kept.append(torch.stack([m[:, :, 0].mean(1) for m in maps], 1))
            if t >= n_prompt:
                allowed = logits[-1] if self.end_is_allowed[t] else logits[-1][:, :-1]  # END is the last
                tokens[:, t] = allowed.argmax(-1)
        kept_logits = torch.stack(logits, 1)
        return Decoded(
            tokens[:, self.decoded_slots],
            self._probability(kept_logits, tokens, n_prompt),
            kept_logits if keep_logits else None,
            torch.stack(maps_kept, 1) if keep_maps else None,
        )

    def _probability(self, logits: Tensor, tokens: Tensor, n_prompt: int) -> Tensor:
        """Probability (S, K) of the decoded tokens among the allowed ones, from logits (S, K, V); 1 in the prompt."""
        chosen = tokens[:, self.decoded_slots, None]
        p = (
            logits.float()
            .masked_fill(self.never_decoded, -torch.inf)
            .softmax(-1)
            .gather(-1, chosen)
            .squeeze(-1)
        )
        p[:, :n_prompt] = 1
        return p
