"""Pictures with known masks, and what annotation tools save of them, written by hand from the tools' published formats."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE_HW = (40, 60)
Bits = NDArray[np.bool_]


def picture(path: Path, size_hw: tuple[int, int] = SIZE_HW, channels: int = 3, dtype: Any = np.uint8) -> Path:
    """A noisy picture on disk; the ending decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    pixels = rng.integers(0, np.iinfo(dtype).max, (*size_hw, channels), dtype=dtype)
    assert cv2.imwrite(str(path), pixels)
    return path


def block(x1: int, y1: int, x2: int, y2: int, size_hw: tuple[int, int] = SIZE_HW) -> Bits:
    """A filled box as a mask, right and lower edge exclusive."""
    mask = np.zeros(size_hw, np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def ring_with_hole(size_hw: tuple[int, int] = SIZE_HW) -> Bits:
    """Two parts, one of them with a hole."""
    return block(5, 5, 25, 25, size_hw) & ~block(10, 10, 15, 18, size_hw) | block(40, 20, 50, 30, size_hw)


def png_text(mask: NDArray[Any]) -> str:
    """A mask as PNG in base64."""
    return base64.b64encode(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()).decode("ascii")


def brush_bits(mask: Bits, literal: bool = False) -> list[int]:
    """Label Studio's brush run lengths, bit by bit: one byte a run, or every byte by itself."""
    values = np.repeat(mask.ravel(), 4).astype(int) * 255
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    at = 0
    while at < len(values):
        stop = at + 1
        if literal:
            stop = min(at + 8, len(values))
            bits += "000" + f"{stop - at - 1:03b}" + "".join(f"{v:08b}" for v in values[at:stop])
        else:
            while stop < len(values) and values[stop] == values[at] and stop - at < 256:
                stop += 1
            bits += "110" + f"{stop - at - 1:08b}" + f"{values[at]:08b}"
        at = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def read_brush(values: list[int], size_hw: tuple[int, int]) -> Bits:
    """The same read as Label Studio's converter does: value by value."""
    bits = "".join(f"{v:08b}" for v in values)
    at = 0

    def take(n: int) -> int:
        nonlocal at
        at += n
        return int(bits[at - n : at], 2)

    n, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out = np.zeros(n, np.uint8)
    i = 0
    while i < n:
        same = take(1)
        j = i + 1 + take(sizes[take(2)])
        if same:
            out[i:j] = take(word)
            i = j
        else:
            while i < j:
                out[i] = take(word)
                i += 1
    return out.reshape(*size_hw, 4)[:, :, 3] > 0


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path
