"""The entries of a long annotation list, kept in a temporary file instead of in memory.

As Python objects an entry takes kilobytes; here only its place in the file stays. A short list never leaves memory.
"""

import pickle
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, overload

from stages.artifacts.spool import Spool

_READ_AT_ONCE = 1 << 16  # bytes, when all entries are walked through


class EntryFile(Sequence[Any]):
    """Entries in the order in which they were added; each one is made anew when it is asked for."""

    def __init__(self) -> None:
        self._spool, self._starts = Spool(), array("q", [0])

    def append(self, entry: Any) -> None:
        """None (an entry that was let go) takes no space. SeqresError on a full disk."""
        self.extend((entry,))

    def extend(self, entries: Iterable[Any]) -> None:
        """As `append` of each, in one go."""
        stored = [b"" if entry is None else pickle.dumps(entry, pickle.HIGHEST_PROTOCOL) for entry in entries]
        self._spool.append(b"".join(stored))
        self._starts.extend(accumulate(map(len, stored), initial=self._starts.pop()))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"entry {index} of {len(self)}")
        start, stop = self._starts[index % len(self)], self._starts[index % len(self) + 1]
        if start == stop:
            return None
        return pickle.loads(self._spool.read(start, stop))  # noqa: S301 - written by this process

    def __iter__(self) -> Iterator[Any]:
        """The same entries one after another, with fewer calls."""
        first = 0
        while first < len(self):
            begin = self._starts[first]
            last = max(bisect_right(self._starts, begin + _READ_AT_ONCE) - 1, first + 1)
            content = memoryview(self._spool.read(begin, self._starts[last]))
            for start, stop in pairwise(self._starts[first : last + 1]):
                yield pickle.loads(content[start - begin : stop - begin]) if stop > start else None  # noqa: S301
            first = last
