"""RefShapes, part 3: descriptions, and which object of a scene they fit.

A *description* says how an object looks, perhaps where it is, perhaps how it stands to another object.
`SceneReading.denotation` decides what it fits. Distances are pixels between box centres; clear margins grow
with the image (12 px at a side of 160).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.data.refshapes_scenes import Scene, ShapeObject

MARGIN = 0.075  # of the side: differences below this are not put into words
_COVERED = 0.04  # share of a shape that must be hidden before "behind" is said
_MIDDLE = 0.20  # of the side: farther from the image's centre is not "in the middle"
_NEAR = 0.42  # of the side: farther apart is not "next to"

DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
CORNERS = {f"{v} {h}": (h, v) for v in ("top", "bottom") for h in ("left", "right")}
PLACES = (*DIRECTIONS, *CORNERS, "middle")
RELATIONS = (*DIRECTIONS, "near", "behind", "front")

Fit = tuple[frozenset[int], frozenset[int]]
_NOTHING: frozenset[int] = frozenset()


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


class SceneReading:
    """What descriptions mean in one scene; answers are kept, since most looks fit the same few objects."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._centres = [item.centre_xy for item in scene.objects]
        self._looks: dict[Look, frozenset[int]] = {}
        self._fits: dict[tuple[str, frozenset[int], int], Fit] = {}

    def fitting(self, look: Look) -> frozenset[int]:
        """Indices into `scene.objects` of everything that looks like this."""
        if look not in self._looks:
            self._looks[look] = frozenset(i for i, item in enumerate(self.scene.objects) if look.fits(item))
        return self._looks[look]

    def denotation(self, description: Description) -> Fit:
        """(objects that clearly fit, objects that could be meant); indices into `scene.objects`.

        A description is unambiguous when both hold the same single object.
        """
        likely = self.fitting(description.look)
        if description.place is not None:
            return self._kept(f"at {description.place}", likely, -1)
        if description.relation is None:
            return likely, likely
        assert description.anchor is not None
        anchors = self.fitting(description.anchor)
        if len(anchors) != 1:
            return _NOTHING, likely
        (anchor,) = anchors
        return self._kept(description.relation, likely - anchors, anchor)

    def singles_out(self, description: Description, target: int) -> bool:
        """Whether the description clearly fits `target` and nothing else comes close."""
        return all(found == {target} for found in self.denotation(description))

    def _kept(self, what: str, likely: frozenset[int], anchor: int) -> Fit:
        key = (what, likely, anchor)
        if key not in self._fits:
            place = what.removeprefix("at ")
            answer = self._in_place(place, likely) if anchor < 0 else self._related(what, likely, anchor)
            self._fits[key] = answer
        return self._fits[key]

    def _in_place(self, place: str, likely: frozenset[int]) -> Fit:
        size = self.scene.size
        margin, centre = MARGIN * size, (size / 2, size / 2)
        if place in CORNERS:
            depth = {
                i: min(_along(self._centres[i], centre, side) for side in CORNERS[place]) for i in likely
            }
            clear = frozenset(i for i in likely if depth[i] > margin / 2)
            return clear, frozenset(i for i in likely if depth[i] > -margin / 2)
        if place == "middle":
            away = {i: math.dist(self._centres[i], centre) for i in likely}
            nearest = _winner({i: -d for i, d in away.items()}, margin)
            return frozenset(i for i in nearest if away[i] < _MIDDLE * size), nearest or likely
        along = {i: _along(self._centres[i], centre, place) for i in likely}
        if len(likely) == 1:  # then the word compares with nothing: it must be true of the image itself
            return frozenset(i for i in likely if along[i] > margin), likely
        first = _winner(along, margin)
        return first, first or likely

    def _related(self, relation: str, likely: frozenset[int], anchor: int) -> Fit:
        size, origin = self.scene.size, self._centres[anchor]
        margin = MARGIN * size
        away = {i: math.dist(self._centres[i], origin) for i in likely}
        if relation in DIRECTIONS:
            along = {i: _along(self._centres[i], origin, relation) for i in likely}
            aside = {i: math.sqrt(max(away[i] ** 2 - along[i] ** 2, 0.0)) for i in likely}
            clear = frozenset(i for i in likely if along[i] > max(margin, 0.8 * aside[i]))
            return clear, frozenset(i for i in likely if along[i] > 0)
        if relation == "near":
            nearest = _winner({i: -d for i, d in away.items()}, margin)
            if len(likely) > 1 and nearest:
                ranked = sorted(away.values())
                nearest = nearest if ranked[1] > 1.3 * ranked[0] else _NOTHING
            return frozenset(i for i in nearest if away[i] < _NEAR * size), nearest or likely
        pairs = {i: (i, anchor) if relation == "behind" else (anchor, i) for i in likely}
        hidden = {i: hidden_share(self.scene.objects, *pair) for i, pair in pairs.items()}
        clear = frozenset(i for i in likely if hidden[i] > _COVERED)
        return clear, frozenset(i for i in likely if hidden[i] > 0)


def _along(point: tuple[float, float], origin: tuple[float, float], direction: str) -> float:
    dx, dy = DIRECTIONS[direction]
    return dx * (point[0] - origin[0]) + dy * (point[1] - origin[1])


def _winner(score: dict[int, float], margin: float) -> frozenset[int]:
    """The object with the highest score when it leads by more than `margin`, else nothing."""
    ranked = sorted(score, key=lambda i: -score[i])
    if not ranked or (len(ranked) > 1 and score[ranked[0]] - score[ranked[1]] <= margin):
        return _NOTHING
    return frozenset(ranked[:1])


def hidden_share(objects: Sequence[ShapeObject], lower: int, upper: int) -> float:
    """Share of the pixels of `lower` that `upper` hides."""
    if upper not in objects[lower].covered_by:
        return 0.0
    full = objects[lower].full_mask
    return float(np.count_nonzero(full & objects[upper].full_mask) / np.count_nonzero(full))
