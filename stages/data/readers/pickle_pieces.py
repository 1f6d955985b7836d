"""Lists of annotations in a pickle, read piece by piece with Python's fast unpickler.

Pickles write a list in groups (of 1000 entries, usually). Where a pickle holds lists, dicts, text and numbers and
nothing else, each group is a pickle of its own, but for what it asks for again of groups before it. The file is walked through first: an
opcode that is not among those few, a place of the memo out of order, or a length beyond the file, and it is left to the
unpickler that watches every step (plain_pickle.py).
"""

import io
import pickle
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.spool import Spool

_BLOCK = 1 << 18
_LONGEST = 9  # bytes of an opcode with its argument, or with the length of the text that follows
_SHORTEST_PIECE, _LARGEST_PIECE = (
    1 << 16,
    8 << 20,
)  # bytes; a group of a thousand referents has about a million
_MOST_SHARED = 10_000  # names of fields, usually
_IN_A_BYTE = 256  # places of the memo that stand in one byte come before this

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
class _Group:
    """Some entries of the outermost list: where they end in the file, the last place in the memo before them and at their end.

    `numbers` (N,): bytes from their begin to where a place stands in four bytes, as (start, stop) of what was put aside.
    """

    end: int
    before: int
    last: int
    numbers: tuple[int, int]


@dataclass(frozen=True)
class Pieces:
    """Where to cut a pickle, and what must be carried across.

    Attributes:
        shared: places in the memo that a group fills and a later one asks for, in order.
    """

    groups: list[_Group]
    shared: NDArray[np.int64]
    aside: Spool

    def read(self, stream: BinaryIO, encoding: str) -> Iterator[list[Any]]:
        """The entries of one group after another; any exception of an unpickler for a broken file."""
        carried: dict[int, Any] = {}
        stream.seek(start := 0)
        for group in self.groups:
            known = self.shared[self.shared <= group.last]
            before = b"".join(
                map(_carried_in, self._renumbered(np.array(list(carried)), group).tolist(), carried)
            )
            after = b"".join(map(_asked_for, self._renumbered(known, group).tolist()))
            data = (
                before + (pickle.EMPTY_LIST if start else b"") + self._with_small_places(stream, start, group)
            )
            data += pickle.MARK + after + pickle.TUPLE + pickle.TUPLE2 + pickle.STOP
            entries, values = _Unpickler(data, encoding, carried).load()
            yield entries
            carried, start = dict(zip(known.tolist(), values, strict=True)), group.end

    def _with_small_places(self, stream: BinaryIO, start: int, group: _Group) -> bytes:
        """The fast unpickler takes memory for all places up to the largest, so those of a group count from the first again."""
        data = np.frombuffer(stream.read(group.end - start), np.uint8).copy()
        at = np.frombuffer(self.aside.read(*group.numbers), np.uint32)[:, None] + np.arange(4)
        places = np.ascontiguousarray(data[at]).view("<u4")[:, 0].astype(np.int64)
        data[at] = self._renumbered(places, group).astype("<u4")[:, None].view(np.uint8)
        return data.tobytes()

    def _renumbered(self, places: NDArray[np.int64], group: _Group) -> NDArray[np.int64]:
        """Places below 256, which stand in one byte, stay; then come the others that are shared, then those of the group."""
        if group.before < _IN_A_BYTE:
            return places
        shared = self.shared[self.shared >= _IN_A_BYTE]
        own = _IN_A_BYTE + len(shared) + places - group.before - 1
        others = np.where(places < _IN_A_BYTE, places, _IN_A_BYTE + np.searchsorted(shared, places))
        return np.where(places > group.before, own, others)


def _carried_in(number: int, place: int) -> bytes:
    return b"".join((
        pickle.BININT, place.to_bytes(4, "little"), pickle.BINPERSID,
        pickle.LONG_BINPUT, number.to_bytes(4, "little"), pickle.POP,
    ))  # fmt: skip


def _asked_for(number: int) -> bytes:
    return pickle.LONG_BINGET + number.to_bytes(4, "little")


class _Unpickler(pickle.Unpickler):
    """Its persistent objects are what is carried in. No opcode that was let through looks up a name, but the file may have changed since."""

    def __init__(self, data: bytes, encoding: str, carried: dict[int, Any]) -> None:
        buffered: Any = io.BufferedReader(io.BytesIO(data))  # whose `peek` saves a call for every opcode
        super().__init__(buffered, encoding=encoding)
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
        return _walk(stream, size)
    except _OtherPickle:
        return None


class _Cuts:
    """The groups up to here, and where places of the memo stand in the one that is being walked through."""

    def __init__(self) -> None:
        self.groups: list[_Group] = []
        self.numbers, self.aside = array("I"), Spool()
        self._start, self._before, self._put_aside = 0, -1, 0

    def end(self, end: int, last: int, least: int | None = None) -> tuple[int, int]:
        """A group may end here, if it is not too short. Where the present one starts, and the last place before it."""
        if end - self._start >= (_SHORTEST_PIECE if least is None else least):
            stop = self.aside.append(self.numbers.tobytes())
            self.groups.append(_Group(end, self._before, last, (self._put_aside, stop)))
            self._start, self._before, self._put_aside = end, last, stop
            del self.numbers[:]
        return self._start, self._before


def _walk(stream: BinaryIO, size: int) -> Pieces:
    """One loop over the opcodes: a call for each would take longer than reading them afterwards."""
    cuts, shared = _Cuts(), set[int]()
    start, numbers = 0, cuts.numbers
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
            if not data or begin - start > _LARGEST_PIECE or len(shared) > _MOST_SHARED:
                raise _OtherPickle
        kind, width = _CODES[data[at]]
        at += 1
        if width:
            number = int.from_bytes(data[at : at + width], "little")
            at += width
            if width == 4 and kind in (_PUT, _GET):
                numbers.append(begin + at - 4 - start)
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
                start, of_before = cuts.end(begin + at, last)
            continue
        elif kind in (_APPEND, _SETITEM) or (kind == _PROTO and begin + at == 2):
            height -= 0 if depth else {_APPEND: 1, _SETITEM: 2, _PROTO: 0}[kind]
            continue
        elif kind == _STOP and (depth, height) == (0, 1):
            cuts.end(begin + at - 1, last, least=0)
            return Pieces(cuts.groups, np.array(sorted(shared), np.int64), cuts.aside)
        elif kind not in (_VALUE, _LIST):
            raise _OtherPickle
        if not depth:  # a value beside or below the entries
            if not height and kind != _LIST:
                raise _OtherPickle
            height += 1
