"""RefShapes, part 3: what a description means, and how it is said.

A `Description` is symbolic. `denotes` says which objects of a scene it fits; a sentence is only made from a
description that fits its referent *clearly* and no other object even *loosely*. Three styles, after the
three public data sets: "unc" (short, position words), "plus" (appearance only), "umd" (long, relations).

Positions are judged by the centre of the visible box as a share of the image side, x right, y down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stages.data.refshapes.scenes import Scene, ShapeObject

STYLES = ("unc", "plus", "umd")

EXTREME_MARGIN = 0.10  # "left star" is at least this much further left than any other star
EXTREME_HALF = 0.04  # and its centre lies in that half of the image by this much
SIDE_CLEAR, SIDE_LOOSE = 0.40, 0.52  # "on the left side": centre before the first; others beyond the second
MIDDLE_CLEAR, MIDDLE_LOOSE = 0.13, 0.22  # "in the middle": distance of the centre from the image's, per axis
RELATION_CLEAR, RELATION_LOOSE = 0.14, -0.01  # "left of": difference of the centres along the axis
HIDDEN_CLEAR = 0.06  # "behind": at least this share of it is hidden by the anchor

_DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
_CORNERS = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True)
class Description:
    """What is said of an object; None = not mentioned."""

    size: str | None = None
    colour: str | None = None
    shape: str | None = None
    # left, right, top, bottom: furthest that way among those that fit, and in that half
    extreme: str | None = None
    side: str | None = None  # the same words, "middle" or a corner such as "top left": a region of the image
    relation: str | None = None  # left of, right of, above, below, behind
    anchor: Description | None = None


def _fits_look(item: ShapeObject, about: Description) -> bool:
    return (
        about.size in (None, item.size_name)
        and about.colour in (None, item.colour)
        and about.shape in (None, item.shape)
    )


def _in_side(centre: np.ndarray, side: str, loosely: bool) -> bool:
    if side == "middle":
        return bool(np.abs(centre - 0.5).max() < (MIDDLE_LOOSE if loosely else MIDDLE_CLEAR))
    limit = SIDE_LOOSE if loosely else SIDE_CLEAR
    near = {"left": centre[0], "right": 1 - centre[0], "top": centre[1], "bottom": 1 - centre[1]}
    return all(bool(near[word] < limit) for word in side.split())


def _related(scene: Scene, item: int, relation: str, anchor: int, loosely: bool) -> bool:
    if relation == "behind":
        if anchor not in scene.objects[item].covered_by:
            return False
        whole = scene.objects[item].full_mask
        share = np.count_nonzero(whole & scene.objects[anchor].full_mask) / np.count_nonzero(whole)
        return loosely or bool(share >= HIDDEN_CLEAR)
    towards = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}[relation]
    (x, y), (u, v) = scene.objects[item].centre_xy, scene.objects[anchor].centre_xy
    dx, dy = _DIRECTIONS[towards]
    along, across = (x - u) * dx + (y - v) * dy, abs((x - u) * dy + (y - v) * dx)
    if loosely:
        return along > RELATION_LOOSE * scene.size
    return along > RELATION_CLEAR * scene.size and along > across


def denotes(scene: Scene, about: Description, *, loosely: bool = False) -> list[int]:
    """Indices of the objects that `about` fits, clearly or (`loosely`) perhaps.

    The objects that fit clearly are always among those that fit loosely.
    """
    found = [i for i, item in enumerate(scene.objects) if _fits_look(item, about)]
    if about.relation is not None and about.anchor is not None:
        anchors = denotes(scene, about.anchor, loosely=True)
        found = [
            i
            for i in found
            if any(i != a and _related(scene, i, about.relation, a, loosely) for a in anchors)
        ]
    if about.side is not None:
        found = [i for i in found if _in_side(scene.centres[i], about.side, loosely)]
    if about.extreme is not None and found:
        reach = scene.centres[found] @ np.array(_DIRECTIONS[about.extreme])
        if loosely:
            return [i for i, value in zip(found, reach, strict=True) if value >= reach.max() - EXTREME_MARGIN]
        best = int(np.argmax(reach))
        # "left star" is no name for a star on the right, even if all other stars are further right.
        halfway = float(np.sum(_DIRECTIONS[about.extreme])) * 0.5
        found = [found[best]] if reach[best] > halfway + EXTREME_HALF else []
    return found


def is_unambiguous(scene: Scene, about: Description, referent: int) -> bool:
    """Whether `about` clearly fits the referent, and nothing else even loosely; the same for its anchor."""
    if denotes(scene, about) != [referent] or denotes(scene, about, loosely=True) != [referent]:
        return False
    if about.anchor is None:
        return True
    anchors = denotes(scene, about.anchor, loosely=True)
    return len(anchors) == 1 and anchors[0] != referent


# (size, colour, shape) mentioned or not, with how often that choice is tried first
_LOOKS = (
    ((False, True, True), 0.34),
    ((True, True, True), 0.22),
    ((False, False, True), 0.20),
    ((True, False, True), 0.12),
    ((False, True, False), 0.08),
    ((True, True, False), 0.04),
)
_LOG_WEIGHTS = np.log([weight for _, weight in _LOOKS])


def _looks(item: ShapeObject, rng: np.random.Generator, *, bare: bool = False) -> Iterator[Description]:
    """Descriptions of an object's look in random order; `bare` adds the one that mentions nothing."""
    # Gumbel keys: a weighted order without replacement from one draw.
    order = np.argsort(-(_LOG_WEIGHTS + rng.gumbel(size=len(_LOOKS))))
    if bare and rng.random() < 0.2:
        yield Description()
    for index in order:
        size, colour, shape = _LOOKS[index][0]
        yield Description(
            item.size_name if size else None, item.colour if colour else None, item.shape if shape else None
        )


