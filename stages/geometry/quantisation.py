"""Coordinates <-> tokens (METHOD.md section 2): token = floor(v / size * n_bins), the token n_bins means END.

`quantise_release` and `dequantise_release` reproduce the public release for imported weights and for the golden numbers:
float32 arithmetic, truncation towards zero, no clamp (a coordinate equal to the size becomes END) and no half bin on the
way back.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Quantise = Callable[[ArrayLike, ArrayLike, int], NDArray[np.int64]]
Dequantise = Callable[[ArrayLike, ArrayLike, int], NDArray[np.float64]]


def quantise(coords: ArrayLike, size: ArrayLike, n_bins: int) -> NDArray[np.int64]:
    """Coordinates in pixels -> int64 tokens of the same shape.

    `size` is the extent along each coordinate's axis, broadcast against `coords`; for points (..., 2) in xy
    order that is (width, height). Tokens lie in [0, n_bins - 1].

    Raises:
        ValueError: a coordinate is NaN or infinite.
    """
    tokens = np.floor(_finite(coords, np.float64) / np.asarray(size, dtype=np.float64) * n_bins)
    return np.clip(tokens, 0, n_bins - 1).astype(np.int64)


def quantise_release(coords: ArrayLike, size: ArrayLike, n_bins: int) -> NDArray[np.int64]:
    """`quantise` as the release does it; a coordinate outside gives a token outside [0, n_bins - 1]."""
    scaled = _finite(coords, np.float32) / np.asarray(size, dtype=np.float32) * np.float32(n_bins)
    return np.trunc(scaled).astype(np.int64)


def _finite(coords: ArrayLike, dtype: type[np.floating]) -> NDArray[np.floating]:
    values = np.asarray(coords, dtype=dtype)
    if not np.isfinite(values).all():
        raise ValueError("coordinates must be finite, got NaN or infinity")
    return values


def dequantise(tokens: ArrayLike, size: ArrayLike, n_bins: int) -> NDArray[np.float64]:
    """Tokens -> float64 coordinates in pixels, the middle of the bin; `size` broadcasts as in `quantise`."""
    return (np.asarray(tokens, dtype=np.float64) + 0.5) / n_bins * np.asarray(size, dtype=np.float64)


def dequantise_release(tokens: ArrayLike, size: ArrayLike, n_bins: int) -> NDArray[np.float64]:
    """The lower edge of the bin: float32 token * size / n_bins."""
    low = np.asarray(tokens, dtype=np.float32) * np.asarray(size, dtype=np.float32) / np.float32(n_bins)
    return low.astype(np.float64)


def tokens_to_points(
    tokens: ArrayLike, size_wh: ArrayLike, n_bins: int, dequantise: Dequantise = dequantise
) -> NDArray[np.float64]:
    """One contour sequence x1 y1 x2 y2 ... -> points (P, 2) in pixels.

    The polygon ends at the first END (any token >= n_bins); an odd tail is dropped.
    """
    sequence = np.asarray(tokens, dtype=np.int64).reshape(-1)
    ends = np.flatnonzero(sequence >= n_bins)
    length = int(ends[0]) if len(ends) else len(sequence)
    pairs = sequence[: length - length % 2].reshape(-1, 2)
    return dequantise(pairs, np.asarray(size_wh), n_bins)


def tokens_to_box(
    tokens: ArrayLike, size_wh: ArrayLike, n_bins: int, dequantise: Dequantise = dequantise
) -> NDArray[np.float64]:
    """Box tokens (..., 4) x1 y1 x2 y2 -> boxes_xyxy (..., 4) in pixels. `size_wh` is (2,) or (..., 2)."""
    size = np.asarray(size_wh)
    return dequantise(tokens, np.concatenate([size, size], axis=-1), n_bins)
