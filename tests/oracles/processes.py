"""Several processes of this one (by fork, so that nothing is imported again) that meet over gloo."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from stages.world import World, join


def in_processes(size: int, work: Callable[[World], None], folder: Path) -> None:
    """Run `work` in each; AssertionError with the tracebacks of those that failed, which are left in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=_run, args=(rank, size, port, work, folder)) for rank in range(size)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of a fork beside threads
        for process in started:
            process.start()
    for process in started:
        process.join(120)
        process.kill()
    told = [path.read_text() for path in sorted(folder.glob("failed-*.txt"))]
    assert not told, "\n".join(told)
    assert [process.exitcode for process in started] == [0] * size


def _run(rank: int, size: int, port: int, work: Callable[[World], None], folder: Path) -> None:
    code = 1
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    with contextlib.suppress(BaseException):
        try:
            world = join(rank, size, rank, size)
            work(world)
            world.leave()
            code = 0
        except BaseException:
            (folder / f"failed-{rank}.txt").write_text(traceback.format_exc())
    os._exit(code)  # no exit handlers of pytest
