"""RefShapes, part 2: scenes of three to five partly occluded shapes on textured ground.

How objects are laid out (`lay_out`) does not depend on what is drawn: the object scale uses it too.

Coordinates xy, pixels, origin at the outer corner of the top-left pixel; boxes xyxy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import cv2
import numpy as np

from stages.data.refshapes.shapes import (
    COLOURS,
    SHAPES,
    coverage,
    paint_ground,
    paint_shape,
    sample_colour,
    sample_outline,
)

# Larger side of the whole shape's box, as a share of the image side: the two ranges never meet.
EXTENTS: dict[str, tuple[float, float]] = {"small": (0.30, 0.37), "large": (0.49, 0.62)}

MIN_VISIBLE = 0.62  # each shape keeps at least this share of its pixels
MIN_CONNECTED = 0.95  # the largest piece of a referent's visible mask holds at least this share of it
MIN_CENTRE_DISTANCE = 0.20  # of the side, so that no shape sits in the middle of another
PLACEMENT_TRIES = 14


@dataclass(frozen=True, eq=False)
class ShapeObject:
    """One shape of a scene, in painting order (later objects lie on top)."""

    shape: str
    colour: str
    size_name: str  # "small" or "large"
    rotation: float  # radians
    full_mask: np.ndarray  # (H, W) bool, as if nothing covered it
    mask: np.ndarray  # (H, W) bool, visible pixels only
    box_xyxy: np.ndarray  # (4,) float64, box of the visible pixels
    visible_share: float  # visible pixels / all its pixels inside the image
    in_one_piece: bool  # whether the largest connected piece holds MIN_CONNECTED of `mask`
    covered_by: tuple[int, ...]  # indices of the objects that hide some of it

    @cached_property
    def centre_xy(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box_xyxy
        return float(x0 + x1) / 2, float(y0 + y1) / 2


@dataclass(frozen=True, eq=False)
class Scene:
    image: np.ndarray  # (H, W, 3) uint8 RGB
    objects: tuple[ShapeObject, ...]

    @property
    def size(self) -> int:
        return int(self.image.shape[0])

    @cached_property
    def centres(self) -> np.ndarray:
        """(N, 2) float64 centres of the visible boxes, xy, as shares of the side."""
        return np.array([item.centre_xy for item in self.objects]) / self.size


Look = tuple[str, str, str]  # shape, colour, size


class Figure(Protocol):
    """What is to be placed: an object of some look, turned, without a place yet."""

    @property
    def rotation(self) -> float:
        """Radians."""
        ...

    @property
    def half_xy(self) -> np.ndarray:
        """(2,) half its box, which is centred on the origin."""
        ...

    def cover(self, centre_xy: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
        """As `shapes.coverage`, at its place."""
        ...


@dataclass(frozen=True)
class _Outline:
    """A shape as one ring of points (M, 2)."""

    rotation: float
    points_xy: np.ndarray

    @property
    def half_xy(self) -> np.ndarray:
        return np.asarray(self.points_xy.max(axis=0))

    def cover(self, centre_xy: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
        return coverage(self.points_xy + centre_xy, size_hw)


@dataclass
class Placed:
    """An object while its scene is being laid out."""

    shape: str
    colour: str
    size_name: str
    figure: Figure
    alpha: np.ndarray
    corner_xy: tuple[int, int]
    centre_xy: np.ndarray
    full_mask: np.ndarray
    visible: np.ndarray
    n_full: int


def _sample_shape(look: Look, size: int, rng: np.random.Generator) -> _Outline:
    rotation = rng.uniform(0.0, 2 * np.pi)
    return _Outline(rotation, sample_outline(look[0], size * rng.uniform(*EXTENTS[look[2]]), rotation, rng))


def _choose_look(placed: list[Placed], shapes: tuple[str, ...], rng: np.random.Generator) -> Look:
    """Shape, colour and size of the next object; half the time it shares one of them with an earlier object.

    Sharing is what makes a description necessary: with five unlike shapes the shape's name says it all.
    """
    shape = shapes[rng.integers(len(shapes))]
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    size_name = "large" if rng.random() < 0.55 else "small"
    if placed and rng.random() < 0.55:
        twin = placed[rng.integers(len(placed))]
        if rng.random() < 0.5:
            colour = twin.colour
        elif twin.shape in shapes:
            shape = twin.shape
    return shape, colour, size_name


def _merges(colour: str, solid: np.ndarray, window: tuple[slice, slice], placed: list[Placed]) -> bool:
    """Whether the new shape would touch one of its own colour: their common outline could not be seen."""
    twins = [other for other in placed if other.colour == colour]
    if not twins:
        return False
    near = cv2.dilate(solid.view(np.uint8), np.ones((7, 7), np.uint8)).view(bool)
    return any(bool((other.full_mask[window] & near).any()) for other in twins)


def _try_place(
    look: Look,
    placed: list[Placed],
    size: int,
    rng: np.random.Generator,
    sample: Callable[[Look, int, np.random.Generator], Figure],
    twins_touch: bool,
) -> Placed | None:
    """Put one shape on top of the others where nothing ends up too hidden; None when no try fits."""
    shape, colour, size_name = look
    for _ in range(PLACEMENT_TRIES):
        figure = sample(look, size, rng)
        half = figure.half_xy
        slack = 0.04 * size  # a shape may run over the border by this much
        centre = rng.uniform(half - slack, size - half + slack)
        if any(np.hypot(*(centre - other.centre_xy)) < MIN_CENTRE_DISTANCE * size for other in placed):
            continue
        alpha, corner = figure.cover(centre, (size, size))
        x, y = corner
        solid = alpha >= 0.5
        window = (slice(y, y + solid.shape[0]), slice(x, x + solid.shape[1]))
        hidden = [int(np.count_nonzero(other.visible[window] & solid)) for other in placed]
        kept = [
            np.count_nonzero(other.visible) - lost >= MIN_VISIBLE * other.n_full
            for other, lost in zip(placed, hidden, strict=True)
        ]
        if not all(kept) or (not twins_touch and _merges(colour, solid, window, placed)):
            continue
        for other, lost in zip(placed, hidden, strict=True):
            if lost:
                other.visible[window] &= ~solid
        full = np.zeros((size, size), bool)
        full[window] = solid
        n_full = int(np.count_nonzero(solid))
        return Placed(shape, colour, size_name, figure, alpha, corner, centre, full, full.copy(), n_full)
    return None


def finish(item: Placed, index: int, placed: list[Placed]) -> ShapeObject:
    rows, columns = np.flatnonzero(item.visible.any(axis=1)), np.flatnonzero(item.visible.any(axis=0))
    window = item.visible[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    _, _, stats, _ = cv2.connectedComponentsWithStats(window.view(np.uint8), connectivity=4)
    n_visible = int(np.count_nonzero(window))
    return ShapeObject(
        shape=item.shape,
        colour=item.colour,
        size_name=item.size_name,
        rotation=item.figure.rotation,
        full_mask=item.full_mask,
        mask=item.visible,
        box_xyxy=np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64),
        visible_share=n_visible / item.n_full,
        in_one_piece=bool(stats[1:, cv2.CC_STAT_AREA].max() >= MIN_CONNECTED * n_visible),
        covered_by=tuple(
            later
            for later in range(index + 1, len(placed))
            if bool((placed[later].full_mask & item.full_mask).any())
        ),
    )


def lay_out(
    rng: np.random.Generator,
    size: int,
    known: tuple[str, ...],
    favoured: tuple[str, ...] | None,
    sample: Callable[[Look, int, np.random.Generator], Figure] = _sample_shape,
    twins_touch: bool = False,
) -> list[Placed]:
    """Three to five objects in painting order, each on top of those before it.

    Args:
        known: kinds to choose from. favoured: when given, the kinds of the first two objects and of half of the others
            (testA and testB need scenes with enough referents of one family).
        twins_touch: whether objects of one colour may touch.
    """
    placed: list[Placed] = []
    wanted = int(rng.integers(3, 6))
    failures = 0
    while len(placed) < wanted and failures < 6:
        favour = favoured is not None and (len(placed) < 2 or rng.random() < 0.5)
        shapes = favoured if favour and favoured is not None else known
        item = _try_place(_choose_look(placed, shapes, rng), placed, size, rng, sample, twins_touch)
        if item is not None:
            placed.append(item)
            continue
        failures += 1
        if failures == 6 and len(placed) < 3:  # an unlucky layout: begin again rather than show two shapes
            placed, failures = [], 0
    return placed


def generate_scene(
    rng: np.random.Generator, size: int = 160, *, favoured_shapes: tuple[str, ...] | None = None
) -> Scene:
    """One scene of `size` x `size` pixels; `favoured_shapes` as in `lay_out`."""
    placed = lay_out(rng, size, SHAPES, favoured_shapes)
    canvas = paint_ground((size, size), rng)
    for item in placed:
        paint_shape(canvas, item.alpha, item.corner_xy, sample_colour(item.colour, rng), rng)
    light = np.float32(rng.uniform(0.90, 1.08)) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    image = np.clip(canvas * light, 0.0, 255.0).astype(np.uint8)
    return Scene(image, tuple(finish(item, i, placed) for i, item in enumerate(placed)))
