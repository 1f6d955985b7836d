"""Files beside the artifacts (lists, pictures, tables): they appear complete or not at all."""

import os
from collections.abc import Iterable
from pathlib import Path

from stages.artifacts.target import require_file_target
from stages.artifacts.temporary import replace_file, temporary_file
from stages.errors import ArtifactError, StaleOutputError


def write_whole(path: Path, content: bytes, *, tidy: bool = True) -> None:
    """Write beside the target, then rename; folders are made, a link is followed, an old file stays until the rename.

    `tidy`: also remove what a killed writer of this file has left.

    Raises:
        UsageError: something that is no regular file has the name.
        ArtifactError: it cannot be written.
    """
    require_file_target(path, "the file", path.name)
    target = Path(os.path.realpath(path))
    try:
        with temporary_file(target, tidy=tidy) as (descriptor, temporary):
            with open(descriptor, "wb", closefd=False) as stream:
                stream.write(content)
            os.fsync(descriptor)
            replace_file(temporary, target)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {(error.strerror or 'error').lower()}") from error


def refuse_present(pictures: Iterable[Path]) -> None:
    """StaleOutputError when a picture would be drawn over another."""
    if present := [path for path in pictures if path.exists()]:
        raise StaleOutputError(
            f"{present[0]} exists",
            facts=[f"and {len(present) - 1} more of the pictures to draw"] if len(present) > 1 else [],
            hint="replace them with --force, or choose another folder with --overlays",
        )


def require_plain_file(path: Path | None) -> None:
    """ArtifactError where something else than a file is there: a folder is no list, and a pipe may never end."""
    if path is not None and path.exists() and not path.is_file():
        raise ArtifactError(
            f"{path} is {'a folder' if path.is_dir() else 'no regular file'}", hint="give a file"
        )
