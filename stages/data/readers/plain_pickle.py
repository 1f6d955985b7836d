"""Reading a pickle that holds nothing but containers, text and numbers; anything else is refused by name.

A pickle may name any function of any module and have it called. The annotation files of the public data sets
need none of that, so no name is looked up at all; for numbers and arrays of numpy there are stand-ins (plain_numpy.py).

A list is read entry by entry, so that memory does not grow with the file. What a pickle has written it may ask for again
at any later place, and Python's unpickler keeps everything for that; here the file is looked through first, and only what
is asked for again is kept, until it is. A usual list of annotations is read in pieces instead (pickle_pieces.py), which is
four times as fast.
"""

import pickle
import pickletools
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from stages.data.readers.entry_file import EntryFile
from stages.data.readers.pickle_bounds import check_values, depth_of_tuple, most_values
from stages.data.readers.pickle_pieces import pieces_of
from stages.data.readers.plain_numpy import STAND_INS, WITH_STATE
from stages.errors import ArtifactError, SeqresError
from stages.file_kinds import refuse_other_kinds
from stages.nearest import cannot_read
from stages.untrusted import plain, require_regular, shown


def _latin1(text: str, encoding: str) -> bytes:
    """How protocols 0 to 2 write the bytes of Python 3: encode(text, "latin1")."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes written with the encoding {shown(encoding)}")
    return text.encode("latin-1")


def _of_bytes(kind: Callable[..., Any], *content: Any) -> Any:
    """`bytes()` and `bytearray(b"…")` as pickles call them; with a number they would take so much memory."""
    if content and not isinstance(content[0], bytes | str):
        raise pickle.UnpicklingError(f"bytes made of a {type(content[0]).__name__}")
    return kind(*content)


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): dict,
    **STAND_INS,
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)},
    **{
        (module, kind.__name__): partial(_of_bytes, kind)
        for module in ("builtins", "__builtin__")
        for kind in (bytes, bytearray)
    },
}


class _Refused(Exception):
    pass


# opcode -> bytes of its argument; negative: a line, or so many bytes as a number before it says
_ARGUMENT = {ord(info.code): 0 if info.arg is None else info.arg.n for info in pickletools.opcodes}
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_STOP, _GET, _BINGET, _LONG_BINGET = (
    code[0] for code in (pickle.STOP, pickle.GET, pickle.BINGET, pickle.LONG_BINGET)
)
_TWO_LINES = (pickle.GLOBAL[0], pickle.INST[0])
_BLOCK = 1 << 18
_LONGEST = 9  # bytes of an opcode with an argument of a fixed size, or with the length of what follows


def _fetches(stream: BinaryIO, size: int) -> Counter[int]:
    """Place in the memo -> how often a pickle of `size` bytes asks for what it has put there.

    It goes through the file block by block: a call for every opcode would take as long as reading the pickle.
    """
    counts: Counter[int] = Counter()
    data, at = b"", 0  # a block, and where in it the next opcode is
    while True:
        if at + _LONGEST > len(data):
            data, at = data[at:] + stream.read(_BLOCK), 0
            if not data:
                return counts
        code = data[at]
        n = _ARGUMENT[code]
        at += 1
        if n > 0:
            if code == _BINGET:
                counts[data[at]] += 1
            elif code == _LONG_BINGET:
                counts[int.from_bytes(data[at : at + 4], "little")] += 1
            at += n
        elif n == pickletools.UP_TO_NEWLINE:
            for _ in range(2 if code in _TWO_LINES else 1):
                start = at
                while not (at := data.find(b"\n", start) + 1):
                    more = stream.read(_BLOCK)
                    if not more:
                        return counts
                    data, start = data[start:] + more, 0
            if code == _GET:
                counts[int(data[start:at])] += 1
        elif n < 0:
            start, at = at, at + _LENGTH_BYTES[n]
            length = int.from_bytes(data[start:at], "little")
            if length > size:
                raise pickle.UnpicklingError(f"a value of {length} bytes in a file of {size}")
            at += length
            if at > len(data):
                stream.seek(at - len(data), 1)
                data, at = b"", 0
        elif code == _STOP:
            return counts


class _Memo(dict[int, Any]):
    """What is asked for again, as long as that is still to come."""

    def __init__(self, fetches: Counter[int]) -> None:
        self.left, self.put = fetches, 0

    def __len__(self) -> int:
        """How many things were put here: pickles of protocol 4 count them."""
        return self.put

    def __setitem__(self, place: int, value: Any) -> None:
        self.put += 1
        if place in self.left:
            super().__setitem__(place, value)

    def __getitem__(self, place: int) -> Any:
        if self.left[place] > 1:
            self.left[place] -= 1
            return super().__getitem__(place)
        del self.left[place]
        return self.pop(place)


class _Entries(EntryFile):
    """The outermost list; each entry is looked at before anybody walks through it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = most_values(size)

    def extend(self, entries: Iterable[Any]) -> None:
        entries = list(entries)
        for entry in entries:
            self._left -= check_values(entry, self._left)
        super().extend(entries)


