"""Lists of annotations in a pickle, read piece by piece with Python's fast unpickler.

Pickles write a list in groups (of 1000 entries, usually). Where a pickle holds lists, dicts, text and numbers and
nothing else, each group is a pickle of its own, but for what it asks for again of groups before it. The file is walked through first: an
opcode that is not among those few, a place of the memo out of order, or a length beyond the file, and it is left to the
unpickler that watches every step (plain_pickle.py).
"""

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO, NoReturn

_BLOCK = 1 << 18
_LONGEST = 9  # bytes of an opcode with its argument, or with the length of the text that follows
_LARGEST_PIECE = 8 << 20  # bytes; a group of a thousand referents has one or two million

_PUT, _TEXT, _GET, _VALUE, _LIST, _MARK, _GROUP, _APPEND, _SETITEM, _PROTO, _STOP, _OTHER = range(12)
_KNOWN = {
    _PUT: {pickle.BINPUT: 1, pickle.LONG_BINPUT: 4},
    _TEXT: {
        pickle.SHORT_BINUNICODE: 1, pickle.BINUNICODE: 4, pickle.SHORT_BINSTRING: 1, pickle.BINSTRING: 4,
        pickle.LONG1: 1,
    },
    _GET: {pickle.BINGET: 1, pickle.LONG_BINGET: 4},
    _VALUE: {
        pickle.EMPTY_DICT: 0, pickle.NONE: 0, pickle.NEWTRUE: 0, pickle.NEWFALSE: 0, pickle.BININT1: 1, pickle.BININT2: 2,
        pickle.BININT: 4, pickle.BINFLOAT: 8,
    },
    _LIST: {pickle.EMPTY_LIST: 0}, _MARK: {pickle.MARK: 0}, _GROUP: {pickle.APPENDS: 0, pickle.SETITEMS: 0},
    _APPEND: {pickle.APPEND: 0}, _SETITEM: {pickle.SETITEM: 0}, _PROTO: {pickle.PROTO: 1}, _STOP: {pickle.STOP: 0},
}  # fmt: skip
_CODES = [(_OTHER, 0)] * 256  # opcode -> what it is, bytes of its argument (of a text: of its length)
for _kind, _widths in _KNOWN.items():
    for _code, _width in _widths.items():
        _CODES[_code[0]] = _kind, _width


@dataclass(frozen=True)
class Pieces:
    """Where to cut a pickle, and what must be carried across.

    Attributes:
        ends: (place in the file, last place in the memo) at the end of each group of the outermost list, and of the file.
        shared: places in the memo that a group fills and a later one asks for, in order.
    """

    ends: list[tuple[int, int]]
    shared: list[int]

    def read(self, stream: BinaryIO, encoding: str) -> Iterator[list[Any]]:
        """The entries of one group after another; any exception of an unpickler for a broken file."""
        carried: dict[int, Any] = {}
        stream.seek(start := 0)
        for end, last in self.ends:
            group, known = stream.read(end - start), [place for place in self.shared if place <= last]
            before = b"".join(map(_carried_in, carried)) + (pickle.EMPTY_LIST if start else b"")
            after = (
                pickle.MARK + b"".join(map(_asked_for, known)) + pickle.TUPLE + pickle.TUPLE2 + pickle.STOP
            )
            entries, values = _Unpickler(before + group + after, encoding, carried).load()
            yield entries
            carried, start = dict(zip(known, values, strict=True)), end


def _carried_in(place: int) -> bytes:
    number = place.to_bytes(4, "little")
    return pickle.BININT + number + pickle.BINPERSID + pickle.LONG_BINPUT + number + pickle.POP


def _asked_for(place: int) -> bytes:
    return pickle.LONG_BINGET + place.to_bytes(4, "little")


class _Unpickler(pickle.Unpickler):
    """Its persistent objects are what is carried in. No opcode that was let through looks up a name, but the file may have changed since."""

    def __init__(self, data: bytes, encoding: str, carried: dict[int, Any]) -> None:
        super().__init__(io.BytesIO(data), encoding=encoding)
        self._carried = carried

    def persistent_load(self, place: int) -> Any:
        return self._carried[place]

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError("the file changed while it was read")


class _OtherPickle(Exception):
    """It holds more than lists, dicts, text and numbers, or is not written as usual."""


def pieces_of(stream: BinaryIO, size: int) -> Pieces | None:
    """Where to cut a pickle of `size` bytes whose outermost object is a list; None for any that is read step by step."""
    stream.seek(0)
    try:
        pieces = _walk(stream, size)
    except _OtherPickle:
        return None
    lengths = (end - start for (start, _), (end, _) in pairwise([(0, 0), *pieces.ends]))
    return pieces if max(lengths) <= _LARGEST_PIECE else None


def _walk(stream: BinaryIO, size: int) -> Pieces:
    """One loop over the opcodes: a call for each would take longer than reading them afterwards."""
    ends: list[tuple[int, int]] = []
    shared: set[int] = set()
    # a block, its place in the file, where in it the next opcode is, and from where on it may be too short for one
    data, begin, at, near_end = b"", 0, 0, -1
    depth = height = 0  # marks, and values below the first of them
    # places of the memo: how many, the last one, that of the outermost list, the last one of the groups before
    puts, last, outermost, of_before = 0, -1, -1, -1
    while True:
        if at > near_end:
            begin += at
            data, at = data[at:] + stream.read(_BLOCK), 0
            near_end = len(data) - _LONGEST
            if not data:
                raise _OtherPickle
        kind, width = _CODES[data[at]]
        at += 1
        if width:
            number = int.from_bytes(data[at : at + width], "little")
            at += width
        if kind == _PUT:
            # the fast unpickler takes memory for all places up to the largest
            if not last < number <= puts + 1:
                raise _OtherPickle
            if height == 1 and not depth:
                outermost = number
            puts, last = puts + 1, number
            continue
        if kind == _TEXT:
            if number > size:
                raise _OtherPickle
            at += number
            if at > len(data):
                stream.seek(at - len(data), 1)
                begin, data, at, near_end = begin + at, b"", 0, -1
        elif kind == _GET:
            if number == outermost:
                raise _OtherPickle
            if number <= of_before:
                shared.add(number)
        elif kind == _MARK:
            depth += 1
            continue
        elif kind == _GROUP and depth:
            depth -= 1
            if height == 1 and not depth and data[at - 1] == pickle.APPENDS[0]:
                ends.append((begin + at, last))
                of_before = last
            continue
        elif kind in (_APPEND, _SETITEM) or (kind == _PROTO and begin + at == 2):
            height -= 0 if depth else {_APPEND: 1, _SETITEM: 2, _PROTO: 0}[kind]
            continue
        elif kind == _STOP and (depth, height) == (0, 1):
            return Pieces([*ends, (begin + at - 1, last)], sorted(shared))
        elif kind not in (_VALUE, _LIST):
            raise _OtherPickle
        if not depth:  # a value beside or below the entries
            if not height and kind != _LIST:
                raise _OtherPickle
            height += 1
