"""A fault at the k-th file operation below a folder: the process is killed there, or the system refuses.

Operations are seen by an audit hook (open, rename, remove, mkdir …) and by patches where Python tells no hook (write,
fsync, the exchange of two folders). Neither can be taken back, so this is for a process that ends afterwards.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["none", "kill", "torn", "full", "broken", "read-only"]
ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO, "read-only": errno.EROFS}
_NEEDS_SPACE = {"open", "write", "mkdir"}
_HOOKS = {
    "os.rename": "rename", "os.remove": "remove", "os.rmdir": "rmdir", "os.mkdir": "mkdir", "os.chmod": "chmod",
    "os.truncate": "truncate", "os.link": "link", "os.symlink": "symlink",
}  # fmt: skip
_RANDOM = re.compile(r"[0-9a-f]{12}(?=\.(tmp|old))")


@dataclass
class Fault:
    """What happens at operation `at` (from 1).

    kill: SIGKILL before it. torn: SIGKILL after half of a write. full: no space from here on. broken: this one fails.
    read-only: everything is refused, whatever `at`.
    """

    root: Path
    kind: Kind = "none"
    at: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)  # operation, path below the root

    def install(self) -> None:
        sys.addaudithook(self._hook)
        builtins.open = io.open = self._open  # type: ignore[assignment]
        os.write = self._write(os.write)
        os.pwrite = self._write(os.pwrite)
        os.fsync = self._around("fsync", os.fsync)
        from stages.artifacts import temporary
        from stages.weights import exchange

        temporary._exchange = self._around("exchange", temporary._exchange)
        exchange.save_file = self._save_file(exchange.save_file)

    def happens(self, name: str, path: Any) -> bool:
        """Count an operation, and do what is due; True: half of this write, then death."""
        below = self._below(path)
        if below is None:
            return False
        self.seen.append((name, below))
        here = len(self.seen)
        if self.kind == "kill" and here == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        refused = {
            "full": here >= self.at and name in _NEEDS_SPACE,
            "broken": here == self.at,
            "read-only": True,
        }
        if refused.get(self.kind):
            number = ERRORS[self.kind]
            raise OSError(number, os.strerror(number), str(path))
        return self.kind == "torn" and here == self.at

    def _below(self, path: Any) -> str | None:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}").removesuffix(" (deleted)")
        whole = os.path.abspath(os.fsdecode(path))
        below = os.path.relpath(whole, self.root)
        return None if below.startswith("..") else _RANDOM.sub("*", below)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.happens("open", path)
        elif event in _HOOKS:
            path, folder = arguments[0], arguments[-1]
            if event in ("os.remove", "os.rmdir") and isinstance(folder, int) and folder >= 0:
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
            self.happens(_HOOKS[event], path)

    def _around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any) -> Any:
            self.happens(name, path)
            return function(path, *arguments)

        return call

    def _write(self, function: Callable[..., int]) -> Callable[..., int]:
        def write(descriptor: int, data: Any, *where: int) -> int:
            if self.happens("write", descriptor):
                half = memoryview(data).cast("B")
                function(descriptor, half[: len(half) // 2], *where)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(descriptor, data, *where)

        return write

    def _save_file(self, function: Callable[..., None]) -> Callable[..., None]:
        """safetensors writes in Rust: one operation."""

        def save(state: Any, path: Path, **options: Any) -> None:
            torn = self.happens("write", path)
            function(state, path, **options)
            if torn:
                os.truncate(path, os.stat(path).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        return save

    def _open(self, file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        """`open` whose writes are seen."""
        if not set(mode) & set("wxa+") or (not isinstance(file, int) and self._below(file) is None):
            return _REAL_OPEN(file, mode, *rest, **options)
        names = ("buffering", "encoding", "errors", "newline", "closefd", "opener")
        given = dict(zip(names, rest, strict=False)) | options
        raw = _RawFile(
            file, mode.replace("b", "").replace("t", ""), given.get("closefd", True), given.get("opener")
        )
        raw.write_through = self._write(lambda _, data: io.FileIO.write(raw, data))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)  # type: ignore[type-var]
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(
            buffered, given.get("encoding") or "utf-8", given.get("errors"), given.get("newline")
        )


class _RawFile(io.FileIO):
    write_through: Callable[..., int]

    def write(self, data: Any) -> int:
        return self.write_through(self.fileno(), data)


_REAL_OPEN = io.open
