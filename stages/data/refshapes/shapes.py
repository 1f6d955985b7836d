"""RefShapes, part 1: outlines, colours, ground textures and the anti-aliased painting of one shape.

Lengths are pixels, coordinates xy with the origin at the outer corner of the top-left pixel, colours RGB.
Every function takes its randomness from the generator it is given: the same generator, the same pixels.
"""

from collections.abc import Callable

import cv2
import numpy as np

SUPERSAMPLING = 4  # outlines are filled on a grid this many times finer, then averaged: exact edge coverage

CURVED_SHAPES = ("moon", "heart", "blob", "s")  # referents of testA
ANGULAR_SHAPES = ("star", "cross", "arrow", "l")  # referents of testB
SHAPES = (*ANGULAR_SHAPES, *CURVED_SHAPES)

# name -> hue (degrees), saturation, value; far enough apart to be named after the jitter of `sample_colour`
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (356.0, 0.85, 0.80),
    "orange": (27.0, 0.90, 0.96),
    "yellow": (54.0, 0.85, 0.97),
    "green": (125.0, 0.75, 0.62),
    "cyan": (181.0, 0.70, 0.90),
    "blue": (222.0, 0.82, 0.82),
    "purple": (276.0, 0.70, 0.62),
    "pink": (332.0, 0.42, 0.98),
}


def _arc(centre: tuple[float, float], radius: float, start: float, stop: float, steps: int) -> np.ndarray:
    """Points (steps, 2) on a circle, angles in degrees."""
    angle = np.radians(np.linspace(start, stop, steps))
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def _star(rng: np.random.Generator) -> np.ndarray:
    inner = rng.uniform(0.42, 0.52)
    radius = np.where(np.arange(10) % 2 == 0, 1.0, inner)
    angle = np.radians(np.arange(10) * 36.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cross(rng: np.random.Generator) -> np.ndarray:
    w = rng.uniform(0.24, 0.34)
    quarter = [(w, -w), (1.0, -w), (1.0, w)]
    points = []
    for _ in range(4):
        points += quarter
        quarter = [(-y, x) for x, y in quarter]
    return np.array(points)


def _arrow(rng: np.random.Generator) -> np.ndarray:
    shaft, head, neck = rng.uniform(0.17, 0.24), rng.uniform(0.54, 0.68), rng.uniform(-0.05, 0.15)
    return np.array(
        [(-1, -shaft), (neck, -shaft), (neck, -head), (1, 0), (neck, head), (neck, shaft), (-1, shaft)],
        dtype=float,
    )


def _letter_l(rng: np.random.Generator) -> np.ndarray:
    foot, w = rng.uniform(0.64, 0.82), rng.uniform(0.28, 0.36)
    return np.array(
        [(0, 0), (2 * w, 0), (2 * w, 2 - 2 * w), (2 * foot, 2 - 2 * w), (2 * foot, 2), (0, 2)]
    ) - (foot, 1)


def _letter_s(rng: np.random.Generator) -> np.ndarray:
    """A thick stroke along two arcs: out along one side of the centre line and back along the other."""
    radius, half, sweep = 0.5, rng.uniform(0.23, 0.28), rng.uniform(190.0, 215.0)
    top, bottom = (0.0, -radius), (0.0, radius)
    # The outer side of the upper bow continues as the inner side of the lower one, and the other way round.
    one_side = [
        _arc(top, radius + half, 90.0 + sweep, 90.0, 24),
        _arc(bottom, radius - half, -90.0, sweep - 90.0, 24),
    ]
    other_side = [
        _arc(bottom, radius + half, sweep - 90.0, -90.0, 24),
        _arc(top, radius - half, 90.0, 90.0 + sweep, 24),
    ]
    return np.concatenate(one_side + other_side)


def _moon(rng: np.random.Generator) -> np.ndarray:
    offset, inner = rng.uniform(0.58, 0.72), rng.uniform(0.78, 0.88)
    # Both circles meet where x solves x^2 + y^2 = 1 and (x - offset)^2 + y^2 = inner^2.
    x = (1.0 + offset * offset - inner * inner) / (2 * offset)
    tip_outer = np.degrees(np.arctan2(np.sqrt(1.0 - x * x), x))
    tip_inner = np.degrees(np.arctan2(np.sqrt(1.0 - x * x), x - offset))
    outer = _arc((0.0, 0.0), 1.0, tip_outer, 360.0 - tip_outer, 40)
    hollow = _arc((offset, 0.0), inner, 360.0 - tip_inner, tip_inner, 30)
    return np.concatenate([outer, hollow])


def _heart(rng: np.random.Generator) -> np.ndarray:
    t = np.radians(np.arange(0.0, 360.0, 6.0))
    x = 16.0 * np.sin(t) ** 3
    y = 13.0 * np.cos(t) - 5.0 * np.cos(2 * t) - 2.0 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x * rng.uniform(0.90, 1.05), -y], axis=1) / 17.0


