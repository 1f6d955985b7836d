"""Folders beside the artifacts (exports): they appear complete or not at all, and only our own are ever replaced."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from stages.artifacts.temporary import replace_folder, temporary_folder
from stages.errors import ArtifactError

Content = bytes | Callable[[], bytes]  # of a file; a call where it is large and read only when it is written


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` to write into; complete, it takes the place of `out`, and what was there goes last.

    Raises:
        ArtifactError: it cannot be written.
    """
    target = Path(os.path.realpath(out))
    try:
        with temporary_folder(target) as fresh:
            yield fresh
            replace_folder(fresh, target)
    except OSError as error:
        raise ArtifactError(
            f"cannot write {out}: {(error.strerror or 'error').lower()}", hint="choose another --out"
        ) from error


def write_whole_folder(
    out: Path, files: Mapping[str, Content], advance: Callable[[], None] = lambda: None
) -> None:
    """Write the files (relative names) by `whole_folder`."""
    with whole_folder(out) as fresh:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content())
            advance()


def holds_exactly(folder: Path, files: Mapping[str, Content]) -> bool:
    """Whether the folder has these files and no others, byte for byte."""
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    return present == set(files) and all(
        (folder / name).read_bytes() == (content if isinstance(content, bytes) else content())
        for name, content in files.items()
    )
