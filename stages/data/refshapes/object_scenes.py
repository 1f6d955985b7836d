"""RefShapes, object scale: scenes of named objects of several parts, with light, shadow and clutter.

Here a contour is more than an edge of colour: objects have parts of several colours, some of them the ground's own;
shadows, shading and pieces of other objects make edges where no object ends. What is hidden so has to be known from
other objects of the kind. Random numbers, integers and sums of products only: the same bytes on every machine.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from stages.data.refshapes.kinds import HOLE, Kind, Part, kinds, kinds_of
from stages.data.refshapes.scenes import EXTENTS, Look, Placed, Scene, finish, lay_out
from stages.data.refshapes.shapes import COLOURS, SUPERSAMPLING, hsv_to_rgb, sample_colour

MAX_TILT = 0.35  # radians; objects stand upright, more or less
CAMOUFLAGED = 0.65  # share of the objects of which some is painted in the colours behind it
CLUTTER = (4, 9)  # pieces of objects that lie about, from and below
BAND = (0.25, 0.45)  # share of an object's extent that a band of another colour takes


@dataclass(frozen=True, eq=False)
class ObjectFigure:
    """A kind at a size and an angle. parts: rings in pixels, centred on the origin."""

    rotation: float
    parts: tuple[Part, ...]
    half_xy: np.ndarray

    def cover(self, centre_xy: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
        window = self._window(centre_xy, size_hw)
        return silhouette(self.covers(centre_xy, window)), (window[0], window[1])

    def covers(
        self, centre_xy: np.ndarray, window_xyxy: tuple[int, int, int, int]
    ) -> list[tuple[int, np.ndarray]]:
        """Tone and coverage (h, w) float32 of each part inside a window of the picture."""
        return [(part.tone, ring_coverage(part.rings, centre_xy, window_xyxy)) for part in self.parts]

    def _window(self, centre_xy: np.ndarray, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        low = np.maximum(np.floor(centre_xy - self.half_xy), 0).astype(int)
        high = np.minimum(np.ceil(centre_xy + self.half_xy), size_hw[::-1]).astype(int)
        return int(low[0]), int(low[1]), int(max(high[0], low[0])), int(max(high[1], low[1]))


def silhouette(covers: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """All parts together, without the holes: (h, w) float32."""
    alpha = np.zeros_like(covers[0][1])
    for tone, cover in covers:
        alpha = np.minimum(alpha, 1 - cover) if tone == HOLE else np.maximum(alpha, cover)
    return alpha


def ring_coverage(
    rings: tuple[np.ndarray, ...], centre_xy: np.ndarray, window_xyxy: tuple[int, int, int, int]
) -> np.ndarray:
    """Share of each pixel of a window that lies inside the rings (even-odd), (h, w) float32: filled finer, then counted."""
    x0, y0, x1, y1 = window_xyxy
    s = SUPERSAMPLING
    fine = np.zeros(((y1 - y0) * s, (x1 - x0) * s), np.uint8)
    if not fine.size:
        return np.zeros((y1 - y0, x1 - x0), np.float32)
    local = [np.round(((ring + centre_xy - (x0, y0)) * s - 0.5) * 16).astype(np.int32) for ring in rings]
    cv2.fillPoly(fine, local, 1, lineType=cv2.LINE_8, shift=4)
    # ones, at most s * s of them: slices added up in bytes take a tenth of the time of a sum over two axes
    rows = sum((fine[i::s] for i in range(1, s)), fine[0::s])
    count = sum((rows[:, j::s] for j in range(1, s)), rows[:, 0::s])
    return (count / np.float32(s * s)).astype(np.float32)


def figure_of(kind: Kind, extent: float, rotation: float) -> ObjectFigure:
    """The kind with the larger side of its turned box `extent` pixels long, its box centred on the origin."""
    # rounded: sine and cosine may differ in their last bit from machine to machine
    cos, sin = round(float(np.cos(rotation)), 6), round(float(np.sin(rotation)), 6)
    turned = [[_turn(ring, cos, sin) for ring in part.rings] for part in kind.parts]
    points = np.concatenate([ring for part in turned for ring in part])
    low, high = points.min(axis=0), points.max(axis=0)
    scale, middle = extent / float((high - low).max()), (low + high) / 2
    parts = tuple(
        Part(part.tone, tuple((ring - middle) * scale for ring in rings))
        for part, rings in zip(kind.parts, turned, strict=True)
    )
    return ObjectFigure(rotation, parts, (high - low) / 2 * scale)


def _turn(ring: np.ndarray, cos: float, sin: float) -> np.ndarray:
    x, y = ring[:, 0], ring[:, 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


def _sample_object(look: Look, size: int, rng: np.random.Generator) -> ObjectFigure:
    rotation = float(rng.uniform(-MAX_TILT, MAX_TILT))
    return figure_of(kinds()[look[0]], size * rng.uniform(*EXTENTS[look[2]]), rotation)


@lru_cache(maxsize=1)
def _frequent() -> tuple[str, ...]:
    """What an object is chosen from: things are fewer kinds than signs and come three times, to be as many objects."""
    return (*kinds_of("sign"), *kinds_of("thing") * 3)


# ---------------------------------------------------------------- painting


def _noise(size_hw: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in [-1, 1] of about `cells` bumps along a side, (H, W) float32."""
    coarse = rng.integers(0, 256, (cells + 1, cells + 1), dtype=np.uint8)
    smooth = cv2.resize(coarse, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR_EXACT)
    return smooth.astype(np.float32) / np.float32(127.5) - np.float32(1)


