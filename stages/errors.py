"""Every error that seqres raises on purpose; the exit code of the command line sits on the class.

An error has one lower-case line with the offending value (`message`), any number of facts (shown
indented below it) and a hint: a command that can be run, or an action that can be taken.
"""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence


class SeqresError(Exception):
    """Something that a person can understand and act on; no traceback is shown for it."""

    exit_code = 1

    def __init__(self, message: str, *, facts: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.facts = tuple(facts)
        self.hint = hint

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {fact}" for fact in self.facts)])

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own pickling would drop the keyword arguments on the way out of a worker process.
        return _rebuild, (type(self), self.message, self.facts, self.hint)


class UsageError(SeqresError):
    """A bad value of an option or of a key in the configuration file."""

    exit_code = 2


class ArtifactError(SeqresError):
    """A file that is missing, damaged, of the wrong kind, or does not belong with the other inputs."""

    exit_code = 3


class StaleOutputError(ArtifactError):
    """The output exists, but was made from other inputs or another configuration."""


class HiddenMaskError(ArtifactError):
    """A mask was asked for that the split hides."""


class TrainingError(SeqresError):
    """Training cannot go on, for instance because the loss is no number any more."""


def _rebuild(kind: type[SeqresError], message: str, facts: Sequence[str], hint: str | None) -> SeqresError:
    return kind(message, facts=facts, hint=hint)


def did_you_mean(value: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name nearest to `value`, or None when none is near.

    The same letters in another case, or with - for _ and blanks, come before mere likeness: testA for testa, where
    test is as like.
    """
    names = list(known)
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)
    if (same := plain.get(_plain(value))) is not None:
        return same
    near = difflib.get_close_matches(_plain(value), list(plain), n=1, cutoff=cutoff)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip().replace("_", "-").replace(" ", "-")


def nearest_hint(value: str, known: Iterable[str], form: str = "{}") -> str | None:
    """A hint for a name that is not known, or None when none is near; `form` says how the name is to be written."""
    near = did_you_mean(value, known)
    return None if near is None else f"did you mean {form.replace('{}', near)}?"


def first_of(items: Sequence[str], most: int) -> list[str]:
    """The first items of a list that may be long, and how many more there are: facts of an error."""
    left = len(items) - most
    return [*items[:most], *([f"and {left} more"] if left > 0 else [])]


def listed(items: Sequence[object], most: int) -> str:
    """The same in a line: "a, b and 3 more"."""
    left = len(items) - most
    return ", ".join(map(str, items[:most])) + (f" and {left} more" if left > 0 else "")
