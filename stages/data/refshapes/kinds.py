"""The kinds of objects of the object scale: characters of a font, and things composed of several parts.

Coordinates xy, y down; every kind fills a box whose larger side is 1, centred on the origin.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from stages.data.refshapes.composed import HOLE, Ring, composed
from stages.data.refshapes.glyphs import (
    card_characters,
    object_tables,
    outlines,
    plain_name,
    solid_characters,
)

__all__ = ["HOLE", "Kind", "Part", "everyday", "kinds", "kinds_of"]

Family = Literal["sign", "thing"]


@dataclass(frozen=True, eq=False)
class Part:
    """Rings (M, 2) filled by the even-odd rule. tone: 0 the object's own colour, 1 and 2 others, HOLE cut out."""

    tone: int
    rings: tuple[Ring, ...]


@dataclass(frozen=True, eq=False)
class Kind:
    """family: "thing" for composed objects and drawn characters (faces, cards …), "sign" for letters and symbols."""

    name: str
    family: Family
    parts: tuple[Part, ...]


@lru_cache(maxsize=1)
def kinds() -> dict[str, Kind]:
    """All kinds by name, in a fixed order."""
    made: dict[str, Kind] = {}
    for code in solid_characters():
        _add(made, plain_name(code), "sign", [(0, tuple(outlines(code)))])
    for code in card_characters():
        rings = tuple(outlines(code))
        # one part a ring: the silhouette is their union
        _add(made, plain_name(code), "thing", [*((0, (ring,)) for ring in rings), (1, rings)])
    for name, parts in composed().items():
        _add(made, name, "thing", parts)
    return made


def kinds_of(family: Family) -> tuple[str, ...]:
    return tuple(name for name, kind in kinds().items() if kind.family == family)


def everyday(shown: Literal["kinds", "demo"] = "kinds") -> tuple[str, ...]:
    """Kinds that anyone names at sight; demo: the fewer of them that the demo shows."""
    return tuple(object_tables()["everyday"][shown])


def _add(made: dict[str, Kind], name: str, family: Family, parts: list[tuple[int, tuple[Ring, ...]]]) -> None:
    assert name not in made, f"two kinds are called {name!r}"
    points = np.concatenate([ring for _, rings in parts for ring in rings])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = float((high - low).max())
    unit = (Part(tone, tuple((ring - (low + high) / 2) / scale for ring in rings)) for tone, rings in parts)
    made[name] = Kind(name, family, tuple(unit))
