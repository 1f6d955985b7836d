"""Files and folders that are written beside their target until they are whole, and what killed runs leave of them.

The temporary of `NAME` is `.NAME.<12 hex digits>.tmp` in the same folder. Its writer holds a lock (flock) on it, which
goes with the process, however that ends. So a temporary that can be locked is litter of a killed run, and the next
write to the same target removes it. Nothing else is ever removed: no other name, and nothing where locks do not work.
"""

import contextlib
import ctypes
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: no locks, so litter of killed runs stays
    fcntl = None

PRIVATE_USES = ("resume", "rounds")
_LITTER = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{12}\.(tmp|old)", re.DOTALL)
_LIBC_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_LIBC_HERE = -100  # AT_FDCWD


@contextlib.contextmanager
def temporary_file(target: Path, *, tidy: bool = True) -> Iterator[tuple[int, Path]]:
    """Descriptor (read and write) and path of a new file beside `target`; gone at the end, unless it was renamed.

    `tidy=False`: the caller has removed the litter of all files that it writes, so that folders of many are listed once.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if tidy:
        remove_litter(target)
    descriptor, temporary = _locked(target, folder=False)
    try:
        yield descriptor, temporary
    finally:
        with contextlib.suppress(OSError):  # what went wrong before is what must be told
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target`; gone at the end with all that is in it, unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_litter(target)
    descriptor, temporary = _locked(target, folder=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def replace_file(temporary: Path, target: Path) -> None:
    """The rename that makes a file the result, and that the folder remembers after a power cut."""
    os.replace(temporary, target)
    with contextlib.suppress(OSError):  # not every system can open a folder
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_folder(temporary: Path, target: Path) -> None:
    """The same of a folder. What was there bears the name of the temporary afterwards, and goes with it.

    Linux exchanges two names at once. Where that is impossible, a kill between two renames leaves no `target` but
    `.NAME.….old`, and the next write to it (`remove_litter`) puts that back first.
    """
    if not target.exists():
        os.rename(temporary, target)
    elif not _exchange(temporary, target):
        old = temporary.with_suffix(".old")
        os.rename(target, old)
        try:
            os.rename(temporary, target)
        except OSError:
            os.rename(old, target)
            raise
        os.rename(old, temporary)


def remove_litter(*targets: Path) -> None:
    """Remove what killed writers to these targets have left."""
    names = {(target.parent, target.name) for target in targets}
    for folder in {target.parent for target in targets} if fcntl is not None else ():
        with contextlib.suppress(OSError):
            for found in map(_LITTER.fullmatch, os.listdir(folder)):
                if found and (folder, found["target"]) in names:
                    _remove_dead(folder / found[0], folder / found["target"])


def private_file(out: Path, use: str) -> Path:
    """A file beside `out` that is gone on from after an interruption: `.rec.h5.resume`."""
    return out.with_name(f".{out.name}.{use}")


def remove_leftovers(out: Path) -> None:
    """What runs that wrote `out` have left, once that is whole: litter, and private files that are older than it."""
    remove_litter(out)
    with contextlib.suppress(OSError):
        for private in [private_file(out, use) for use in PRIVATE_USES]:
            if private.is_file() and private.stat().st_mtime <= out.stat().st_mtime:
                _remove_dead(private)


def _remove_dead(leftover: Path, target: Path | None = None) -> None:
    """Remove what no living process has locked; a folder that was moved away goes back where its target is missing."""
    with contextlib.suppress(OSError):
        folder = leftover.is_dir()
        descriptor = os.open(leftover, (os.O_RDONLY if folder else os.O_RDWR) | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if target is not None and leftover.suffix == ".old" and not target.exists():
                os.rename(leftover, target)
            elif folder:
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        finally:
            os.close(descriptor)


def _locked(target: Path, *, folder: bool) -> tuple[int, Path]:
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
        if folder:
            temporary.mkdir()
            descriptor = os.open(temporary, os.O_RDONLY)
        else:
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            return descriptor, temporary
        with contextlib.suppress(OSError):  # a file system without locks: litter stays, nothing breaks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another writer may have taken the new one for litter before the lock was on it.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == temporary.stat().st_ino:
                return descriptor, temporary
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Whether the two names were exchanged in one step."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another system than Linux
        return False
    names = (_LIBC_HERE, os.fsencode(first), _LIBC_HERE, os.fsencode(second), _LIBC_EXCHANGE)
    return renameat2(*names) == 0
