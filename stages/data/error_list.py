"""All that is wrong with a source, in a text file where that is asked for: messages show only the first ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.artifacts.target import require_file_target, require_writable
from stages.artifacts.whole_file import write_whole
from stages.errors import ArtifactError, StaleOutputError
from stages.reporter import Reporter

_FIRST = "# what prepare-data found wrong, one a line\n"


class ErrorList:
    """Lines for the file `path`; without one, nothing is written."""

    def __init__(self, path: str | None) -> None:
        """StaleOutputError when the file exists and is no such list: it is somebody else's."""
        self.lines: list[str] = []
        self._path = None if path is None else Path(path)
        if self._path is None:
            return
        require_file_target(self._path, "--errors-to", "errors.txt")
        require_writable(self._path)
        if self._path.exists():
            with open(self._path, encoding="utf-8", errors="replace") as stream:
                if stream.readline() not in (_FIRST, ""):
                    raise StaleOutputError(
                        f"{self._path} exists and is no list of errors", hint="choose another --errors-to"
                    )

    @contextmanager
    def told_in_full(self) -> Iterator[None]:
        """An error that is raised inside is also written, with all its lines."""
        try:
            yield
        except ArtifactError as error:
            known = getattr(error, "problems", None)
            self.lines += list(known) if known is not None else ([] if self.lines else [str(error)])
            if not self._write():
                raise
            told = type(error)(
                error.message, facts=[*error.facts, f"all of them: {self._path}"], hint=error.hint
            )
            raise told from None

    def write(self, reporter: Reporter) -> None:
        """What was left out of a source that could be used otherwise; an old list goes when there is nothing."""
        if self._write() and self.lines:
            reporter.info(f"{len(self.lines)} entries that were left out: {self._path}")

    def _write(self) -> bool:
        if self._path is None:
            return False
        text = _FIRST + "".join(line.replace("\n", " ") + "\n" for line in self.lines)
        write_whole(self._path, text.encode("utf-8", "replace"))
        return True