def _shuffled(words: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    return [words[i] for i in rng.permutation(len(words))]


def _unc(scene: Scene, referent: int, rng: np.random.Generator) -> Iterator[Description]:
    for look in _looks(scene.objects[referent], rng, bare=True):
        if rng.random() < 0.25:
            yield look
        for word in _shuffled((*_DIRECTIONS, "middle", *_CORNERS), rng):
            yield replace(look, side=word)
            if word in _DIRECTIONS:
                yield replace(look, extreme=word)


def _plus(scene: Scene, referent: int, rng: np.random.Generator) -> Iterator[Description]:
    yield from _looks(scene.objects[referent], rng)


def _umd(scene: Scene, referent: int, rng: np.random.Generator) -> Iterator[Description]:
    # A short name for the anchor that is enough, or none.
    anchors: dict[int, Description] = {}
    for other in range(len(scene.objects)):
        for name in _looks(scene.objects[other], rng):
            if other != referent and name.shape is not None and is_unambiguous(scene, name, other):
                anchors[other] = name
                break
    for look in _looks(scene.objects[referent], rng):
        for other in rng.permutation(len(scene.objects)):
            if (anchor := anchors.get(int(other))) is not None:
                for relation in ("behind", *_shuffled(("left of", "right of", "above", "below"), rng)):
                    yield replace(look, relation=relation, anchor=anchor)
        if look.shape is not None:
            for word in _shuffled((*_DIRECTIONS, "middle", *_CORNERS), rng):
                yield replace(look, side=word)


_CANDIDATES = {"unc": _unc, "plus": _plus, "umd": _umd}

_SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
_SHAPE_WORDS = {
    "star": ("star",),
    "cross": ("cross", "plus sign"),
    "arrow": ("arrow",),
    "l": ("letter l",),
    "moon": ("moon", "crescent"),
    "heart": ("heart",),
    "blob": ("blob", "splash"),
    "s": ("letter s", "snake"),
}
_ANY_SHAPE = ("shape", "one", "thing", "object")


def _one_of(words: tuple[str, ...], rng: np.random.Generator) -> str:
    """The first word half the time, else any of them."""
    return words[0] if rng.random() < 0.5 else words[rng.integers(len(words))]


def _noun(about: Description, rng: np.random.Generator) -> str:
    words = [] if about.size is None else [_one_of(_SIZE_WORDS[about.size], rng)]
    words += [] if about.colour is None else [about.colour]
    # the kinds of the object scale have one name each, their own
    named = _ANY_SHAPE if about.shape is None else _SHAPE_WORDS.get(about.shape, (about.shape,))
    words.append(_one_of(named, rng))
    return " ".join(words)


def _say_short(about: Description, rng: np.random.Generator) -> str:
    noun = _noun(about, rng)
    place = about.extreme or about.side
    if place is None:
        return noun
    if about.extreme is not None and rng.random() < 0.4:
        return f"{place}most {noun}" if place in ("left", "right") else f"{noun} closest to the {place}"
    if place == "middle":
        return (f"middle {noun}", f"{noun} in the middle", f"center {noun}")[rng.integers(3)]
    if place in _CORNERS:
        return (f"{place} {noun}", f"{noun} {place}", f"{noun} in the {place} corner")[rng.integers(3)]
    vertical = place in ("top", "bottom")  # never "on top", which would speak of what covers what
    there, side = ("at the", "part") if vertical else ("on the", "side")
    return (f"{place} {noun}", f"{noun} {there} {place}", f"{noun} on the {place} {side}")[rng.integers(3)]


_RELATION_WORDS = {
    "left of": ("to the left of", "that is left of", "on the left side of"),
    "right of": ("to the right of", "that is right of", "on the right side of"),
    "above": ("above", "that is above", "higher than"),
    "below": ("below", "that is under", "lower than"),
    "behind": ("behind", "that is partly hidden by", "partly covered by"),
}


def _say_long(about: Description, rng: np.random.Generator) -> str:
    noun = _noun(about, rng)
    article = (
        ("an" if noun[0] in "aeiou" and not noun.startswith("one") else "a") if rng.random() < 0.3 else "the"
    )
    noun = f"{article} {noun}"
    if about.relation is not None and about.anchor is not None:
        words = _RELATION_WORDS[about.relation]
        return f"{noun} {words[rng.integers(len(words))]} the {_noun(about.anchor, rng)}"
    link = "that is " if rng.random() < 0.3 else ""
    if about.side == "middle":
        return f"{noun} {link}in the {'middle' if rng.random() < 0.6 else 'center'} of the picture"
    if about.side in _CORNERS:
        return f"{noun} {link}in the {about.side} corner of the picture"
    preposition = "at the" if about.side in ("top", "bottom") else "on the"
    where = about.side if about.side in ("top", "bottom") else f"{about.side} side"
    return f"{noun} {link}{preposition} {where} of the picture"


def make_sentence(
    scene: Scene, referent: int, style: str, rng: np.random.Generator
) -> tuple[str, Description] | None:
    """A sentence of the style (see `STYLES`) that can only mean the referent, lower case, and its meaning.

    Returns None when the style has no unambiguous way to name this object.
    """
    for about in _CANDIDATES[style](scene, referent, rng):
        if is_unambiguous(scene, about, referent):
            return (_say_long if style == "umd" else _say_short)(about, rng), about
    return None


def make_sentences(scene: Scene, referent: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Two or three different (style, sentence) pairs of mixed styles; fewer only where no more can be said."""
    styles = _shuffled(STYLES, rng)
    styles += ["umd", "unc"]  # second tries, should a style have nothing to say or say the same again
    wanted = 2 if rng.random() < 0.55 else 3
    said: dict[str, str] = {}
    for style in styles:
        made = make_sentence(scene, referent, style, rng)
        if made is not None and made[0] not in said:
            said[made[0]] = style
        if len(said) == wanted:
            break
    return [(style, sentence) for sentence, style in said.items()]
