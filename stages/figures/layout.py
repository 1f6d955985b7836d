"""Text and arrangement: wrapped captions, tiles of one size, rows of tiles, all as RGB arrays."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from stages.figures.overlays import Colour, Picture
from stages.untrusted import printable

INK: Colour = (25, 25, 25)
FAINT: Colour = (105, 105, 105)
PAPER: Colour = (255, 255, 255)
GAP = 8  # pixels between tiles and round captions
_MOST_LETTERS = 2000  # of a caption; nobody reads more, and wrapping takes a millisecond a word


REGULAR, BOLD = 400, 650  # weights of the variable font


def text_width(text: str, size: int, weight: int = REGULAR) -> int:
    """Pixels from the first to the last letter."""
    if not text:
        return 0
    x, _, width, _ = cv2.getTextSize((1, 1), text, (0, 0), _font(), size, weight)
    return int(x + width)


def wrapped(text: str, width: int, size: int, most_lines: int = 4, weight: int = REGULAR) -> list[str]:
    """Lines no wider than `width` pixels; longer words are cut, and the last of too many ends in " …"."""
    lines = [""]
    for word in printable(text)[:_MOST_LETTERS].split(" "):
        for piece in _pieces(word, width, size, weight):
            longer = f"{lines[-1]} {piece}".strip()
            if not lines[-1] or text_width(longer, size, weight) <= width:
                lines[-1] = longer
            else:
                lines.append(piece)
    if len(lines) > most_lines:
        last = lines[most_lines - 1]
        while last and text_width(f"{last} …", size, weight) > width:
            last = last[:-1].rstrip()
        lines = [*lines[: most_lines - 1], f"{last} …"]
    return lines


def text_band(text: str, width: int, *, size: int = 16, colour: Colour = INK, bold: bool = False) -> Picture:
    """White strip of `width` pixels with the wrapped text on it; as high as its lines need."""
    weight = BOLD if bold else REGULAR
    lines = wrapped(text, width - 2 * GAP, size, weight=weight)
    step = round(size * 1.45)
    band = np.full((step * len(lines) + GAP, width, 3), PAPER, np.uint8)
    for i, line in enumerate(lines):
        at = (GAP, round(step * (i + 0.8)) + GAP // 2)
        cv2.putText(band, line, at, colour, _font(), size, weight)
    return band


def captioned(picture: Picture, below: str = "", *, above: str = "", size: int = 14) -> Picture:
    """The picture with text under (and over) it; an empty text takes no room."""
    parts = [text_band(above, picture.shape[1], size=size, bold=True)] if above else []
    parts.append(picture)
    if below:
        parts.append(text_band(below, picture.shape[1], size=size, colour=FAINT))
    return np.concatenate(parts)


def row(tiles: Sequence[Picture]) -> Picture:
    """Tiles side by side, aligned at the top, on white."""
    height = max(t.shape[0] for t in tiles)
    gap = np.full((height, GAP, 3), PAPER, np.uint8)
    padded = [part for t in tiles for part in (gap, _padded(t, height, t.shape[1]))]
    return np.concatenate(padded[1:], axis=1)


def column(rows: Sequence[Picture]) -> Picture:
    """Rows below each other, aligned at the left, on white."""
    width = max(r.shape[1] for r in rows)
    gap = np.full((GAP, width, 3), PAPER, np.uint8)
    return np.concatenate([part for r in rows for part in (gap, _padded(r, r.shape[0], width))][1:])


def _padded(picture: Picture, height: int, width: int) -> Picture:
    out = np.full((height, width, 3), PAPER, np.uint8)
    out[: picture.shape[0], : picture.shape[1]] = picture
    return out


def _pieces(word: str, width: int, size: int, weight: int) -> list[str]:
    """The word, cut where it alone would be wider than the line."""
    if text_width(word, size, weight) <= width:
        return [word]
    pieces = [""]
    for letter in word:
        if pieces[-1] and text_width(pieces[-1] + letter, size, weight) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


@functools.cache
def _font() -> cv2.FontFace:
    """The Unicode font that comes inside OpenCV 5; missing letters are shown as "?"."""
    return cv2.FontFace("sans")
