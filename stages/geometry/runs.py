"""COCO's compressed run lengths as integer arrays, without decoding to pixels.

Runs alternate background, foreground, ... down the columns. In the byte form each run (from the fourth on:
its difference to the run two before) is written in groups of 5 bits, low bits first, as characters 48 +
group, with 32 added on all but the last group; the last group's bit 16 carries the sign.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import ArtifactError

Int = NDArray[np.int64]
_GARBAGE = "mask bytes are not compressed run lengths"


def rle_counts(counts: str | bytes) -> Int:
    """Compressed counts -> runs int64 (C,).

    Raises:
        ArtifactError: the bytes are not a complete run-length string.
    """
    try:
        data = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except UnicodeEncodeError:
        raise ArtifactError(_GARBAGE) from None
    runs, _ = _numbers(np.frombuffer(data, dtype=np.uint8))
    # run[i] is stored as its difference to run[i-2], from the fourth run on: two running sums
    np.cumsum(runs[1::2], out=runs[1::2])
    np.cumsum(runs[2::2], out=runs[2::2])
    return runs


def split_runs(data: NDArray[np.uint8], offsets: NDArray[Any]) -> tuple[Int, Int]:
    """Many compressed masks at once: concatenated bytes with offsets (N+1) -> all runs and their offsets
    (N+1).

    Raises:
        ArtifactError: a mask's bytes are not a complete run-length string.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    ends = offsets[1:][np.diff(offsets) > 0] - 1
    if len(data) and (data[ends] - 48 & 32).any():
        raise ArtifactError(_GARBAGE)
    values, stop = _numbers(data)
    run_offsets = np.searchsorted(stop, offsets, side="left").astype(np.int64)
    return _undo_differences(values, run_offsets), run_offsets


def _numbers(data: NDArray[np.uint8]) -> tuple[Int, Int]:
    """Bytes -> the numbers they spell (differences not undone), and the place of each number's last byte."""
    groups = data.astype(np.int64) - 48
    stop = np.flatnonzero(groups < 32)
    if len(groups) == 0:
        return groups, stop
    if groups.min() < 0 or groups.max() > 63 or groups[-1] >= 32:
        raise ArtifactError(_GARBAGE)
    start = np.concatenate([[0], stop[:-1] + 1])
    length = stop - start + 1
    if length.max() > 10:
        raise ArtifactError(_GARBAGE, facts=["a run has more than ten groups of bits"])
    place = np.arange(len(groups)) - np.repeat(start, length)
    values = np.add.reduceat((groups & 31) << (5 * place), start)
    values -= np.where(groups[stop] & 16, np.int64(1) << (5 * length), 0)
    return values, stop


def _undo_differences(values: Int, offsets: Int) -> Int:
    """run[i] = value[i] + run[i-2] for i > 2, per mask: a running sum over the odd and one over the even
    places.

    Place 2 is not a difference (COCO starts with the fourth run), so the even chain starts there and place
    0 is left.
    """
    lengths = np.diff(offsets)
    place = np.arange(len(values)) - np.repeat(offsets[:-1], lengths)
    runs = values.copy()
    for parity in (0, 1):
        chosen = np.flatnonzero((place % 2 == parity) & (place > 0))
        if len(chosen) == 0:
            continue
        total = np.cumsum(values[chosen])
        first = place[chosen] <= 2
        before = total[first] - values[chosen][first]
        runs[chosen] = total - np.repeat(before, np.diff(np.append(np.flatnonzero(first), len(chosen))))
    return runs


def counts_to_bytes(runs: NDArray[Any] | Sequence[int]) -> bytes:
    """Runs (C,) -> compressed counts, the inverse of `rle_counts`; byte for byte what pycocotools writes."""
    values = np.array(runs, dtype=np.int64).reshape(-1)
    values[3:] -= np.asarray(runs, dtype=np.int64).reshape(-1)[1:-2]
    groups, more = [], np.ones(len(values), dtype=bool)
    while more.any():
        low = values & 31
        values = values >> 5
        following = np.where(low & 16, values != -1, values != 0)
        groups.append(np.where(more, low + np.where(following, 32, 0) + 48, 0))
        more = more & following
    return (
        np.stack(groups, axis=1)[np.stack(groups, axis=1) > 0].astype(np.uint8).tobytes() if groups else b""
    )


def counts_of(rle: Mapping[str, Any]) -> bytes:
    """The compressed counts of a mask as bytes."""
    counts = rle["counts"]
    return counts.encode("ascii") if isinstance(counts, str) else bytes(counts)


def pack_rles(rles: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.uint8], Int]:
    """Masks -> (bytes uint8, offsets int64 (N+1)): the ragged form that artifacts store and `split_runs`
    reads."""
    pieces = [counts_of(rle) for rle in rles]
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in pieces], dtype=np.int64)]).astype(np.int64)
    return np.frombuffer(b"".join(pieces), dtype=np.uint8), offsets
