"""Outlines of font characters, for the object scale: DejaVu Sans Bold, the font that matplotlib ships.

Read from the font's own integer coordinates (fontTools, no rasteriser and no hinting), so every machine gets the same
points. Characters are named by their Unicode names in plain English ("BLACK SCISSORS" -> "scissors").
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FONT = "fonts/ttf/DejaVuSans-Bold.ttf"  # below matplotlib's data folder
CURVE_STEPS = 4  # straight pieces of each quadratic curve

# Words of Unicode names that say how a character is printed, not what it shows; and those that would be read as a
# place, a size or a colour in a sentence
_DROPPED = frozenset(
    [
        "black",
        "white",
        "heavy",
        "light",
        "medium",
        "outlined",
        "solid",
        "sign",
        "symbol",
        "suit",
        "mark",
        "ornament",
        "music",
        "chess",
        "latin",
        "letter",
        "for",
        "with",
        "of",
        "the",
        "and",
        "left",
        "right",
        "leftwards",
        "rightwards",
        "upwards",
        "downwards",
        "lower",
        "upper",
        "up",
        "down",
        "top",
        "bottom",
        "centre",
        "center",
        "open",
        "small",
        "universal",
        "generic",
        "materials",
        "n-ary",
        "type",
    ]
)
# where the rule would give a clumsy name, or the name of another kind
_NAMES = {
    0x2602: "umbrella", 0x260B: "descending node", 0x261A: "fist", 0x261D: "pointing finger", 0x2620: "skull",
    0x2628: "cross of lorraine", 0x2629: "cross of jerusalem", 0x262D: "hammer and sickle", 0x262F: "yin yang",
    0x2638: "wheel", 0x263D: "crescent", 0x263A: "smiling face", 0x265E: "knight", 0x265D: "bishop", 0x265B: "queen",
    0x265C: "rook", 0x265F: "pawn", 0x2665: "heart", 0x2680: "die showing a dot", 0x2684: "die showing five",
    0x2692: "hammer and pick", 0x2698: "tulip", 0x26B8: "lilith", 0x2721: "star of david", 0x2709: "envelope",
    0x26C1: "stack of coins", 0x26C0: "coin", 0x26A0: "warning triangle", 0x270C: "victory hand",
    0x270D: "writing hand", 0x2712: "pen nib", 0x2718: "ballot cross", 0x2716: "fat x",
    0x271A: "fat plus", 0x271C: "plus with window", 0x271D: "latin cross", 0x2722: "four drops",
    0x2724: "four balloons", 0x2726: "four pointed star", 0x2731: "asterisk", 0x2734: "eight pointed star",
    0x2736: "six pointed star", 0x2738: "starburst", 0x2739: "twelve pointed star", 0x273B: "six drops",
    0x273D: "fat drops", 0x273F: "blossom", 0x2740: "daisy", 0x2741: "rosette", 0x2742: "compass rose",
    0x2743: "pinwheel", 0x272A: "star in a circle", 0x272B: "star with window", 0x272F: "pinwheel star",
    0x275B: "quote", 0x2761: "curved paragraph", 0x2766: "floral heart", 0x2767: "leaf", 0x2794: "arrow",
    0x27A4: "arrowhead", 0x27A5: "bent arrow", 0x27B8: "feathered arrow", 0x27BB: "teardrop arrow",
    0x27BD: "wedge arrow", 0x27B2: "arrow in a circle", 0x27A7: "squat arrow", 0x21BA: "circle arrow",
    0x21AF: "zigzag arrow", 0x21A9: "hook arrow", 0x219D: "wave arrow", 0x21B0: "elbow arrow",
    0x2194: "double arrow", 0x21AB: "loop arrow", 0x2300: "diameter", 0x2301: "lightning", 0x2302: "house",
    0x2318: "clover loop", 0x2328: "keyboard", 0x232B: "erase key", 0x21B7: "arched arrow",
    0x21A0: "two headed arrow", 0x21A6: "barred arrow", 0x25C9: "fisheye", 0x25D8: "tile with hole",
    0x25AB: "square frame", 0x25C8: "nested diamond", 0x25B2: "triangle", 0x25C6: "rhombus", 0x25A6: "grid",
    0x25D6: "half disk", 0x25B0: "parallelogram", 0x25DC: "arc", 0x1F42E: "cow", 0x1F431: "cat",
    0x1F600: "grinning face", 0x1F607: "angel face", 0x1F608: "devil face", 0x1F60E: "sunglasses face",
    0x1F637: "masked face",
    0x1F0A1: "ace of spades",
    0x1F0CF: "joker card", 0x1F031: "domino", 0x221E: "infinity", 0x2211: "sum", 0x220F: "product",
    0x222B: "integral", 0x221A: "square root", 0x2202: "curly d", 0x2207: "nabla", 0x2208: "element", 0x222A: "union",
    0x2295: "circled plus", 0x26: "ampersand", 0x40: "at sign", 0x23: "hash",
    0xA7: "section sign", 0xB6: "paragraph", 0x24: "dollar", 0x20AC: "euro", 0xA3: "pound", 0xA5: "yen",
    0xDF: "sharp s", 0xC6: "letter ae", 0x7E: "tilde", 0x2020: "dagger", 0x2021: "double dagger", 0xA4: "currency",
    0xA2: "cent",
}  # fmt: skip

# Drawn solid: the ink is the object, holes stay holes. Letters first.
_LETTERS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"
_SCRIPTS = (
    "ΓΔΛΠΣΦΨΩαβγδεζηθλμξπφψω"  # Greek; Latin look-alikes left out
    "БДЖЗИЛУЦЧШЩЪЭЮЯ"  # Cyrillic
    "ԱԲԳԴԵԶԷԸԹԺԻԽԾԿՀՁՂՃՄՅՇՈՉՋՌՎՏՐՔՖ"  # Armenian
)
_SIGNS = "&@#§¶$€£¥¢¤~†‡₩₦₱₲₴₵₹ÆÞÐß∞∑∏∫√∂∇∈∪"
_SOLID = """
2601 2602 2605 260b 260c 260d 2618 261a 2621 2624 2625 2626 2627 2628 2629 262d 262f 2638 263d 2643 2644 2648 2649
264a 264c 2650 2653 265b 265c 265d 265e 265f 2660 2665 2663 2666 266a 266b 266f 2670 2691 2692 2693 2698 26a1 26b1
26b3 26b4 26b8 2702 2708 270c 2712 2714 2716 2718 271a 271c 271d 2720 2721 2722 2724 2726 2731 2734 2736 2738 2739
273b 273d 273f 2740 2743 2744 2747 275b 2761 2766 2767 2794 27a4 27a5 27a7 27b8 27bb 27bd 27b2 21ba 21af 21a9 219d
21b0 2194 21ab 2300 2301 2302 2318 21b7 21a0 21a6 25d8 25ab 25b2 25c6 25a6 25d6 25b0 25dc
"""
# Drawn as a card: the silhouette is the object, the ink lies on it in another colour
_CARDS = """
2615 261d 263a 2639 2680 2684 26c0 26c1 26a0 2707 2709 270d 270e 2719 271e 272a 272b 272f 2735 2741 2742 1f42e 1f431
1f600 1f607 1f608 1f60e 1f637 1f0a1 1f0cf 1f031 2328 232b 2295 25c8 25c9 2620
"""


def plain_name(code: int) -> str:
    """A character's name as a sentence would say it, lower case."""
    if code in _NAMES:
        return _NAMES[code]
    words = unicodedata.name(chr(code)).lower().replace("face-", "face ").split()
    script = words[0]
    if script in ("latin", "greek", "cyrillic", "armenian") and "letter" in words:
        letter = " ".join(words[words.index("letter") + 1 :])
        if script == "greek":
            return f"capital {letter}" if "capital" in words else letter
        return f"letter {letter}" if script == "latin" else f"{script} {letter}"
    return " ".join(w for w in words if w not in _DROPPED)


def solid_characters() -> tuple[int, ...]:
    return (*map(ord, _LETTERS + "23456789" + _SCRIPTS + _SIGNS), *(int(code, 16) for code in _SOLID.split()))


def card_characters() -> tuple[int, ...]:
    return tuple(int(code, 16) for code in _CARDS.split())


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
