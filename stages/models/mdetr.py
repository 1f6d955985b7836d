"""MDETR: image cells and words in one encoder, learned queries that each propose a box (METHOD.md section 5).

Letters: I images, S sentences (each belongs to one image), L words, H x W memory cells, M = H*W + L memory tokens, Q queries,
D width, V soft-token classes with "no object" last. An image goes through the backbone once for all of its sentences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stages.models.auxiliary_mask import AuxiliaryMaskHead
from stages.models.config import ModelConfig
from stages.models.fusion import build_fusion
from stages.models.image_maps import VisionMaps, encode_images
from stages.models.language import SentenceFeatures, build_text_encoder
from stages.models.mdetr_criterion import LayerOutputs
from stages.models.mdetr_mask_head import AttentionMaskHead, EmbeddingMaskHead, MaskInputs
from stages.models.memory import Memory
from stages.models.positions import sine_positions
from stages.models.query_decoder import BoxHead, QueryDecoder, TextProjection
from stages.models.semantics import semantics_of
from stages.models.seqtr import TokenGroupNorm
from stages.models.to_device import to_device
from stages.models.transformer import Encoder
from stages.models.vision import build_vision
from stages.models.vocabulary import sequence_layout


@dataclass
class DetectorMemory(Memory):
    """Also what the mask head reads: `projected` (S, H*W, D) encoder input, the image maps and whose they are."""

    projected: Tensor | None = None
    levels: list[Tensor] = field(default_factory=list)
    image_of_sentence: Tensor | None = None

    @property
    def cells(self) -> int:
        return self.grid_hw[0] * self.grid_hw[1]

    def mask_inputs(self, rows: Tensor) -> MaskInputs:
        """For the sentences `rows` (K,) int64."""
        h, w = self.grid_hw
        assert self.projected is not None and self.image_of_sentence is not None
        both = (x.index_select(0, rows) for x in (self.tokens[:, : self.cells], self.projected))
        cells, projected = (x.transpose(1, 2).unflatten(-1, (h, w)) for x in both)
        valid, images = self.mask[rows, : self.cells].unflatten(-1, (h, w)), self.image_of_sentence[rows]
        return MaskInputs(cells, valid, projected, [x.index_select(0, images) for x in self.levels])


@dataclass
class Detections:
    """Predictions of every decoder layer; the last one is the answer.

    Attributes:
        layers: of the first decoder, then of the second if there is one.
        states: (S, Q, D) behind the answer. aligned_text: (S, L, C) of length 1, for the contrastive loss.
        maps: (S, h, Q, M) cross-attention behind the answer, when asked for.
    """

    layers: list[LayerOutputs]
    states: Tensor
    memory: DetectorMemory
    aligned_text: Tensor | None = None
    maps: Tensor | None = None

    @property
    def answer(self) -> LayerOutputs:
        return self.layers[-1]

    def scores(self) -> Tensor:
        """(S, Q) probability that a query sees an object."""
        return 1 - self.answer.logits.float().softmax(-1)[..., -1]


class SentenceGate(nn.Module):
    """Cells times the sentence, both squeezed by tanh, normed: SeqTR's fusion in front of the detector's encoder.

    Without it the encoder must find out by attention alone which cells a sentence means; the small model is then far
    behind after 600 steps (docs/EXPERIMENTS.md, "a small MDETR").
    """

    def __init__(self, cell_channels: int, text_channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(text_channels, cell_channels)
        self.norm = TokenGroupNorm(math.gcd(32, cell_channels), cell_channels)

    def forward(self, cells: Tensor, valid: Tensor, sentence: Tensor) -> Tensor:
        """cells (S, M, C), valid (S, M) bool, sentence (S, Ct) -> (S, M, C)."""
        product = cells.tanh() * self.project(sentence).tanh()[:, None]
        return self.norm.forward_tokens(product, valid)


def unit(x: Tensor) -> Tensor:
    return nn.functional.normalize(x, dim=-1)


class QueryDetector(nn.Module):
    """Everything behind the backbone and the text encoder."""

    def __init__(self, config: ModelConfig, cell_channels: int, text_channels: int) -> None:
        super().__init__()
        c, d = config.detector, config.d_model
        self.input_proj = nn.Linear(cell_channels, d)
        self.text_proj = TextProjection(text_channels, d, config.dropout)
        self.encoder = Encoder(config.encoder_layers, d, config.n_heads, config.ffn_dim, config.dropout)
        n_decoders = 2 if c.second_decoder else 1
        self.decoders = nn.ModuleList(
            QueryDecoder(config.decoder_layers, d, config.n_heads, config.ffn_dim, config.dropout)
            for _ in range(n_decoders)
        )
        self.queries = nn.Embedding(c.queries, d)
        self.class_heads = nn.ModuleList(nn.Linear(d, c.classes + 1) for _ in range(n_decoders))
        self.box_heads = nn.ModuleList(BoxHead(d) for _ in range(n_decoders))
        self.grid_norm = nn.LayerNorm(d) if c.second_decoder else None
        if c.second_decoder:
            self.register_buffer("grid", semantics_of(config).grid_code(d), persistent=False)
            self.grid: Tensor
        self.align_queries = nn.Linear(d, c.align_dim) if c.align_dim else None
        self.align_words = nn.Linear(d, c.align_dim) if c.align_dim else None
        for parameter in (*self.encoder.parameters(), *self.decoders.parameters()):
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def encode(
        self, cells: Tensor, valid: Tensor, positions: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, ...]:
        """One sequence of cells and words through the encoder.

        Args:
            cells: (S, H*W, C); valid: (S, H*W) bool; positions: (S, H*W, D).
            words: (S, L, Ct); word_mask: (S, L) bool.

        Returns:
            tokens (S, M, D), mask (S, M), positions (S, M, D) with zeros for words, projected cells (S, H*W, D).
        """
        projected = self.input_proj(cells)
        x = torch.cat((projected, self.text_proj(words)), 1)
        mask = torch.cat((valid, word_mask), 1)
        positions = nn.functional.pad(positions, (0, 0, 0, words.shape[1]))
        return self.encoder(x, positions, mask[:, None, None]), mask, positions, projected

    def detect(self, memory: DetectorMemory, *, keep_maps: bool = False) -> Detections:
        maps: list[Tensor] | None = [] if keep_maps else None
        layers: list[LayerOutputs] = []
        states: list[Tensor] = []
        # (Q, D) of each decoder: learned, then the fixed grid
        sets = [self.queries.weight, *([] if self.grid_norm is None else [self.grid_norm(self.grid)])]
        for queries, decoder, classes, box in zip(
            sets, self.decoders, self.class_heads, self.box_heads, strict=True
        ):
            states = decoder(queries, memory, maps)
            for state in states:
                aligned = unit(self.align_queries(state)) if self.align_queries is not None else None
                layers.append(LayerOutputs(classes(state), box(state), aligned))
        words = memory.tokens[:, memory.cells :]
        aligned_text = unit(self.align_words(words)) if self.align_words is not None else None
        return Detections(layers, states[-1], memory, aligned_text, maps[-1] if maps else None)


class DetectorModel(nn.Module):
    """Backbone, text encoder, detector and, for segmentation, a mask head; the calls are those of PointSequenceModel."""

    def __init__(self, config: ModelConfig, vocabulary_size: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.layout, self.semantics = sequence_layout(config), semantics_of(config)
        self.stride = strides[-1]
        self.vision, channels = build_vision(config.vision)
        self.fusion = build_fusion(config.fusion, channels, strides)
        self.text = build_text_encoder(config.text, vocabulary_size)
        channels_in = config.fusion.channels
        gated = config.detector.sentence_gate
        self.sentence_gate = SentenceGate(channels_in, self.text.channels) if gated else None
        self.detector = QueryDetector(config, channels_in, self.text.channels)
        # named as its tensors are in model files
        self.grounding_head = (
            AuxiliaryMaskHead(config.d_model, config.auxiliary_mask, self.stride)
            if config.auxiliary_mask
            else None
        )
        self.mask_head: EmbeddingMaskHead | AttentionMaskHead | None = None
        if config.sequence == "mask":
            finer = channels[-2::-1]
            if config.detector.mask_head == "embedding":
                self.mask_head = EmbeddingMaskHead(config.d_model, finer, config.detector.mask_channels)
            else:
                self.mask_head = AttentionMaskHead(config.d_model, config.n_heads, finer)
        self.frozen = config.detector.frozen and self.mask_head is not None
        if self.frozen:
            self.requires_grad_(False)
            assert self.mask_head is not None
            self.mask_head.requires_grad_(True)

    def train(self, mode: bool = True) -> DetectorModel:
        """A frozen detector also stays without dropout and keeps its statistics.

        With release semantics its dropout stays active, as the original's does (ODDITIES H4).
        """
        super().train(mode)
        if self.frozen:
            for name, module in self.named_children():
                module.train(mode and name in self.semantics.active_when_frozen)
        return self

    # ---------------------------------------------------------------- encode

    def encode_images(self, images: Tensor, sizes_hw: Tensor) -> VisionMaps:
        """As PointSequenceModel.encode_images: outside training each image at its own padded size."""
        return encode_images(
            self._maps, images, sizes_hw, stride=self.stride, multiple=self.config.image.multiple, at_once=self.training
        )  # fmt: skip

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Fused map, then the finer levels coarse to fine if a mask head reads them."""
        levels = self.vision(images)
        return [self.fusion(levels), *(levels[-2::-1] if self.mask_head is not None else [])]

    def encode_text(self, tokens: Tensor, mask: Tensor) -> SentenceFeatures:
        """tokens (S, L) int64, mask (S, L) bool True = a word -> word features of the text encoder's width."""
        features: SentenceFeatures = self.text(tokens, mask)
        return features

    def fuse(self, vision: VisionMaps, image_of_sentence: Tensor, text: SentenceFeatures) -> DetectorMemory:
        """Cells and words side by side through the encoder."""
        h, w = vision.cells.shape[-2:]
        cells = vision.cells.flatten(2).transpose(1, 2).index_select(0, image_of_sentence)  # (S, H*W, C)
        positions = sine_positions(vision.valid, self.config.d_model).to(cells.dtype)[image_of_sentence]
        valid = vision.valid.flatten(1)[image_of_sentence]
        if self.sentence_gate is not None:
            cells = self.sentence_gate(cells, valid, text.sentence)
        x, mask, positions, projected = self.detector.encode(cells, valid, positions, text.words, text.mask)
        own, used = vision.own_cells_hw[image_of_sentence], vision.valid_cells_hw[image_of_sentence]
        return DetectorMemory(
            x, mask, positions, (h, w), own, used, False,
            projected=projected, levels=vision.finer, image_of_sentence=image_of_sentence,
        )  # fmt: skip

    # ---------------------------------------------------------------- detect

    def forward(
        self, images: Tensor, sizes_hw: Tensor, image_of_sentence: Tensor, words: Tensor, word_mask: Tensor
    ) -> Detections:
        """Whole pass. Arguments as in the methods above."""
        vision = self.encode_images(images, sizes_hw)
        return self.detector.detect(self.fuse(vision, image_of_sentence, self.encode_text(words, word_mask)))

    def mask_logits(self, detections: Detections, rows: Tensor, query: Tensor) -> Tensor:
        """Masks of K queries: rows, query (K,) int64 -> logits (K, h, w) over the batch's canvas, finest level.

        Outside training each mask is predicted at its own padded size; what lies beyond it is 0.
        """
        assert self.mask_head is not None, "the model has no mask head"
        memory, inputs = detections.memory, detections.memory.mask_inputs(rows)
        states, own = detections.states[rows, query][:, None], memory.own_cells_hw[rows]
        if self.training:
            out: Tensor = self.mask_head(states, inputs)[:, 0]
            return out
        finest = inputs.levels[-1] if inputs.levels else inputs.cells
        ratio, canvas = (
            finest.shape[-1] // memory.grid_hw[1],
            states.new_zeros(len(states), *finest.shape[-2:]),
        )
        own = own.cpu()
        for size in own.unique(dim=0):
            group = to_device((own == size).all(1).nonzero()[:, 0], states.device)
            h, w = (int(v) for v in size)
            part = self.mask_head(states[group], inputs[group].crop(h, w))[:, 0]
            canvas[group, : h * ratio, : w * ratio] = part.to(canvas.dtype)
        return canvas

    @torch.inference_mode()
    def best(self, memory: DetectorMemory, *, keep_maps: bool = False) -> tuple[Detections, Tensor]:
        """All detections, and the best-scoring query (S,) of each sentence."""
        detections = self.detector.detect(memory, keep_maps=keep_maps)
        return detections, detections.scores().argmax(1)
