"""Reading a large JSON file entry by entry: its long lists become `EntryFile`s, so memory does not grow with the file.

Only the outermost list, or the lists in the outermost object, are read like that: images, annotations, one list a
split. What is inside of an entry goes through `json` as a whole, so texts, numbers and repeated keys are taken exactly as by
`load_json`. Where anything is odd, `load_json` reads the file again, because it can say where in the file it is.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from stages.data.readers.entry_file import EntryFile
from stages.data.readers.records import check_file_size, load_json, once_each, open_text
from stages.errors import ArtifactError

_PIECE = 1 << 20  # characters
_BLANKS = re.compile(r"[ \t\n\r]*")
_AFTER_A_VALUE = frozenset(",:]} \t\n\r")

List = list | EntryFile  # how a list of annotations may be given


def load_json_lists(path: Path, keep: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """As `load_json`, with the same errors, but the outermost lists are `EntryFile`s."""
    check_file_size(path)
    try:
        with open_text(path) as stream:
            return _Document(stream, json.JSONDecoder(object_pairs_hook=once_each(keep))).read()
    except (OSError, ValueError, RecursionError):
        return load_json(path, keep)


class _Document:
    """A window that moves over the text; ValueError for everything that `load_json` has to look at."""

    def __init__(self, stream: TextIO, decoder: json.JSONDecoder) -> None:
        self._stream, self._decode = stream, decoder.raw_decode
        self._text, self._at = "", 0

    def read(self) -> Any:
        content = self._object() if self._next() == "{" else self._list_or_value()
        if self._next():
            raise ValueError("text after the end")
        return content

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in self._items("}"):
            key = self._value()
            if not isinstance(key, str) or key in found or self._take() != ":":
                raise ValueError("no object, or a key twice")
            found[key] = self._list_or_value()
        return found

    def _list_or_value(self) -> Any:
        if self._next() != "[":
            return self._value()
        entries = EntryFile()
        for _ in self._items("]"):
            entries.append(self._value())
        return entries

    def _items(self, closing: str) -> Iterator[None]:
        """Yields where an item begins."""
        self._take()
        if self._next() == closing:
            self._take()
            return
        mark = ","
        while mark == ",":
            yield
            mark = self._take()
        if mark != closing:
            raise ValueError("neither a comma nor the end of a list or object")

    def _value(self) -> Any:
        """The next value, with as much more text as it needs."""
        self._next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except ValueError:
                if not self._more():
                    raise
                continue
            if self._text[end : end + 1] in _AFTER_A_VALUE:  # else a number may go on
                self._at = end
                return value
            if not self._more():
                raise ValueError("something else after a value")

    def _next(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            assert blanks is not None
            self._at = blanks.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self) -> str:
        mark = self._next()
        self._at += 1
        return mark

    def _more(self) -> bool:
        """Twice as much text each time, so that a long value is not tried again and again."""
        rest = self._text[self._at :]
        piece = self._stream.read(max(_PIECE, len(rest)))
        self._text, self._at = rest + piece, 0
        return bool(piece)


def require_coco_lists(
    path: Path, content: Any, *, optional: Sequence[str] = (), hint: str = "it must be a COCO instances file"
) -> None:
    """ArtifactError unless the file has the lists images, annotations and categories; `optional`: those that may be absent."""
    for part in ("images", "annotations", "categories"):
        given = content.get(part) if isinstance(content, dict) else None
        if not isinstance(given, List) and (given is not None or part not in optional):
            raise ArtifactError(f"{path} has no list {part!r}", hint=hint)
