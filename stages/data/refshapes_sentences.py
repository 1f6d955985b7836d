"""RefShapes, part 3: sentences that fit exactly one object of their scene.

A sentence is first a *description* (how the object looks, perhaps where it is, perhaps how it stands to
another object). `denotation` decides what a description fits; only descriptions that clearly fit one
object, and do not come close to fitting a second, are put into words. Three styles, after the three
public data sets:

    location    "left red star", "moon at the bottom"                 short, position words (RefCOCO)
    appearance  "small blue arrow"                                    nothing about the place (RefCOCO+)
    relation    "the green cross to the left of the yellow heart"     long, other objects (RefCOCOg)

Distances are pixels between box centres; clear margins grow with the image (12 px at a side of 160).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stages.data.refshapes_scenes import Scene, ShapeObject

STYLES = ("location", "appearance", "relation")
_STYLE_SHARE = (0.40, 0.25, 0.35)

MARGIN = 0.075  # of the side: differences below this are not put into words
MIN_REFERENT_VISIBLE = 0.66  # of the shape's pixels
_COVERED = 0.04  # share of a shape that must be hidden before "behind" is said

_DIRECTIONS: dict[str, tuple[float, float]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
}
_CORNERS = {f"{v} {h}": (h, v) for v in ("top", "bottom") for h in ("left", "right")}
PLACES = (*_DIRECTIONS, *_CORNERS, "middle")
RELATIONS = ("left", "right", "top", "bottom", "near", "behind", "front")


@dataclass(frozen=True)
class Look:
    """Appearance; None = not mentioned."""

    shape: str | None = None
    colour: str | None = None
    size_name: str | None = None

    def fits(self, item: ShapeObject) -> bool:
        return (
            self.shape in (None, item.shape)
            and self.colour in (None, item.colour)
            and self.size_name in (None, item.size_name)
        )

    @property
    def mentioned(self) -> frozenset[str]:
        return frozenset(k for k in ("shape", "colour", "size_name") if getattr(self, k) is not None)


@dataclass(frozen=True)
class Description:
    look: Look
    place: str | None = None  # one of PLACES
    relation: str | None = None  # one of RELATIONS, to the object that `anchor` fits
    anchor: Look | None = None


# ---------------------------------------------------------------- meaning


def denotation(description: Description, scene: Scene) -> tuple[set[int], set[int]]:
    """(objects that clearly fit, objects that could be meant); indices into `scene.objects`.

    A description is unambiguous when both sets hold the same single object.
    """
    likely = [i for i, item in enumerate(scene.objects) if description.look.fits(item)]
    if description.place is not None:
        return _in_place(description.place, likely, scene)
    if description.relation is None:
        return set(likely), set(likely)
    assert description.anchor is not None
    anchors = [i for i, item in enumerate(scene.objects) if description.anchor.fits(item)]
    if len(anchors) != 1:
        return set(), set(likely)
    return _related(description.relation, [i for i in likely if i != anchors[0]], anchors[0], scene)


def _in_place(place: str, likely: list[int], scene: Scene) -> tuple[set[int], set[int]]:
    margin, middle = MARGIN * scene.size, scene.size / 2
    offset = {i: np.subtract(scene.objects[i].centre_xy, middle) for i in likely}
    if place in _CORNERS:
        h, v = _CORNERS[place]
        depth = {i: min(offset[i] @ _DIRECTIONS[h], offset[i] @ _DIRECTIONS[v]) for i in likely}
        return {i for i in likely if depth[i] > margin / 2}, {i for i in likely if depth[i] > -margin / 2}
    if place == "middle":
        away = {i: float(np.hypot(*offset[i])) for i in likely}
        clear = _winner({i: -d for i, d in away.items()}, margin)
        return {i for i in clear if away[i] < 0.2 * scene.size}, clear or set(likely)
    along = {i: float(offset[i] @ _DIRECTIONS[place]) for i in likely}
    if len(likely) == 1:  # then the word compares with nothing: it must be true of the image itself
        return {i for i in likely if along[i] > margin}, set(likely)
    clear = _winner(along, margin)
    return clear, clear or set(likely)


def _related(relation: str, likely: list[int], anchor: int, scene: Scene) -> tuple[set[int], set[int]]:
    margin, objects = MARGIN * scene.size, scene.objects
    offset = {i: np.subtract(objects[i].centre_xy, objects[anchor].centre_xy) for i in likely}
    if relation in _DIRECTIONS:
        along = {i: float(offset[i] @ _DIRECTIONS[relation]) for i in likely}
        aside = {i: float(np.sqrt(max(offset[i] @ offset[i] - along[i] ** 2, 0.0))) for i in likely}
        return {i for i in likely if along[i] > max(margin, 0.8 * aside[i])}, {
            i for i in likely if along[i] > 0
        }
    if relation == "near":
        away = {i: float(np.hypot(*offset[i])) for i in likely}
        clear = _winner({i: -d for i, d in away.items()}, margin)
        if len(likely) > 1 and clear:
            ranked = sorted(away.values())
            clear = clear if ranked[1] > 1.3 * ranked[0] else set()
        return {i for i in clear if away[i] < 0.42 * scene.size}, clear or set(likely)
    pairs = {i: (i, anchor) if relation == "behind" else (anchor, i) for i in likely}
    hidden = {i: hidden_share(objects, *pair) for i, pair in pairs.items()}
    return {i for i in likely if hidden[i] > _COVERED}, {i for i in likely if hidden[i] > 0}


def _winner(score: dict[int, float], margin: float) -> set[int]:
    """The object with the highest score when it leads by more than `margin`, else nothing."""
    ranked = sorted(score, key=lambda i: -score[i])
    if not ranked or (len(ranked) > 1 and score[ranked[0]] - score[ranked[1]] <= margin):
        return set()
    return {ranked[0]}


def hidden_share(objects: Sequence[ShapeObject], lower: int, upper: int) -> float:
    """Share of the pixels of `lower` that `upper` hides."""
    if upper not in objects[lower].covered_by:
        return 0.0
    full = objects[lower].full_mask
    return float(np.count_nonzero(full & objects[upper].full_mask) / np.count_nonzero(full))


# ---------------------------------------------------------------- words

_NOUNS: dict[str | None, tuple[str, ...]] = {
    "star": ("star",),
    "cross": ("cross",),
    "arrow": ("arrow",),
    "l": ("letter l", "l"),
    "moon": ("moon",),
    "heart": ("heart",),
    "blob": ("blob",),
    "s": ("letter s", "s"),
    None: ("one", "shape", "thing"),
}
_SIZES = {"small": ("small", "little"), "large": ("large", "big")}

# {} stands for the look. The second list is only for a choice among several of that look.
_PLACE_TEMPLATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "left": (
        ("left {}", "{} on the left", "{} on left side"),
        ("leftmost {}", "far left {}", "{} left most"),
    ),
    "right": (
        ("right {}", "{} on the right", "{} on right side"),
        ("rightmost {}", "far right {}", "{} right most"),
    ),
    "top": (("top {}", "{} at the top", "upper {}"), ("top most {}", "highest {}")),
    "bottom": (("bottom {}", "{} at the bottom", "lower {}"), ("bottom most {}", "lowest {}")),
    "middle": (("middle {}", "{} in the middle", "center {}"), ()),
    **{
        corner: ((f"{corner} {{}}", f"{{}} {corner}", f"{{}} in the {corner} corner"), ())
        for corner in _CORNERS
    },
}
_LONG_PLACES = {
    "left": "on the left side of the picture",
    "right": "on the right side of the picture",
    "top": "at the top of the picture",
    "bottom": "at the bottom of the picture",
    "middle": "in the middle of the picture",
    **{corner: f"in the {corner} corner of the picture" for corner in _CORNERS},
}
_RELATION_TEMPLATES: dict[str, tuple[str, ...]] = {
    "left": (
        "the {} to the left of the {}",
        "the {} left of the {}",
        "the {} that is on the left side of the {}",
    ),
    "right": (
        "the {} to the right of the {}",
        "the {} right of the {}",
        "the {} that is on the right side of the {}",
    ),
    "top": ("the {} above the {}", "the {} that is above the {}"),
    "bottom": ("the {} below the {}", "the {} that is below the {}"),
    "near": ("the {} next to the {}", "the {} near the {}", "the {} that is close to the {}"),
    "behind": ("the {} behind the {}", "the {} that is partly hidden by the {}", "the {} covered by the {}"),
    "front": ("the {} in front of the {}", "the {} that is partly covering the {}"),
}


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _look_words(look: Look, rng: np.random.Generator) -> str:
    words = [_pick(_SIZES[look.size_name], rng)] if look.size_name else []
    words += [look.colour] if look.colour else []
    return " ".join([*words, _pick(_NOUNS[look.shape], rng)])


def sentence_of(description: Description, scene: Scene, style: str, rng: np.random.Generator) -> str:
    """Put an unambiguous description into words, lower case, one of several wordings."""
    words = _look_words(description.look, rng)
    if description.relation is not None:
        assert description.anchor is not None
        template = _pick(_RELATION_TEMPLATES[description.relation], rng)
        return template.format(words, _look_words(description.anchor, rng))
    if description.place is None:
        return words
    if style == "relation":
        return f"the {words} {_LONG_PLACES[description.place]}"
    plain, superlative = _PLACE_TEMPLATES[description.place]
    several = sum(description.look.fits(item) for item in scene.objects) > 1
    return _pick(plain + superlative if several else plain, rng).format(words)


def style_of(sentence: str, description: Description) -> str:
    """The style that a written sentence belongs to, one of STYLES."""
    if description.relation is not None or sentence.endswith("picture"):
        return "relation"
    return "appearance" if description.place is None else "location"


# ---------------------------------------------------------------- choice


def _true_looks(item: ShapeObject) -> list[Look]:
    return [
        Look(shape, colour, size)
        for shape in (item.shape, None)
        for colour in (None, item.colour)
        for size in (None, item.size_name)
    ]


def _minimal(looks: list[Look]) -> list[Look]:
    """Those that mention nothing superfluous."""
    return [a for a in looks if not any(b.mentioned < a.mentioned for b in looks)]


def _appearance(target: int, scene: Scene) -> Iterator[Description]:
    for look in _true_looks(scene.objects[target]):
        if look.colour or look.shape:
            yield Description(look)


def _location(target: int, scene: Scene) -> Iterator[Description]:
    for place in PLACES:
        for look in _true_looks(scene.objects[target]):
            yield Description(look, place=place)


def _relation(target: int, scene: Scene) -> Iterator[Description]:
    for anchor, item in enumerate(scene.objects):
        if anchor == target:
            continue
        named = [k for k in _true_looks(item) if k.shape and sum(k.fits(o) for o in scene.objects) == 1]
        for anchor_look in _minimal(named):
            for relation in RELATIONS:
                for look in _true_looks(scene.objects[target]):
                    if look.shape:
                        yield Description(look, relation=relation, anchor=anchor_look)


_CANDIDATES: dict[str, Callable[[int, Scene], Iterator[Description]]] = {
    "appearance": _appearance,
    "location": _location,
    "relation": _relation,
}


def is_unambiguous(description: Description, target: int, scene: Scene) -> bool:
    """Whether the description clearly fits `target` and nothing else comes close."""
    return all(found == {target} for found in denotation(description, scene))


def descriptions_of(target: int, scene: Scene, style: str) -> list[Description]:
    """All unambiguous descriptions of an object in a style; a long one falls back on places."""
    found = [d for d in _CANDIDATES[style](target, scene) if is_unambiguous(d, target, scene)]
    if not found and style == "relation":
        found = [d for d in _location(target, scene) if d.look.shape and is_unambiguous(d, target, scene)]
    return found


def _choose(found: list[Description], rng: np.random.Generator) -> Description:
    """Mostly one that names the shape and says no more than needed, as people do; sometimes another."""
    named = [d for d in found if d.look.shape]
    if named and rng.random() < 0.6:
        found = named
    groups: dict[tuple[str | None, str | None, Look | None], list[Description]] = {}
    for description in found:
        groups.setdefault((description.place, description.relation, description.anchor), []).append(
            description
        )
    group = list(groups.values())[int(rng.integers(len(groups)))]
    if rng.random() < 0.65:
        minimal = _minimal([d.look for d in group])
        group = [d for d in group if d.look in minimal]
    return group[int(rng.integers(len(group)))]


def write_sentences(target: int, scene: Scene, rng: np.random.Generator) -> list[tuple[str, Description]]:
    """Two or three different sentences for one object, mixed styles; fewer when it is hard to single out."""
    found = {style: descriptions_of(target, scene, style) for style in STYLES}
    share = np.array([p if found[s] else 0.0 for s, p in zip(STYLES, _STYLE_SHARE, strict=True)])
    if not share.any():
        return []
    wanted = int(rng.integers(2, 4))
    written: dict[str, Description] = {}
    for _ in range(4 * wanted):
        style = STYLES[int(rng.choice(len(STYLES), p=share / share.sum()))]
        description = _choose(found[style], rng)
        written.setdefault(sentence_of(description, scene, style, rng), description)
        if len(written) == wanted:
            break
    return list(written.items())


def choose_referents(
    scene: Scene, rng: np.random.Generator, shapes: Sequence[str] | None = None
) -> list[tuple[int, list[tuple[str, Description]]]]:
    """Two to four objects of the scene (of `shapes` only, when given) with their sentences; may be fewer."""
    able = [
        i
        for i, item in enumerate(scene.objects)
        if item.in_one_piece
        and item.visible_share >= MIN_REFERENT_VISIBLE
        and (shapes is None or item.shape in shapes)
    ]
    wanted = int(rng.integers(2, 5))
    chosen = []
    for i in rng.permutation(len(able))[:wanted]:
        sentences = write_sentences(able[int(i)], scene, rng)
        if len(sentences) >= 2:
            chosen.append((able[int(i)], sentences))
    return sorted(chosen, key=lambda pair: pair[0])
