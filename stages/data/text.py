"""Sentences to token ids: a word list for the GRU encoder, or a tokenizer of `transformers` (METHOD.md section 2)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.errors import ArtifactError

PAD, UNKNOWN = 0, 1
SPECIAL = ("PAD", "UNK", "CLS")  # the release reserves three; CLS is never written
# What word processors and telephones write for a quote, a dash or a blank, and what cannot be seen.
_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc\uff07", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d", "-"),
        **dict.fromkeys("\u00a0\u2007\u2009\u200a\u202f\u3000", " "),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),
        "\u2026": "...",
    }
)
_DROPPED = re.compile(r"([.,'!?\"()*#:;])")

# Words that change when an image is mirrored.
MIRROR_WORDS = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}


def plain(sentence: str) -> str:
    """Typographic quotes, dashes and blanks as ASCII has them, accents composed: one way to write a sentence."""
    return unicodedata.normalize("NFC", sentence.translate(_TYPOGRAPHIC))


def clean(sentence: str) -> str:
    """Lower case without punctuation; hyphens and slashes become spaces (as SeqTR and the VQA code it follows)."""
    return _DROPPED.sub("", plain(sentence).lower()).replace("-", " ").replace("/", " ")


def mirror_sentence(sentence: str) -> str:
    """The sentence that describes the mirrored image: left and right change places."""
    return re.sub(r"[A-Za-z]+", lambda m: MIRROR_WORDS.get(m.group().lower(), m.group()), sentence)


class TextCodec(Protocol):
    """Turns sentences into padded id matrices, and itself into JSON for the model artifact."""

    @property
    def size(self) -> int: ...

    def encode(self, sentences: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """-> ids (S, L) int64 padded with 0 at the end, mask (S, L) bool True = a word; every row has a word."""

    def to_dict(self) -> dict[str, Any]: ...


class WordCodec:
    """A closed word list; unknown words become UNK. Sentences are cut after `max_words`."""

    def __init__(self, words: Sequence[str], max_words: int) -> None:
        self.words = list(words)
        self.max_words = max_words
        self._ids = {w: i for i, w in enumerate(self.words)}

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], max_words: int) -> WordCodec:
        """Words in order of first appearance after the special tokens."""
        seen: dict[str, None] = dict.fromkeys(SPECIAL)
        for sentence in sentences:
            seen.update(dict.fromkeys(clean(sentence).split()))
        return cls(list(seen), max_words)

    @property
    def size(self) -> int:
        return len(self.words)

    def encode(self, sentences: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        rows = [
            [self._ids.get(w, UNKNOWN) for w in clean(s).split()[: self.max_words]] or [UNKNOWN]
            for s in sentences
        ]
        ids = np.zeros((len(rows), self.max_words), np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return ids, ids != PAD

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "words", "words": self.words, "max_words": self.max_words}


class HubCodec:
    """A fast tokenizer of `transformers`, kept as its own JSON so that the model artifact needs nothing else."""

    def __init__(self, tokenizer_json: str, pad_id: int, max_words: int) -> None:
        from tokenizers import Tokenizer

        self.tokenizer_json, self.pad_id, self.max_words = tokenizer_json, pad_id, max_words
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_words)

    @classmethod
    def from_source(cls, source: str, max_words: int) -> HubCodec:
        """`source`: a local folder or hub id of any model with a fast tokenizer."""
        from transformers import AutoTokenizer

        from stages.hub import reachable_source

        tokenizer = AutoTokenizer.from_pretrained(reachable_source(source))
        if not tokenizer.is_fast:
            raise ArtifactError(
                f"the tokenizer of {source} has no fast version",
                hint="choose a text encoder with tokenizer.json",
            )
        return cls(tokenizer.backend_tokenizer.to_str(), int(tokenizer.pad_token_id or 0), max_words)

    @property
    def size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, sentences: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        rows = [e.ids for e in self._tokenizer.encode_batch([plain(s) for s in sentences])]
        ids = np.full((len(rows), self.max_words), self.pad_id, np.int64)
        mask = np.zeros(ids.shape, np.bool_)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : max(len(row), 1)] = True
        return ids, mask

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "tokenizer",
            "tokenizer": self.tokenizer_json,
            "pad_id": self.pad_id,
            "max_words": self.max_words,
        }


def codec_from_dict(data: Mapping[str, Any]) -> TextCodec:
    """Inverse of `to_dict`; ArtifactError for anything else, as the file may be anybody's."""
    from stages.artifacts.json_forms import Vocabulary, problem_of_form

    needed = ("words", "max_words") if data.get("kind") == "words" else ("tokenizer", "pad_id", "max_words")
    missing = next((f"vocabulary.{key} is missing" for key in ("kind", *needed) if key not in data), None)
    if problem := missing or problem_of_form(Vocabulary, "vocabulary", data):
        raise ArtifactError("the vocabulary of the model cannot be read", facts=[problem])
    if data["kind"] == "words":
        return WordCodec(data["words"], data["max_words"])
    try:
        return HubCodec(data["tokenizer"], data["pad_id"], data["max_words"])
    except Exception as error:  # tokenizers raises bare exceptions
        raise ArtifactError(
            "the tokenizer of the model cannot be read", facts=[f"{type(error).__name__}: {str(error)[:200]}"]
        ) from error
