"""COCO's compressed run lengths as integer arrays, without decoding to pixels.

Runs alternate background, foreground, ... down the columns. In the byte form each run (from the fourth on:
its difference to the run two before) is written in groups of 5 bits, low bits first, as characters 48 +
group, with 32 added on all but the last group; the last group's bit 16 carries the sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import ArtifactError

Int = NDArray[np.int64]


def rle_counts(counts: str | bytes) -> Int:
    """Compressed counts -> runs int64 (C,).

    Raises:
        ArtifactError: the bytes are not a complete run-length string.
    """
    data = counts.encode("ascii", "replace") if isinstance(counts, str) else bytes(counts)
    runs, _ = split_runs(np.frombuffer(data, dtype=np.uint8), np.array([0, len(data)]))
    return runs


def split_runs(data: NDArray[np.uint8], offsets: NDArray[Any]) -> tuple[Int, Int]:
    """Many compressed masks at once: concatenated bytes with offsets (N+1) -> all runs and their offsets
    (N+1).

    Raises:
        ArtifactError: a mask's bytes are not a complete run-length string.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    groups = data.astype(np.int64) - 48
    last = (groups & 32) == 0
    ends = offsets[1:][np.diff(offsets) > 0] - 1
    if len(groups) and (groups.min() < 0 or groups.max() > 63 or not last[ends].all()):
        raise ArtifactError("mask bytes are not compressed run lengths")
    stop = np.flatnonzero(last)
    start = np.concatenate([[0], stop[:-1] + 1]) if len(stop) else stop
    place = np.arange(len(groups)) - np.repeat(start, stop - start + 1)
    if len(place) and place.max() > 9:
        raise ArtifactError("mask bytes are not compressed run lengths: a run has more than ten groups")
    values = (
        np.add.reduceat((groups & 31) << (5 * place), start) if len(start) else np.zeros(0, dtype=np.int64)
    )
    negative = (groups[stop] & 16) != 0
    values -= np.where(negative, np.int64(1) << (5 * (stop - start + 1)), 0)
    run_offsets = np.searchsorted(stop, offsets, side="left").astype(np.int64)
    return _undo_differences(values, run_offsets), run_offsets


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


def pack_rles(rles: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.uint8], Int]:
    """Masks -> (bytes uint8, offsets int64 (N+1)): the ragged form that artifacts store and `split_runs`
    reads."""
    pieces = [c.encode("ascii") if isinstance(c := rle["counts"], str) else c for rle in rles]
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in pieces], dtype=np.int64)]).astype(np.int64)
    return np.frombuffer(b"".join(pieces), dtype=np.uint8), offsets
