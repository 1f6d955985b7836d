"""Reading a pickle that holds nothing but containers, text and numbers; anything else is refused by name.

A pickle may name any function of any module and have it called. The annotation files of the public data sets
need none of that, so no name is looked up at all; for numbers and arrays of numpy there are stand-ins (plain_numpy.py).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from stages.data.readers.plain_numpy import STAND_INS
from stages.errors import ArtifactError
from stages.file_kinds import refuse_other_kinds
from stages.nearest import cannot_read


def _latin1(text: str, encoding: str) -> bytes:
    """How protocols 0 to 2 write the bytes of Python 3: encode(text, "latin1")."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes written with the encoding {encoding!r}")
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


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"persistent object {pid!r}")


def load_plain_pickle(path: Path) -> Any:
    """The content of a pickle of protocol 0 to 5, written by Python 2 or 3.

    Byte strings of Python 2 are taken as UTF-8, or else as Latin-1.

    Raises:
        ArtifactError: the file cannot be read, is no pickle, is cut off, or asks for any other object than
        containers, text and numbers (named in the message).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error
    try:
        try:
            return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
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
