"""Standard streams that cannot end the work: a closed terminal, a full disk, a reader that left, an old encoding."""

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_ESCAPE = "seqres.escape"
_LOOKS_LIKE = {"█": "#", "…": "...", "±": "+-", "–": "-", "—": "-", "━": "-", "╸": "-", "╺": "-"}


def _escape(error: UnicodeError) -> tuple[str, int]:
    """A sign that the encoding lacks as one that looks like it; a byte of a name that is no UTF-8 as \\xe9."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    texts = [_escaped(sign) for sign in error.object[error.start : error.end]]
    return "".join(texts), error.end


def _escaped(sign: str) -> str:
    code = ord(sign)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that it could not decode
        return f"\\x{code - 0xDC00:02x}"
    return _LOOKS_LIKE.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(_ESCAPE, _escape)


class Patient:
    """A text stream that takes everything: after the first refusal of the system it only remembers that (`error`)."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors=_ESCAPE)

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        with contextlib.suppress(ValueError, OSError):
            return self.error is None and bool(self._stream.isatty())
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, action: Any, *arguments: str) -> None:
        if self.error is not None:
            return
        try:
            action(*arguments)
        except OSError as error:
            self._give_up(error)
        except ValueError as error:  # closed by somebody in this process
            self._give_up(OSError(str(error)))

    def _give_up(self, error: OSError) -> None:
        """What is still buffered goes nowhere, so that Python does not complain about it at its end."""
        self.error = error
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


@contextlib.contextmanager
def patient_streams() -> Iterator[tuple[Patient, Patient]]:
    """stdout and stderr that never fail, for the length of the block."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    # Python has None for what was closed from outside
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = (Patient(nowhere if stream is None else stream) for stream in before)
        sys.stdout, sys.stderr = out, err
        try:
            yield out, err
        finally:
            sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """A command started with `>&-` would give the number of its standard output to the first file that it opens."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):  # the lowest free number is this one
                os.open(os.devnull, os.O_RDWR)
