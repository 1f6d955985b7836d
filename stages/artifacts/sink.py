"""The file that HDF5 writes into while an artifact is made.

HDF5 crashes the process (segmentation fault) when the system refuses a write, for instance on a full
disk. So the refusal is kept here, HDF5 is told that all went well, and the writer asks for it after
every step. What was written then goes away with the temporary file.
"""

import os
from typing import Any


class Sink:
    """A file-like object over a file descriptor, as h5py's file-object driver wants it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self.error: OSError | None = None

    def raise_error(self) -> None:
        """Raise the first refusal of the system, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
            except OSError as error:
                self.error = error
        self._position += len(view)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self._descriptor, len(view), self._position)
        view[: len(data)] = data
        view[len(data) :] = bytes(len(view) - len(data))
        self._position += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        """h5py takes an object with `read` for a file; its driver itself calls `readinto`."""
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: os.fstat(self._descriptor).st_size}
        self._position = start[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int) -> int:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        pass
