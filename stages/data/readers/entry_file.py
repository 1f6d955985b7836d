"""The entries of a long annotation list, kept in a temporary file instead of in memory.

As Python objects an entry takes kilobytes; here only its place in the file stays. A short list never leaves memory.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, overload

from stages.errors import SeqresError

_IN_MEMORY = 1 << 20  # bytes, up to which there is no file


class EntryFile(Sequence[Any]):
    """Entries in the order in which they were added; each one is made anew when it is asked for.

    The file has no name, so nobody else can put anything into it, and it goes away with the process.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 (open as long as this lives)
        self._starts = array("q", [0])
        weakref.finalize(self, self._file.close)

    def append(self, entry: Any) -> None:
        """None (an entry that was let go) takes no space.

        Raises:
            SeqresError: the disk is full.
        """
        data = b"" if entry is None else pickle.dumps(entry, pickle.HIGHEST_PROTOCOL)
        try:
            self._file.seek(self._starts[-1])
            self._file.write(data)
        except OSError as error:
            raise SeqresError(
                f"cannot keep annotations in {tempfile.gettempdir()}: {os.strerror(error.errno or 0).lower()}",
                hint="TMPDIR=FOLDER names another place for temporary files",
            ) from error
        self._starts.append(self._starts[-1] + len(data))

    def extend(self, entries: Iterable[Any]) -> None:
        for entry in entries:
            self.append(entry)

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
        self._file.seek(start)
        return pickle.loads(self._file.read(stop - start))  # noqa: S301 - written by this process
