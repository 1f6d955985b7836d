"""Rows of different lengths as one flat `values` and int64 `offsets` (N+1): row i is values[o[i]:o[i+1]]."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from stages.errors import ArtifactError


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """(N,) lengths -> (N+1,) int64 offsets that start at 0."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(lengths, np.int64), dtype=np.int64)])


def spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers starts[i], starts[i] + 1, … (lengths[i] of them) of all i after each other: int64."""
    before = offsets_of(lengths)
    return np.repeat(np.asarray(starts, np.int64) - before[:-1], lengths) + np.arange(before[-1])


def pack(
    rows: Sequence[np.ndarray], dtype: np.dtype | type, tail: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of shape (k_i, *tail) -> values (sum k_i, *tail) and offsets (N+1,) int64."""
    arrays = [np.asarray(row, dtype=dtype).reshape(-1, *tail) for row in rows]
    values = np.concatenate(arrays) if arrays else np.zeros((0, *tail), dtype)
    return values, offsets_of([len(a) for a in arrays])


def offsets_problem(offsets: np.ndarray, n_values: int) -> str | None:
    """What is wrong with offsets, in words, or None: they start at 0, never fall and end at n_values."""
    if offsets.ndim != 1 or len(offsets) == 0:
        return f"offsets have shape {offsets.shape}, expected (N+1,)"
    if offsets[0] != 0:
        return f"offsets start at {offsets[0]}, not 0"
    if offsets[-1] != n_values:
        return f"offsets end at {offsets[-1]}, but there are {n_values} values"
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if len(falls):
        return f"offsets fall from {offsets[falls[0]]} to {offsets[falls[0] + 1]} at row {falls[0]}"
    return None


class Ragged:
    """N rows of different lengths; `read(start, stop)` gives values, from a file or from memory."""

    def __init__(
        self, offsets: np.ndarray, read: Callable[[int, int], np.ndarray], name: str = "ragged"
    ) -> None:
        self.offsets = offsets
        self._read = read
        self._name = name

    @classmethod
    def from_arrays(cls, values: np.ndarray, offsets: np.ndarray, name: str = "ragged") -> Ragged:
        problem = offsets_problem(offsets, len(values))
        if problem:
            raise ArtifactError(f"{name}: {problem}")
        return cls(offsets, functools.partial(_slice, values), name)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"row {index} of {self._name}, which has {n}")
        index = int(index) % n
        return self._read(int(self.offsets[index]), int(self.offsets[index + 1]))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def load(self) -> Ragged:
        """The same rows, read into memory at once."""
        return Ragged.from_arrays(self._read(0, int(self.offsets[-1])), self.offsets, self._name)


def _slice(values: np.ndarray, start: int, stop: int) -> np.ndarray:
    return values[start:stop]