def _blob(rng: np.random.Generator) -> np.ndarray:
    """A closed wave round a circle: lobes of unequal depth, never crossing itself."""
    t = np.radians(np.arange(0.0, 360.0, 5.0))
    radius = np.ones_like(t)
    for waves, low, high in ((2, 0.10, 0.30), (3, 0.22, 0.36), (5, 0.04, 0.12)):
        radius += rng.uniform(low, high) * np.cos(waves * t + rng.uniform(0.0, 2 * np.pi))
    radius = np.maximum(radius, 0.3)
    return np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1)


_OUTLINES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "star": _star,
    "cross": _cross,
    "arrow": _arrow,
    "l": _letter_l,
    "moon": _moon,
    "heart": _heart,
    "blob": _blob,
    "s": _letter_s,
}


def sample_outline(shape: str, extent: float, rotation: float, rng: np.random.Generator) -> np.ndarray:
    """One outline of `shape`, turned by `rotation` radians, the larger side of its box `extent` pixels.

    Returns (M, 2) float64 xy points whose box is centred on the origin.
    """
    cos, sin = np.cos(rotation), np.sin(rotation)
    points = _OUTLINES[shape](rng) @ np.array([[cos, sin], [-sin, cos]])
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - (low + high) / 2) * (extent / float((high - low).max()))


def coverage(points_xy: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Area share of each pixel inside the outline: (h, w) float32 in [0, 1] and the window's (x, y) corner.

    The window is the outline's box cut at the image border; it is empty when the outline lies outside.
    """
    height, width = size_hw
    x0, y0 = np.maximum(np.floor(points_xy.min(axis=0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(points_xy.max(axis=0)), (width, height)).astype(int)
    if x1 <= x0 or y1 <= y0:
        return np.zeros((0, 0), np.float32), (int(x0), int(y0))
    fine = np.zeros(((y1 - y0) * SUPERSAMPLING, (x1 - x0) * SUPERSAMPLING), np.uint8)
    # fillPoly's grid points are pixel centres, ours are pixel corners: shift by half a fine pixel.
    local = (points_xy - (x0, y0)) * SUPERSAMPLING - 0.5
    cv2.fillPoly(fine, [np.round(local * 16).astype(np.int32)], 255, lineType=cv2.LINE_8, shift=4)
    alpha = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return alpha.astype(np.float32) / 255.0, (int(x0), int(y0))


def hsv_to_rgb(hue_degrees: float, saturation: float, value: float) -> np.ndarray:
    """(3,) float32 RGB in 0..255."""
    sector = (hue_degrees % 360.0) / 60.0
    low, step = value * (1 - saturation), value * saturation
    ramp = np.abs((sector + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0
    return ((low + step * np.clip(ramp, 0.0, 1.0)) * 255.0).astype(np.float32)


def sample_colour(name: str, rng: np.random.Generator) -> np.ndarray:
    """One shade of the named colour, (3,) float32 RGB."""
    hue, saturation, value = COLOURS[name]
    saturation = float(np.clip(saturation + rng.uniform(-0.08, 0.08), 0.0, 1.0))
    return hsv_to_rgb(hue + rng.uniform(-6.0, 6.0), saturation, min(1.0, value * rng.uniform(0.88, 1.06)))


def _ramp(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A linear ramp from about -1 to 1 in a random direction, (H, W) float32."""
    angle = rng.uniform(0.0, 2 * np.pi)
    y = np.linspace(-1.0, 1.0, size_hw[0], dtype=np.float32)[:, None]
    x = np.linspace(-1.0, 1.0, size_hw[1], dtype=np.float32)[None, :]
    return np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y


def _stripes(size_hw: tuple[int, int], period: float, rng: np.random.Generator) -> np.ndarray:
    """Soft stripes of a random direction, values in [-1, 1], (H, W) float32; `period` in pixels."""
    angle = rng.uniform(0.0, np.pi)
    y = np.arange(size_hw[0], dtype=np.float32)[:, None]
    x = np.arange(size_hw[1], dtype=np.float32)[None, :]
    wave = np.float32(2 * np.pi / period)
    return np.sin(wave * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y + np.float32(period)))


