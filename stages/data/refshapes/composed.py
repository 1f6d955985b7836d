"""Objects of several parts, for the object scale: a cottage, a mushroom, a robot … (objects.toml)."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stages.data.refshapes.glyphs import object_tables

Ring = NDArray[np.float64]
HOLE = -1


def _box(x0: float, y0: float, x1: float, y1: float) -> Ring:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _disk(
    x: float, y: float, rx: float, ry: float | None = None, start: float = 0, stop: float = 360
) -> Ring:
    """Angles in degrees, from the right, clockwise."""
    ry = rx if ry is None else ry
    steps = [math.radians(a) for a in range(int(start), int(stop) + (stop - start < 360), 12)]
    return np.array([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in steps])


def _poly(*values: float) -> Ring:
    return np.array(values, np.float64).reshape(-1, 2)


_RINGS: dict[str, Callable[..., Ring]] = {"box": _box, "disk": _disk, "poly": _poly}


def composed() -> dict[str, list[tuple[int, tuple[Ring, ...]]]]:
    """Name -> (tone, rings) of each part, in painting order; the table is in objects.toml."""
    return {name: [_part(text) for text in parts] for name, parts in object_tables()["composed"].items()}


def _part(text: str) -> tuple[int, tuple[Ring, ...]]:
    """ "0: disk 0.5 0.3 0.13; box 0 0 1 1" """
    tone, _, rings = text.partition(":")
    made = []
    for ring in rings.split(";"):
        kind, *numbers = ring.split()
        made.append(_RINGS[kind](*map(float, numbers)))
    return HOLE if tone == "hole" else int(tone), tuple(made)
