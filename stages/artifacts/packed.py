"""Many short texts or byte strings put aside in one `Spool`: only their places, 16 bytes each, stay in memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.spool import Spool

T = TypeVar("T", bytes, str)


class Packed(Sequence[T], Generic[T]):
    """Strings that were `collect`ed, in any order; equal to a list of the same strings."""

    def __init__(self, content: Spool, bounds: NDArray[np.int64], kind: type[T]) -> None:
        """`bounds` (N, 2): string i is content.read(*bounds[i]), UTF-8 where it is text."""
        self._content, self._bounds = content, bounds
        self._kind: type[T] = kind

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) in bytes."""
        return self._bounds[:, 1] - self._bounds[:, 0]

    def take(self, rows: NDArray[Any]) -> Packed[T]:
        """These rows in this order; nothing is copied but their places."""
        return Packed(self._content, self._bounds[rows], self._kind)

    def __len__(self) -> int:
        return len(self._bounds)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, stop = self._bounds[index]
        data = self._content.read(int(start), int(stop))
        return data if self._kind is bytes else data.decode("utf-8")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Packing(Generic[T]):
    """Collects strings for a `Packed`."""

    def __init__(self, kind: type[T]) -> None:
        self._kind: type[T] = kind
        self._content, self._ends = Spool(), array("q", [0])

    def append(self, value: T) -> None:
        self._ends.append(self._content.append(value.encode("utf-8") if isinstance(value, str) else value))

    def packed(self) -> Packed[T]:
        ends = np.array(self._ends, np.int64)
        return Packed(self._content, np.stack([ends[:-1], ends[1:]], axis=1), self._kind)
