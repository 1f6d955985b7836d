"""Bytes that are put aside while a stage works: in memory as long as they are few, else in a temporary file.

The file has no name, so nobody else can put anything into it, and it goes away with the process.
"""

import os
import tempfile
import weakref

from stages.errors import SeqresError

_IN_MEMORY = 1 << 20  # bytes, up to which there is no file


class Spool:
    """Pieces are added at the end and read from anywhere."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 (open as long as this lives)
        self._size = self._at = 0
        weakref.finalize(self, self._file.close)

    def append(self, data: bytes) -> int:
        """Returns where the data end.

        Raises:
            SeqresError: the disk is full.
        """
        try:
            self._go_to(self._size)
            self._at = -1  # should it fail half-way
            self._file.write(data)
        except OSError as error:
            raise SeqresError(
                f"cannot put data aside in {tempfile.gettempdir()}: {os.strerror(error.errno or 0).lower()}",
                hint="TMPDIR=FOLDER names another place for temporary files",
            ) from error
        self._at = self._size = self._size + len(data)
        return self._size

    def read(self, start: int, stop: int) -> bytes:
        self._go_to(start)
        data = self._file.read(stop - start)
        self._at += len(data)
        return data

    def _go_to(self, place: int) -> None:
        """Seeking empties the file's buffer, also to where it is."""
        if place != self._at:
            self._file.seek(place)
            self._at = place