# The one that is written in Python, whose steps can be replaced. Its attributes have no types.
_Unpickler: Any = pickle._Unpickler
_Stop: Any = pickle._Stop  # type: ignore[attr-defined]


class _PlainUnpickler(_Unpickler):
    def __init__(self, stream: BinaryIO, fetches: Counter[int], encoding: str, size: int) -> None:
        super().__init__(stream, encoding=encoding)
        self._stream = stream
        self.memo = _Memo(fetches)
        self._size = size
        self._depths: dict[int, int] = {}  # tuples that hold tuples -> how deeply

    def load(self) -> Any:
        """The loop of pickle.py, without frames: they only tell how much to read at once, and the stream has a buffer."""
        self.read, self.readinto, self.readline = (
            self._stream.read,
            self._stream.readinto,  # type: ignore[attr-defined]
            self._stream.readline,
        )
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.proto = 0
        self.append = self.stack.append
        read, dispatch = self.read, self.dispatch
        try:
            while key := read(1):
                dispatch[key[0]](self)
        except _Stop as stop:
            return stop.value
        raise EOFError

    def load_frame(self) -> None:
        self.read(8)

    def load_long_binput(self) -> None:
        """What most opcodes of a large pickle are."""
        place = int.from_bytes(self.read(4), "little")
        if place in self.memo.left:
            self.memo[place] = self.stack[-1]
        else:
            self.memo.put += 1

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{plain(module)}.{plain(name)}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"persistent object {shown(pid)}")

    def load_empty_list(self) -> None:
        """The outermost list has no object below it and no mark before it."""
        outermost = not self.stack and not self.metastack
        self.append(_Entries(self._size) if outermost else [])

    def load_list(self) -> None:
        """The same as protocol 0 writes it: empty at first."""
        items = self.pop_mark()
        self.load_empty_list()
        self.stack[-1].extend(items)

    def _check_tuple(self) -> None:
        depth_of_tuple(self.stack[-1], self._depths)

    def load_tuple(self) -> None:
        super().load_tuple()
        self._check_tuple()

    def load_tuple1(self) -> None:
        super().load_tuple1()
        self._check_tuple()

    def load_tuple2(self) -> None:
        super().load_tuple2()
        self._check_tuple()

    def load_tuple3(self) -> None:
        super().load_tuple3()
        self._check_tuple()

    def load_build(self) -> None:
        """Only the stand-ins take a state: a pickle could change functions and classes with it."""
        if not isinstance(self.stack[-2], WITH_STATE):
            raise pickle.UnpicklingError(f"a state for a {type(self.stack[-2]).__name__}")
        super().load_build()

    dispatch: ClassVar[dict[int, Any]] = {
        **_Unpickler.dispatch,
        pickle.FRAME[0]: load_frame,
        pickle.LONG_BINPUT[0]: load_long_binput,
        pickle.EMPTY_LIST[0]: load_empty_list,
        pickle.LIST[0]: load_list,
        pickle.BUILD[0]: load_build,
        pickle.TUPLE[0]: load_tuple,
        pickle.TUPLE1[0]: load_tuple1,
        pickle.TUPLE2[0]: load_tuple2,
        pickle.TUPLE3[0]: load_tuple3,
    }


def _load(path: Path, encoding: str) -> Any:
    require_regular(path, what="pickle")
    size = path.stat().st_size
    with open(path, "rb") as stream:
        if (pieces := pieces_of(stream, size)) is not None:
            entries = _Entries(size)
            for group in pieces.read(stream, encoding):
                entries.extend(group)
            return entries
        stream.seek(0)
        fetches = _fetches(stream, size)
        stream.seek(0)
        content = _PlainUnpickler(stream, fetches, encoding, size).load()
    if not isinstance(content, EntryFile):
        check_values(content, most_values(size))
    return content


def load_plain_pickle(path: Path) -> Any:
    """The content of a pickle of protocol 0 to 5, written by Python 2 or 3; an outermost list is an `EntryFile`.

    Byte strings of Python 2 are taken as UTF-8, or else as Latin-1.

    Raises:
        ArtifactError: the file cannot be read, is no pickle, is cut off, or asks for any other object than
        containers, text and numbers (named in the message).
    """
    try:
        try:
            return _load(path, "utf-8")
        except UnicodeDecodeError:
            return _load(path, "latin1")
    except OSError as error:
        raise cannot_read(path, error) from error
    except SeqresError:
        raise
    except _Refused as error:
        raise ArtifactError(
            f"{path} asks for {error}, which annotations do not need",
            facts=["only lists, dicts, text and numbers are loaded: a pickle can run any program"],
            hint="get the file from its original source",
        ) from None
    except Exception as error:  # a hostile or broken pickle can fail in any way
        refuse_other_kinds(path)
        raise ArtifactError(
            f"{path} is no pickle that can be read", facts=[f"{type(error).__name__}: {str(error)[:120]}"]
        ) from error
