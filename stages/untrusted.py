"""Values that come from a file of a stranger: quoted in bounded length, parsed within bounds, opened without waiting.

A value may be nested a million times, share its parts so that printing it takes for ever, or be a number of a million
digits, all in a file of a few bytes. Nothing here fails on such a value, and nothing takes longer than a value deserves.
"""

import json
import math
import os
import reprlib
import stat
from pathlib import Path
from typing import Any, NoReturn

from stages.errors import ArtifactError

DEEPEST = 64  # levels of lists and objects in JSON and TOML
_MOST_DIGITS = 300  # of a whole number: the next power of ten is no float any more
_ESCAPED_HALF = "\\ud"  # how JSON begins one; two of them are a whole character
_SHOWN = 60  # characters of a value in a message


_CONTAINERS = (list, tuple, set, frozenset, dict)


class _Short(reprlib.Repr):
    """Like `repr`, at most three levels deep and three entries wide."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 4
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 512 else f"a number of {x.bit_length()} bits"

    def repr_bytearray(self, x: bytearray, level: int) -> str:
        return f"bytearray({self.repr1(bytes(x[: self.maxstring]), level)})"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: self.maxstring])


_SHORT = _Short()


def shown(value: Any, most: int = _SHOWN) -> str:
    """`repr` of a value of a file for a message: at most `most` characters, whatever the value is."""
    text = _SHORT.repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def plain(value: Any, most: int = _SHOWN) -> str:
    """As `shown`, but text as it is, without quotes: for names."""
    if not isinstance(value, str):
        return shown(value, most)
    return value if len(value) <= most else value[: most - 1] + "…"


def printable(text: str) -> str:
    """The text on one line, without control characters and lone surrogates: sentences are untrusted."""
    clean = "".join(c if c.isprintable() else " " for c in text.encode("utf-8", "replace").decode("utf-8"))
    return " ".join(clean.split())


def float_of(value: Any) -> float:
    """`float(value)`; ValueError also where that is no finite number or is too large for one."""
    try:
        number = float(value)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{shown(value)} is no number") from error
    if not math.isfinite(number):
        raise ValueError(f"{shown(value)} is not finite")
    return number


def is_deep(value: Any, most: int = DEEPEST) -> bool:
    """Whether lists and mappings are nested more than `most` levels; parts that are shared are looked at once a level."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(most):
        below: dict[int, Any] = {}
        for one in level:
            for part in one.values() if isinstance(one, dict) else one:
                if isinstance(part, _CONTAINERS):
                    below[id(part)] = part
        level = list(below.values())
    return bool(level)


def parse_json(text: str | bytes) -> Any:
    """JSON of this project's own making, as a stranger may have changed it.

    Raises:
        ValueError: no JSON, NaN or an infinity, a number of more than 300 digits, more than 64 levels, half a character
            (which nothing can write again).
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))  # json.loads alone lets half a character pass
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if is_deep(value):
        raise ValueError(f"more than {DEEPEST} levels")
    if _ESCAPED_HALF in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("half a character in a text") from error
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{plain(text)} is too large a number")
    return number


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def require_regular(path: Path | str, *, largest: int | None = None, what: str = "file") -> None:
    """Before a file is opened: a pipe would be waited for, a device never ends. Links are followed.

    Raises:
        ArtifactError: it is no regular file, or has more than `largest` bytes.
        OSError: it is not there, or may not be looked at.
    """
    try:
        status = os.stat(path)
    except ValueError as error:  # a name with NUL, or with half a character
        raise ArtifactError(f"{shown(str(path))} is no name of a file") from error
    if stat.S_ISDIR(status.st_mode):
        raise ArtifactError(f"{path} is a folder, not a {what}")
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(
            f"{path} is no regular file", hint="pipes and devices are not read: save their content first"
        )
    if largest is not None and status.st_size > largest:
        raise ArtifactError(
            f"{path} has {status.st_size >> 20} MiB, more than the {largest >> 20} MiB that a {what} can have"
        )