def _fractal(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Octaves of noise, (H, W) float32 within about [-1, 1]."""
    first, fall = int(rng.integers(2, 7)), np.float32(rng.uniform(0.45, 0.8))
    total, weight, share = np.zeros(size_hw, np.float32), np.float32(0), np.float32(1)
    for octave in range(4):
        total += share * _noise(size_hw, first * 2**octave, rng)
        weight, share = weight + share, share * fall
    return total / weight * np.float32(1.6)


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    """Of a thing that no sentence names: a shade of a named colour, or a tone of grey or brown."""
    if rng.random() < 0.6:
        names = list(COLOURS)
        return sample_colour(names[rng.integers(len(names))], rng)
    return hsv_to_rgb(rng.uniform(15.0, 45.0), rng.uniform(0.0, 0.5), rng.uniform(0.12, 0.98))


def _beyond(size_hw: tuple[int, int], share: float, rng: np.random.Generator) -> np.ndarray:
    """(h, w) bool, the part of a window on one side of a straight line: `share` of its extent along the line's normal."""
    normal = rng.integers(-8, 9, 2)
    if not normal.any():
        normal = np.array([1, 0])
    h, w = size_hw
    across = normal[0] * np.arange(w)[None, :] * h + normal[1] * np.arange(h)[:, None] * w
    low, high = int(across.min()), int(across.max())
    return np.asarray(across >= high - share * (high - low))


def _paint_ground(size: int, clutter: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32: three colours that run into each other, and pieces of objects that belong to none."""
    size_hw = (size, size)
    first, second, third = (  # less coloured than most objects, as light or dark as any
        hsv_to_rgb(rng.uniform(0.0, 360.0), rng.uniform(0.0, 0.65), rng.uniform(0.15, 0.98)) for _ in range(3)
    )
    a, b = (np.clip(_fractal(size_hw, rng) * 0.8 + 0.5, 0, 1)[..., None] for _ in range(2))
    canvas = first * a + second * (1 - a)
    canvas = canvas * b + third * (1 - b)
    names = list(kinds())
    for _ in range(int(rng.integers(*clutter))):
        kind = kinds()[names[rng.integers(len(names))]]
        figure = figure_of(kind, size * rng.uniform(0.15, 0.5), float(rng.uniform(0.0, 6.28)))
        alpha, (x, y) = figure.cover(rng.uniform(0, size, 2), size_hw)
        h, w = alpha.shape
        if not alpha.size:
            continue
        piece = alpha * _beyond((h, w), rng.uniform(0.3, 0.6), rng) * np.float32(rng.uniform(0.3, 0.9))
        colour = _any_colour(rng) * (1 + np.float32(0.25) * _noise((h, w), 3, rng)[..., None])
        canvas[y : y + h, x : x + w] += piece[..., None] * (colour - canvas[y : y + h, x : x + w])
    return np.ascontiguousarray(canvas, np.float32)


def _box_blurred(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 -> the mean of 5 x 5 pixels, float32; nothing lies beyond the border."""
    h, w = mask.shape
    wide = np.pad(mask.astype(np.int32), 2)
    rows = np.sum([wide[k : k + h] for k in range(5)], axis=0)
    total = np.sum([rows[:, k : k + w] for k in range(5)], axis=0)
    return np.asarray(total / np.float32(25), np.float32)


def _cast_shadow(canvas: np.ndarray, item: Placed, rng: np.random.Generator) -> None:
    """Darken what lies beside the object, in place."""
    alpha = np.zeros(canvas.shape[:2], np.uint8)
    x, y = item.corner_xy
    h, w = item.alpha.shape
    alpha[y : y + h, x : x + w] = (item.alpha * 255).astype(np.uint8)
    dx, dy = (int(v) for v in rng.integers(-6, 7, 2))
    moved = np.zeros_like(alpha)
    bottom, right = canvas.shape[:2]
    moved[max(dy, 0) : bottom + min(dy, 0), max(dx, 0) : right + min(dx, 0)] = alpha[
        max(-dy, 0) : bottom + min(-dy, 0), max(-dx, 0) : right + min(-dx, 0)
    ]
    soft = _box_blurred(moved) / np.float32(255)
    canvas *= 1 - np.float32(rng.uniform(0.1, 0.4)) * soft[..., None]


def _paint_object(canvas: np.ndarray, item: Placed, camouflaged: float, rng: np.random.Generator) -> None:
    """Blend an object into `canvas`, in place. The look's colour is that of most of it."""
    figure = item.figure
    assert isinstance(figure, ObjectFigure)
    x, y = item.corner_xy
    h, w = item.alpha.shape
    window = canvas[y : y + h, x : x + w]
    behind = window * np.float32(rng.uniform(0.94, 1.06))
    tones = [sample_colour(item.colour, rng), _any_colour(rng), _any_colour(rng)]
    look = np.zeros((h, w, 3), np.float32)
    look[:] = tones[0]
    for tone, cover in figure.covers(item.centre_xy, (x, y, x + w, y + h)):
        if tone > 0:
            look += cover[..., None] * (tones[tone] - look)
    one_tone = all(part.tone <= 0 for part in figure.parts)
    hides = rng.random() < camouflaged
    if hides or one_tone:
        band = _beyond((h, w), rng.uniform(*BAND), rng)
        look[band] = behind[band] if hides else tones[1]
    light = 1 + np.float32(rng.uniform(0.1, 0.35)) * _noise((h, w), 1, rng)
    light += np.float32(rng.uniform(0.03, 0.12)) * _noise((h, w), int(rng.integers(3, 12)), rng)
    if hides:
        light[band] = 1
    window += item.alpha[..., None] * (look * light[..., None] - window)


def generate_object_scene(
    rng: np.random.Generator,
    size: int = 160,
    *,
    favoured_shapes: tuple[str, ...] | None = None,
    known: tuple[str, ...] | None = None,
    camouflaged: float = CAMOUFLAGED,
    clutter: tuple[int, int] = CLUTTER,
) -> Scene:
    """One scene of `size` x `size` pixels; arguments and result as of `scenes.generate_scene`.

    known: kinds to choose from; None = all.
    """
    placed = lay_out(rng, size, known or _frequent(), favoured_shapes, _sample_object, twins_touch=True)
    canvas = _paint_ground(size, clutter, rng)
    for item in placed:
        if rng.random() < 0.7:
            _cast_shadow(canvas, item, rng)
        _paint_object(canvas, item, camouflaged, rng)
    light = np.float32(rng.uniform(0.8, 1.15)) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    canvas *= light * (1 + np.float32(rng.uniform(0.0, 0.3)) * _noise((size, size), 1, rng)[..., None])
    reach = int(rng.integers(2, 10))
    canvas += rng.integers(-reach, reach + 1, (size, size, 1)).astype(np.float32)
    image = np.clip(canvas, 0.0, 255.0).astype(np.uint8)
    return Scene(image, tuple(finish(item, i, placed) for i, item in enumerate(placed)))
