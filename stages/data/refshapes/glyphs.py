"""Outlines of font characters, for the object scale: DejaVu Sans Bold, the font that matplotlib ships.

Read from the font's own integer coordinates (fontTools, no rasteriser and no hinting), so every machine gets the same
points. Which characters, and what they are called, stands in objects.toml; others are named by their Unicode names in
plain English ("BLACK SCISSORS" -> "scissors").
"""

import tomllib
import unicodedata
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FONT = "fonts/ttf/DejaVuSans-Bold.ttf"  # below matplotlib's data folder
CURVE_STEPS = 4  # straight pieces of each quadratic curve


@lru_cache(maxsize=1)
def object_tables() -> dict[str, Any]:
    """objects.toml."""
    return tomllib.loads(resources.files(__package__).joinpath("objects.toml").read_text("utf-8"))


def plain_name(code: int) -> str:
    """A character's name as a sentence would say it, lower case."""
    if given := object_tables()["names"].get(f"{code:04x}"):
        return str(given)
    words = unicodedata.name(chr(code)).lower().replace("face-", "face ").split()
    script = words[0]
    if script in ("latin", "greek", "cyrillic", "armenian") and "letter" in words:
        letter = " ".join(words[words.index("letter") + 1 :])
        if script == "greek":
            return f"capital {letter}" if "capital" in words else letter
        return f"letter {letter}" if script == "latin" else f"{script} {letter}"
    unsaid = object_tables()["unsaid"]["words"].split()
    return " ".join(w for w in words if w not in unsaid)


def solid_characters() -> tuple[int, ...]:
    """Codes of the characters whose ink is the object."""
    *texts, codes = object_tables()["solid"].values()
    return (*map(ord, "".join(texts)), *_codes(codes))


def card_characters() -> tuple[int, ...]:
    """Codes of the characters that are drawn on a card."""
    return _codes(object_tables()["cards"]["codes"])


def _codes(text: str) -> tuple[int, ...]:
    return tuple(int(code, 16) for code in text.split())


@lru_cache(maxsize=1)
def _font() -> tuple[dict[int, str], object]:
    import matplotlib
    from fontTools.ttLib import TTFont

    font = TTFont(Path(matplotlib.get_data_path()) / FONT)
    return font.getBestCmap(), font.getGlyphSet()


def outlines(code: int) -> list[NDArray[np.float64]]:
    """Rings (M, 2) of a character, xy, y down, in font units (2048 an em); filled by the even-odd rule.

    Raises KeyError for a character that the font lacks.
    """
    from fontTools.pens.recordingPen import DecomposingRecordingPen

    names, glyphs = _font()
    pen = DecomposingRecordingPen(glyphs)
    glyphs[names[code]].draw(pen)  # type: ignore[index]
    rings: list[list[tuple[float, float]]] = []
    for operation, points in pen.value:
        if operation == "moveTo":
            rings.append([points[0]])
        elif operation == "lineTo":
            rings[-1].append(points[0])
        elif operation == "qCurveTo":
            _append_curve(rings[-1], points)
    return [np.array(ring, np.float64) * (1, -1) for ring in rings if len(ring) >= 3]


def _append_curve(ring: list[tuple[float, float]], points: tuple[tuple[float, float], ...]) -> None:
    """TrueType's chain of quadratic curves: between two control points lies an implied point of the curve."""
    *controls, end = points
    for number, (cx, cy) in enumerate(controls):
        last = number == len(controls) - 1
        x1, y1 = end if last else ((cx + controls[number + 1][0]) / 2, (cy + controls[number + 1][1]) / 2)
        x0, y0 = ring[-1]
        for step in range(1, CURVE_STEPS + 1):
            t = step / CURVE_STEPS
            a, b, c = (1 - t) * (1 - t), 2 * t * (1 - t), t * t
            ring.append((a * x0 + b * cx + c * x1, a * y0 + b * cy + c * y1))