def _clouds(size_hw: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about `cells` bumps along a side, (H, W) float32, roughly unit variance."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC)


def paint_ground(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A textured, muted ground with faint clutter, (H, W, 3) float32 RGB.

    Its saturation stays below that of any shape, so a shape can be seen, while its brightness varies
    across the whole range of the shapes, so no threshold cuts them out.
    """
    hue, saturation = rng.uniform(0.0, 360.0), rng.uniform(0.04, 0.30)
    first = hsv_to_rgb(hue, saturation, rng.uniform(0.30, 0.85))
    second = hsv_to_rgb(hue + rng.uniform(-60.0, 60.0), saturation, rng.uniform(0.30, 0.85))
    blend = 0.5 + 0.35 * _ramp(size_hw, rng)
    texture = rng.integers(0, 3)
    if texture == 0:
        blend += 0.25 * _stripes(size_hw, rng.uniform(8.0, 36.0), rng)
    elif texture == 1:
        blend += 0.25 * _clouds(size_hw, int(rng.integers(5, 24)), rng)
    else:
        checks = _stripes(size_hw, rng.uniform(14.0, 40.0), rng) * _stripes(
            size_hw, rng.uniform(14.0, 40.0), rng
        )
        blend += 0.25 * np.sign(checks)
    blend = np.clip(blend, 0.0, 1.0)[..., None]
    ground = np.ascontiguousarray(first * blend + second * (1 - blend), dtype=np.float32)
    _scatter_clutter(ground, rng)
    grain = rng.standard_normal(size_hw, dtype=np.float32) * np.float32(rng.uniform(2.0, 9.0))
    return ground + grain[..., None]


def _scatter_clutter(ground: np.ndarray, rng: np.random.Generator) -> None:
    """Thin lines and rings in muted tones, drawn in place: edges that belong to no object."""
    side = ground.shape[0]
    for _ in range(int(rng.integers(2, 7))):
        tone = hsv_to_rgb(rng.uniform(0.0, 360.0), rng.uniform(0.0, 0.25), rng.uniform(0.25, 0.90)).tolist()
        x, y, u, v = (int(value) for value in rng.integers(0, side, 4))
        if rng.random() < 0.5:
            cv2.line(ground, (x, y), (u, v), tone, int(rng.integers(1, 3)), cv2.LINE_AA)
        else:
            cv2.circle(ground, (x, y), int(rng.integers(side // 32, side // 8)), tone, 1, cv2.LINE_AA)


def paint_shape(
    canvas: np.ndarray,
    alpha: np.ndarray,
    corner_xy: tuple[int, int],
    rgb: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Blend one shape into `canvas` (H, W, 3) float32, in place, with light shading and a mild texture."""
    h, w = alpha.shape
    shading = 1.0 + np.float32(rng.uniform(0.05, 0.16)) * _ramp((h, w), rng)
    texture = rng.integers(0, 3)
    if texture == 0:
        shading += np.float32(rng.uniform(0.04, 0.10)) * _stripes((h, w), rng.uniform(5.0, 14.0), rng)
    elif texture == 1:
        shading += np.float32(rng.uniform(0.03, 0.07)) * _clouds((h, w), int(rng.integers(4, 12)), rng)
    x, y = corner_xy
    window = canvas[y : y + h, x : x + w]
    window += alpha[..., None] * (rgb * shading[..., None] - window)
