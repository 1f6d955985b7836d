"""How a stage tells what it is doing, without knowing who listens: a terminal, a notebook or nobody."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol


class ProgressTask(Protocol):
    """One piece of long work that is under way."""

    def advance(self, n: int = 1, **numbers: float) -> None:
        """`n` units are done; `numbers` (loss=0.31, lr=5e-4) are shown beside the bar."""


class Reporter(Protocol):
    """Where messages and progress go. Never the result: that is returned by `run`."""

    def info(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def progress(
        self, description: str, total: int | None, unit: str = "it"
    ) -> AbstractContextManager[ProgressTask]: ...


class SilentReporter:
    """Says nothing; the default of every stage, used in tests."""

    def info(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    @contextmanager
    def progress(self, description: str, total: int | None, unit: str = "it") -> Iterator[ProgressTask]:
        yield _SilentTask()


class _SilentTask:
    def advance(self, n: int = 1, **numbers: float) -> None:
        pass


class TqdmReporter:
    """For scripts and notebooks that call `stages.<stage>.run` themselves; a bar of tqdm.auto on stderr."""

    def info(self, message: str) -> None:
        _write(message)

    def warn(self, message: str) -> None:
        _write(f"warning: {message}")

    @contextmanager
    def progress(self, description: str, total: int | None, unit: str = "it") -> Iterator[ProgressTask]:
        from tqdm.auto import tqdm

        bar = tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True, file=_Deaf(sys.stderr))
        try:
            yield _TqdmTask(bar)
        finally:
            bar.close()


def _write(line: str) -> None:
    from tqdm.auto import tqdm

    tqdm.write(line, file=_Deaf(sys.stderr))  # goes above a bar that is being drawn


class _Deaf:
    """A stream whose failures (a closed terminal, a full disk) are nobody's business: the work goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __eq__(self, other: object) -> bool:
        """tqdm looks whether a line and a bar go to the same stream."""
        return self._stream is getattr(other, "_stream", other)

    def __hash__(self) -> int:
        return hash(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _TqdmTask:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, n: int = 1, **numbers: float) -> None:
        if numbers:
            self._bar.set_postfix_str(number_words(numbers), refresh=False)
        self._bar.update(n)


def number_words(numbers: dict[str, float]) -> str:
    """The numbers beside a bar: "loss 0.3125  lr 0.0005"."""
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
