"""Sentence encoders: words in, word features and one sentence vector out (METHOD.md section 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stages.models.config import TextConfig
from stages.models.to_device import to_device


@dataclass
class SentenceFeatures:
    """words (S, L, C) float, mask (S, L) bool True = a word, sentence (S, C) = max over words."""

    words: Tensor
    mask: Tensor
    sentence: Tensor


def max_over_words(words: Tensor, mask: Tensor) -> Tensor:
    return words.masked_fill(~mask[..., None], -torch.inf).amax(1)


class GruEncoder(nn.Module):
    """Word vectors -> one bidirectional GRU layer -> max over words."""

    def __init__(self, config: TextConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.packed = config.packed
        self.embedding = nn.Embedding(vocabulary_size, config.word_dim, padding_idx=0)
        self.embedding.weight.requires_grad_(not config.frozen_words)
        self.lstm = nn.GRU(config.word_dim, config.hidden, bidirectional=True, batch_first=True)
        self.channels = 2 * config.hidden

    def forward(self, tokens: Tensor, mask: Tensor) -> SentenceFeatures:
        """tokens (S, L) int64 word ids (0 = padding at the end), mask (S, L) bool True = a word, best on the host."""
        vectors = self.embedding(tokens)
        # which takes fp16 for recurrent layers on CUDA, never bf16
        with torch.autocast(tokens.device.type, enabled=False):
            words = self._packed(vectors, mask.sum(1).cpu()) if self.packed else self.lstm(vectors)[0]
        mask = to_device(mask, tokens.device)
        return SentenceFeatures(words, mask, max_over_words(words, mask))

    def _packed(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """(S, L, C), lengths (S,) on the host. Sorted here: torch copies its order of the sentences back to the host."""
        lengths, order = lengths.sort(descending=True)
        back = to_device(order.argsort(), vectors.device)
        vectors = vectors.index_select(0, to_device(order, vectors.device))
        packed = self.lstm(pack_padded_sequence(vectors, lengths, batch_first=True))[0]
        words, _ = pad_packed_sequence(packed, batch_first=True, total_length=vectors.shape[1])
        return words.index_select(0, back)


class AutoTextEncoder(nn.Module):
    """Any `transformers` encoder (BERT, RoBERTa, …) described by its own config."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        settings: Mapping[str, Any] = config.settings
        self.encoder = AutoModel.from_config(AutoConfig.for_model(**settings))
        self.channels = int(self.encoder.config.hidden_size)
        if config.frozen_words:
            self.encoder.requires_grad_(False)

    def forward(self, tokens: Tensor, mask: Tensor) -> SentenceFeatures:
        mask = to_device(mask, tokens.device)
        words = self.encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return SentenceFeatures(words, mask, max_over_words(words, mask))


def build_text_encoder(config: TextConfig, vocabulary_size: int) -> GruEncoder | AutoTextEncoder:
    return GruEncoder(config, vocabulary_size) if config.kind == "gru" else AutoTextEncoder(config)
