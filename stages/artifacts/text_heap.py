"""Variable-length text of an HDF5 file, read without HDF5's own code for it.

HDF5 keeps such text in collections apart ("global heap"), and a damaged one can keep its library busy for ever, in a
call that nothing can interrupt. The layout is simple and documented (HDF5 File Format Specification, III.E and
IV.A.2.d), so it is read here, each number held against the bytes that are there.

    row of the dataset:   length u4, address of its collection u8, number of the object in it u4
    collection:           "GCOL", version 1, 3 bytes, size u8, then objects
    object:               number u2 (0 = the rest is free), 2 + 4 bytes, size u8, bytes up to a multiple of 8
"""

import os
import struct
from collections.abc import Iterator

import numpy as np

_ROW = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
ROW_BYTES = _ROW.itemsize
_HEAD = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")
_KEPT = 64  # collections in memory; rows in order need one
_MOST_READ = 4  # times the file's size, when rows jump between collections


class DamagedText(ValueError):
    """A number in the file leads nowhere; the text says which."""


def texts(descriptor: int, offset: int, n_rows: int) -> list[str]:
    """The rows of a contiguous dataset at a byte offset of the open file, decoded.

    Raises:
        DamagedText: rows or text outside the file, an object that is not there, text that holds NUL, or more text than
            the file has bytes (many rows at one object).
        UnicodeDecodeError: text that is no UTF-8.
    """
    file_size = os.fstat(descriptor).st_size
    if not 0 <= offset <= offset + n_rows * ROW_BYTES <= file_size:
        raise DamagedText(f"{n_rows} rows at byte {offset} of a file of {file_size}")
    rows = np.frombuffer(_read(descriptor, n_rows * ROW_BYTES, offset), _ROW)
    if int(rows["length"].sum(dtype=np.int64)) > file_size:
        raise DamagedText("more text than the file can hold")
    collections = _Collections(descriptor, file_size)
    found = []
    here = collections.empty
    for length, address, number in rows.tolist():
        if not length:
            found.append("")
            continue
        if address != here.address:
            here = collections.at(address)
        found.append(here.object(number, length).decode("utf-8"))
    if "\0" in "".join(found):
        raise DamagedText("text with a NUL")
    return found


class _Collection:
    """One collection in memory. Writers store rows in order, so the object after the last one is tried first."""

    __slots__ = ("_content", "_next", "_places", "address")

    def __init__(self, address: int, content: bytes) -> None:
        self.address, self._content = address, content
        self._next = _HEAD.size
        self._places: dict[int, tuple[int, int]] | None = None

    def object(self, number: int, length: int) -> bytes:
        """The first `length` bytes of an object."""
        content, begin = self._content, self._next + _OBJECT.size
        if begin <= len(content):
            here, _, _, size = _OBJECT.unpack_from(content, self._next)
            if here == number and length <= size <= len(content) - begin:
                self._next = begin + (size + 7 & -8)
                return content[begin : begin + length]
        if self._places is None:
            self._places = dict(_objects(content))
        begin, size = self._places.get(number, (0, 0))
        if length > size:
            raise DamagedText(f"text of {length} bytes in an object of {size}")
        return content[begin : begin + length]


def _objects(content: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number -> begin and size of each object of a collection."""
    at, end = _HEAD.size, len(content)
    while at + _OBJECT.size <= end:
        number, _, _, n_bytes = _OBJECT.unpack_from(content, at)
        begin = at + _OBJECT.size
        if number == 0:
            return
        if n_bytes > end - begin:
            raise DamagedText(f"an object of {n_bytes} bytes in a collection of {end}")
        yield number, (begin, n_bytes)
        at = begin + (n_bytes + 7) // 8 * 8


class _Collections:
    """The collections of a file, each read once; those that a hostile file lets overlap are not all kept."""

    empty = _Collection(-1, b"")

    def __init__(self, descriptor: int, file_size: int) -> None:
        self._descriptor, self._file_size = descriptor, file_size
        self._left = _MOST_READ * file_size  # bytes that may still be read
        self._last: dict[int, _Collection] = {}

    def at(self, address: int) -> _Collection:
        if address not in self._last:
            if len(self._last) >= _KEPT:
                del self._last[next(iter(self._last))]
            self._last[address] = _Collection(address, self._load(address))
        return self._last[address]

    def _load(self, address: int) -> bytes:
        if address + _HEAD.size > self._file_size:
            raise DamagedText(f"text at byte {address} of a file of {self._file_size}")
        mark, version, size = _HEAD.unpack(_read(self._descriptor, _HEAD.size, address))
        if mark != b"GCOL" or version != 1 or not _HEAD.size <= size <= self._file_size - address:
            raise DamagedText(f"no text at byte {address}")
        self._left -= size
        if self._left < 0:
            raise DamagedText("text that is scattered over the file")
        return _read(self._descriptor, size, address)


def _read(descriptor: int, n_bytes: int, offset: int) -> bytes:
    found = os.pread(descriptor, n_bytes, offset)
    if len(found) != n_bytes:
        raise DamagedText(f"the file ends before byte {offset + n_bytes}")
    return found
