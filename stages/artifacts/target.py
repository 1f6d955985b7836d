"""What can be known about an output before the work that fills it.

Everything is written beside its target and renamed, and a rename replaces whatever bears the name: a device, a pipe, a
socket. So what exists and is no regular file is never a target. A link is followed.
"""

import contextlib
import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.errors import SeqresError, UsageError

_STREAMS = ("/dev/fd/", "/dev/std", "/proc/")
_LONGEST_LINK = 40
# The longest companion of NAME is the resume state while it is written: ..NAME.resume.0123456789ab.tmp
_COMPANION_BYTES = 26
_LEAST_FREE = 64 << 10  # bytes


def require_file_target(path: Path, what: str = "--out", example: str = "out.h5") -> None:
    """UsageError unless `path` is free, or a regular file (perhaps behind links). `what` asks for it: an option."""
    hint = f"give the name of a file: {what} {example}"
    if str(path) == "-":
        raise UsageError(
            f"{what} -: a result is a whole file and cannot go to standard output",
            hint=f"{hint}; --json prints a summary",
        )
    if any(_is_stream(link) for link in _links(path)):
        raise UsageError(f"{what} {path} is a stream and no file", facts=["nothing was written"], hint=hint)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UsageError(f"cannot write {path}: {(error.strerror or 'error').lower()}", hint=hint) from error
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{path} is a folder", hint=f"give a file: {what} {shlex.quote(str(path / example))}"
        )
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{path} is {_named(mode)} and no regular file",
            facts=["it is left as it is, even with --force"],
            hint=hint,
        )


def refuse_inputs(out: Path, sources: Iterable[Path]) -> None:
    """UsageError when `out` is one of what it is made from."""
    if any(out.exists() and source.exists() and out.samefile(source) for source in sources):
        raise UsageError(f"--out {out} is also an input", hint="choose another --out")


def require_folder_target(path: Path, what: str) -> None:
    """UsageError when `path` exists and is no folder."""
    if path.is_symlink() and not path.exists():
        raise UsageError(f"{path} is a link to nothing", hint=f"give a folder: {what} pictures")
    if path.exists() and not path.is_dir():
        kind = "a file" if path.is_file() else _named(path.stat().st_mode)
        raise UsageError(f"{path} is {kind}", hint=f"give a folder: {what} pictures")


def require_writable(path: Path, *, least_free: int = _LEAST_FREE) -> None:
    """Raise when a file (or folder) `path` could not be made or replaced: permission, name, device, space (bytes).

    Raises:
        UsageError: the place is wrong.
        SeqresError: there is less than `least_free` bytes of space.
    """
    target = Path(os.path.realpath(path))
    try:
        folder = nearest_folder(target)
        reason, facts = _obstacle(target, folder)
        disk = os.statvfs(folder) if hasattr(os, "statvfs") else None
    except OSError as error:
        reason, facts, disk = (error.strerror or "error").lower(), [], None
    if reason:
        raise UsageError(f"cannot write {path}: {reason}", facts=facts, hint="choose another place")
    if disk is None or not disk.f_blocks:  # some network file systems do not tell
        return
    free = disk.f_bavail * disk.f_frsize
    if free < least_free:
        raise SeqresError(
            f"cannot write {path}: no space left on device",
            facts=[f"free: {free} bytes, needed: {least_free} at least"],
            hint=f"df -h {shlex.quote(str(folder))}",
        )


def nearest_folder(target: Path) -> Path:
    """The first part above `target` that exists; a folder, unless something is wrong."""
    folder = target.absolute().parent
    while not folder.exists():
        folder = folder.parent
    return folder


def _obstacle(target: Path, folder: Path) -> tuple[str, list[str]]:
    """Why `target` cannot be made in or below the existing `folder`; "" when nothing is known against it."""
    if not folder.is_dir():
        return f"{folder} is not a folder", []
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
        return f"{folder} is on a read-only file system" if read_only else f"no permission in {folder}", []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        longest = os.pathconf(folder, "PC_NAME_MAX")
        names = [(target.name, longest - _COMPANION_BYTES)]
        names += [(part, longest) for part in target.parent.relative_to(folder).parts]
        for name, most in names:
            if len(os.fsencode(name)) > most:
                return "file name too long", [f"{len(os.fsencode(name))} bytes, at most {most}"]
    if target.is_file():
        if os.path.ismount(target):
            return "it is a mount point, which cannot be replaced", [
                "mount the folder in place of the single file"
            ]
        sticky, user = folder.stat().st_mode & stat.S_ISVTX, getattr(os, "geteuid", lambda: 0)()
        if sticky and user not in (0, target.stat().st_uid, folder.stat().st_uid):
            return "the file belongs to somebody else", [f"{folder} lets only the owner replace it"]
    return "", []


def _links(path: Path) -> Iterator[Path]:
    """`path`, and what it links to, one after the other."""
    link = path.absolute()
    for _ in range(_LONGEST_LINK):
        yield link
        if not link.is_symlink():
            return
        link = link.parent / os.readlink(link)
    raise UsageError(f"{path} is a link that leads to itself", hint="remove it, or choose another place")


def _is_stream(link: Path) -> bool:
    """Whether the name stands for what a process has open: /dev/stdout, /dev/fd/63 of a process substitution."""
    return f"{link}".startswith(_STREAMS) or os.path.realpath(link.parent).startswith("/proc/")


def _named(mode: int) -> str:
    kinds = {
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFIFO: "a named pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
