"""The run lengths of Label Studio's brush: bits, row by row, each pixel as four equal bytes (RGBA), the last one counts.

32 bits   number of bytes = height × width × 4
5 bits    bits in a word, less one (8 - 1)
4 × 4     the four lengths of a counter, less one
then      1 bit: a run (one word) or single words; 2 bits: which counter; the counter: how many, less one; the words
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import ArtifactError

_COUNTERS = (3, 4, 8, 16)  # bits, as Label Studio itself writes
_HEAD_BITS = 32 + 5 + 4 * 4
_INSIDE = 128  # soft edges of a stroke are cut at half


def decode_brush(values: Any, size_hw: Sequence[int]) -> NDArray[np.bool_]:
    """Numbers 0 to 255 (the `rle` of a result) -> mask (H, W).

    Raises:
        ArtifactError: they are no such runs, or those of a picture of another size.
    """
    height, width = (int(v) for v in size_hw)
    try:
        data = np.asarray(values, np.int64).reshape(-1)
        if len(data) * 8 < _HEAD_BITS or data.min() < 0 or data.max() > 255:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ArtifactError("the rle is no list of bytes, as Label Studio writes it") from None
    bits = (np.unpackbits(data.astype(np.uint8)) + ord("0")).tobytes().decode("ascii")
    n = int(bits[:32], 2)
    if n != height * width * 4:
        raise ArtifactError(f"the rle has {n} values, a picture of {width}x{height} has {height * width * 4}")
    word = int(bits[32:37], 2) + 1
    counters = [int(bits[at : at + 4], 2) + 1 for at in range(37, _HEAD_BITS, 4)]
    out, done, at = np.zeros(n, np.uint8), 0, _HEAD_BITS
    try:
        while done < n:
            counter = counters[int(bits[at + 1 : at + 3], 2)]
            is_run, at = bits[at] == "1", at + 3
            count, at = int(bits[at : at + counter], 2) + 1, at + counter
            n_words = 1 if is_run else count
            words = [int(bits[k : k + word], 2) for k in range(at, at + n_words * word, word)]
            out[done : done + count] = words[0] if is_run else words[: n - done]
            done, at = done + count, at + n_words * word
    except (IndexError, ValueError, OverflowError):
        raise ArtifactError("the rle ends too early") from None
    return np.asarray(out.reshape(height, width, 4)[..., 3] >= _INSIDE)


def encode_brush(mask: NDArray[Any]) -> list[int]:
    """Mask (H, W) -> numbers 0 to 255, the inverse of `decode_brush`."""
    flat = np.asarray(mask, dtype=bool).reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], edges, [len(flat)]])
    parts = [f"{len(flat) * 4:032b}", f"{8 - 1:05b}", *(f"{c - 1:04b}" for c in _COUNTERS)]
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        word, left = ("1" if flat[start] else "0") * 8, (stop - start) * 4
        while left:
            count = min(left, 1 << _COUNTERS[-1])
            which = next(k for k, c in enumerate(_COUNTERS) if count <= 1 << c)
            parts.append(f"1{which:02b}{count - 1:0{_COUNTERS[which]}b}{word}")
            left -= count
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return [int(v) for v in np.packbits(np.frombuffer(bits.encode("ascii"), np.uint8) - ord("0"))]
