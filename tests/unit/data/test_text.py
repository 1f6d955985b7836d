"""Sentences are tokenised alike however their quotes, dashes, blanks and accents were typed."""

from __future__ import annotations

import unicodedata

import pytest

from stages.data.text import WordCodec, clean, plain


@pytest.mark.parametrize(
    ("typed", "ascii_text"),
    [
        ("the man\u2019s \u201cstop\u201d sign", 'the man\'s "stop" sign'),
        ("\u201eleft\u201c \u2013 the \u00abred\u00bb cup", '"left" - the "red" cup'),
        ("left\u2014most half\u2011full", "left-most half-full"),
        ("the\u00a0red\u202fcup", "the red cup"),
        ("the cup\u2026", "the cup..."),
        ("\ufeffthe cu\u00adp\u200b", "the cup"),
        (unicodedata.normalize("NFD", "the caf\u00e9"), "the caf\u00e9"),
    ],
)
def test_typographic_marks_are_those_of_ascii(typed: str, ascii_text: str) -> None:
    assert plain(typed) == ascii_text
    assert clean(typed) == clean(ascii_text)
    codec = WordCodec.from_sentences([ascii_text], 8)
    ids, _ = codec.encode([typed])
    assert 1 not in ids  # no unknown word
    assert plain(ascii_text) == ascii_text
