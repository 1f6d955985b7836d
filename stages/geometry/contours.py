"""Masks -> contours along the pixel edges (METHOD.md sections 2 and 3, RPP).

cv2 walks through pixel *centres*, which makes every object half a pixel too small on each side. Here the
contour joins the midpoints of the outer pixel edges, in the order in which the walk meets them: straight
and diagonal borders have their true length and the enclosed area differs from the pixel count by half a
pixel in all.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Directions in 45-degree steps, counter-clockwise on the screen (the sense of cv2's outer contours), as
# (dx, dy).
_STEPS = np.array([(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)])
_UP = 2
SLOTS = 5  # a pixel has at most four outer edges, then comes the first edge of the next pixel
_SINGLE_PIXEL = 81


def largest_pixel_chain(mask: NDArray[Any]) -> NDArray[np.int32]:
    """Pixels (M, 2) xy of the outer border of the largest part (8-connected, holes filled), as cv2 walks
    them.

    Counter-clockwise on the screen, from the top-most (then left-most) pixel; (0, 2) for an empty mask.
    "Largest" counts enclosed pixels (Pick's theorem on the chain), so that one-pixel lines have a size,
    too.
    """
    pixels = np.asarray(mask, dtype=bool)
    if pixels.size == 0:
        return np.zeros((0, 2), dtype=np.int32)
    # argmax passes over the rows above the object ten times faster than cv2
    top = int(pixels.argmax()) // pixels.shape[1]
    chains, _ = cv2.findContours(
        pixels[top:].view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(0, top)
    )
    if len(chains) == 0:
        return np.zeros((0, 2), dtype=np.int32)
    chain = chains[0] if len(chains) == 1 else max(chains, key=lambda c: cv2.contourArea(c) + len(c) / 2)
    return np.asarray(chain, dtype=np.int32).reshape(-1, 2)


def largest_outer_contour(mask: NDArray[Any]) -> NDArray[np.float32]:
    """Contour of the largest part of a mask (H, W): points_xy (M, 2) float32 in outer-corner coordinates.

    Clockwise on the screen, from the top-most (then left-most) pixel edge; holes are ignored; (0, 2) for an
    empty mask.
    """
    chain = largest_pixel_chain(mask)
    if len(chain) == 0:
        return np.zeros((0, 2), dtype=np.float32)
    pair = chain_turns(chain)
    met = np.arange(SLOTS) < TURNS.edges[pair][:, None]
    points = (chain[:, None] + TURNS.midpoints[pair])[met].astype(np.float32)
    first = int(TURNS.upper_edge[pair[0]])
    return np.roll(points, -first - 1, axis=0)[::-1].copy()


def chain_turns(chain: NDArray[np.int32]) -> NDArray[np.intp]:
    """Pixel chain (M, 2) -> (M,) row of `TURNS` for each pixel: the step into it and the step out of it."""
    if len(chain) == 1:
        return np.array([_SINGLE_PIXEL], dtype=np.intp)
    flat = chain[:, 0] + 3 * chain[:, 1]
    # dx + 3 dy, one number in [-4, 4] for each of the eight steps
    step = np.empty(len(chain) + 1, dtype=np.intp)
    np.subtract(flat[1:], flat[:-1], out=step[1:-1])
    step[0] = step[-1] = flat[0] - flat[-1]
    return step[:-1] * 9 + step[1:] + 40


@dataclass(frozen=True)
class TurnTable:
    """What the contour does at a pixel, for each pair (step in, step out); rows as `chain_turns` numbers
    them."""

    edges: NDArray[np.intp]  # (82,) outer edges met at this pixel, 1 to 4
    # (82, 5, 2) their midpoints from the pixel's corner, then the next pixel's first
    midpoints: NDArray[np.float64]
    # (82,) length from the last of them to the next pixel's first: 1 or sqrt(1/2)
    way_out: NDArray[np.float64]
    upper_edge: NDArray[np.intp]  # (82,) which of them is the pixel's upper edge (0 where it is not met)


def _build_turns() -> TurnTable:
    """Coming from the neighbour in direction `back`, the walk turns counter-clockwise over outside
    neighbours until it finds the next pixel; each of the four straight directions it turns over is an outer
    edge of this pixel."""
    faces: dict[int, tuple[list[int], int | None]] = {_SINGLE_PIXEL: ([2, 4, 6, 0], None)}
    for step_in in range(8):
        for step_out in range(8):
            back = step_in + 4
            turn = (step_out - back - 1) % 8 + 1
            code_in, code_out = (int(_STEPS[d] @ (1, 3)) for d in (step_in, step_out))
            faces[code_in * 9 + code_out + 40] = (
                [d % 8 for d in range(back + 1, back + turn) if d % 2 == 0],
                step_out,
            )
    edges, upper = np.zeros(82, dtype=np.intp), np.zeros(82, dtype=np.intp)
    midpoints, way_out = np.full((82, SLOTS, 2), 0.5), np.ones(82)
    for row, (met, leaves_by) in faces.items():
        if not met:
            continue  # a walk along the outer border never makes this turn
        points = [0.5 + _STEPS[d] / 2 for d in met]
        if leaves_by is None:
            following = points[0]
        else:
            entry = (leaves_by + 6 - leaves_by % 2) % 8  # the first straight direction after the way back
            following = 0.5 + _STEPS[leaves_by] + _STEPS[entry] / 2
        edges[row] = len(met)
        midpoints[row] = points + [following] * (SLOTS - len(met))
        way_out[row] = np.linalg.norm(following - points[-1])
        upper[row] = met.index(_UP) if _UP in met else 0
    return TurnTable(edges, midpoints, way_out, upper)


TURNS = _build_turns()
