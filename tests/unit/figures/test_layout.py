"""Captions fit their width whatever the sentence is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.figures import layout
from stages.figures.layout import captioned, column, row, text_band, text_width, wrapped
from stages.untrusted import printable


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60), st.integers(40, 300))
def test_every_line_fits(text: str, width: int) -> None:
    lines = wrapped(text, width, 14)
    assert 1 <= len(lines) <= 4
    assert all(text_width(line, 14) <= width for line in lines)


def test_short_text_stays_whole_and_long_text_ends_in_dots() -> None:
    assert wrapped("the man in red", 500, 14) == ["the man in red"]
    assert " ".join(wrapped("left " * 8, 100, 14)).split() == ["left"] * 8
    assert wrapped("word " * 300, 100, 14)[-1].endswith(" …")
    assert len(wrapped("x" * 500, 80, 14)) == 4


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\tb\n c\x00", "a b c"), ("\ud800 cut", "? cut"), ("naïve 红", "naïve 红"), ("", "")],
)
def test_untrusted_text_becomes_one_printable_line(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_text_leaves_ink_on_white() -> None:
    band = text_band("the star", 200)
    assert band.shape[1:] == (200, 3)
    assert band.min() < 80
    assert (band[:, :4] == 255).all()
    assert (text_band("", 200) == 255).all()


@pytest.mark.parametrize("bold", [True, False])
def test_text_is_never_cut_at_the_right_edge(bold: bool) -> None:
    for width in range(120, 400, 7):
        band = text_band("the giraffe with its neck bent down that stands closest", width, size=18, bold=bold)
        assert (band[:, -layout.GAP // 2 :] == 255).all()


def test_tiles_keep_their_pixels() -> None:
    a = np.full((10, 20, 3), 7, np.uint8)
    b = np.full((16, 5, 3), 9, np.uint8)
    side = row([a, b])
    assert side.shape == (16, 20 + layout.GAP + 5, 3)
    assert (side[:10, :20] == 7).all() and (side[10:, :20] == 255).all()
    assert (side[:, -5:] == 9).all()
    below = column([a, b])
    assert below.shape == (10 + layout.GAP + 16, 20, 3)
    assert (below[-16:, :5] == 9).all()


def test_captions_go_above_and_below() -> None:
    tile = np.full((30, 120, 3), 7, np.uint8)
    both = captioned(tile, "below", above="above")
    ours = np.flatnonzero((both == 7).all((1, 2)))
    assert len(ours) == 30 and ours[0] > 0 and ours[-1] < len(both) - 1
    assert np.array_equal(captioned(tile), tile)
