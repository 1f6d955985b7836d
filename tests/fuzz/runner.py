"""Runs cases in child processes that are allowed 5 s of processor time and 1 GB a case, and sorts what happens.

A child takes case after case, so that starting it costs nothing; when one ends it (a signal, the limit of time or memory)
the next child goes on with the following case. Case i of a target is the same whatever ran before: `--only` repeats it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

import cv2

from stages.errors import SeqresError

CPU_S, WALL_S = 5.0, 60.0
MEMORY = 1 << 30
_RENEW = 400 << 20  # bytes that a child may have gained before a fresh one goes on


Read = Callable[[], object]


class Target(Protocol):
    """One reader: `prepare` writes what all cases start from, `case` damages a copy and gives what is tried on it.

    `warm` reads a copy that is not damaged, so that the modules are loaded before the children are made.
    """

    name: str

    def prepare(self, folder: Path) -> None: ...

    def warm(self, here: Path, folder: Path) -> None: ...

    def case(self, seeds: Path, folder: Path, rng: Random) -> Read: ...


def copied(seeds: Path, folder: Path) -> Path:
    """Where a case may damage what `prepare` wrote."""
    shutil.copytree(seeds, folder / "in", symlinks=True)
    return folder / "in"


@dataclass
class Outcome:
    """`kind` is fine, told (an error of the project's family), traceback, hang, memory or crash."""

    case: int
    kind: str
    detail: str = ""


@dataclass
class Result:
    target: str
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        return sum(self.counts.values())


def run_target(target: Target, cases: Iterable[int], seed: int = 0) -> Result:
    result, start = Result(target.name), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seqres-fuzz-") as scratch:
        seeds = Path(scratch, "seeds")
        seeds.mkdir()
        cv2.setNumThreads(0)  # a pool of threads here would make OpenCV hang in the children
        target.prepare(seeds)
        warm = Path(scratch, "warm")
        warm.mkdir()
        with nothing_printed():
            target.warm(copied(seeds, warm), warm)
        todo = list(cases)
        while todo:
            done = list(_child(target, todo, seeds, Path(scratch, "case"), seed))
            for outcome in done:
                result.counts[outcome.kind] += 1
                if outcome.kind not in ("fine", "told"):
                    result.findings.append(outcome)
            todo = todo[len(done) :]
    result.seconds = time.monotonic() - start
    return result


@contextlib.contextmanager
def nothing_printed() -> Iterator[None]:
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _child(target: Target, todo: list[int], seeds: Path, folder: Path, seed: int) -> Iterator[Outcome]:
    """Outcomes of the first cases of `todo`, until the child ends; at least one."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _work(target, todo, seeds, folder, seed, writing)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as stream:
        pending, buffer, alone = todo[0], b"", False
        while True:
            ready, _, _ = select.select([stream], [], [], WALL_S)
            if not ready:
                os.kill(pid, signal.SIGKILL)
                alone = True
            piece = stream.read(1 << 16) if ready else b""
            if not piece:
                break
            buffer += piece
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                entry = json.loads(line)
                if "kind" in entry:
                    yield Outcome(**entry)
                else:
                    pending = entry["case"]
    _, status = os.waitpid(pid, 0)
    if alone:
        yield Outcome(pending, "hang", f"nothing for {WALL_S:.0f} s")
    elif os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        yield Outcome(pending, "hang" if number == signal.SIGPROF else "crash", signal.Signals(number).name)
    elif os.WEXITSTATUS(status) not in (0, 7):
        yield Outcome(pending, "crash", f"exit {os.WEXITSTATUS(status)}")


def _work(target: Target, todo: list[int], seeds: Path, folder: Path, seed: int, writing: int) -> None:
    code = 1
    try:
        faulthandler.disable()
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        warnings.simplefilter("ignore")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = _address_space()
        resource.setrlimit(resource.RLIMIT_AS, (used + 3 * MEMORY, used + 3 * MEMORY))
        first = _peak()
        for case in todo:
            os.write(writing, json.dumps({"case": case}).encode() + b"\n")
            kind, detail = _one(target, case, seeds, folder, seed)
            line = json.dumps({"case": case, "kind": kind, "detail": detail[:600]})
            os.write(writing, line.encode() + b"\n")
            if _peak() - first > _RENEW:
                break
        code = 7
    finally:
        os._exit(code)


def _one(target: Target, case: int, seeds: Path, folder: Path, seed: int) -> tuple[str, str]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    read = target.case(seeds, folder, Random(f"{seed} {target.name} {case}"))
    before = _peak()  # what damaging takes is not the reader's
    kind, detail = _read(read)
    gained = _peak() - before
    return ("memory", f"{gained >> 20} MiB; {kind} {detail}") if gained > MEMORY else (kind, detail)


def _read(read: Read) -> tuple[str, str]:
    try:
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        read()
    except SeqresError as error:
        words = "\n".join([error.message, *error.facts, error.hint or ""])
        if len(words) > 60_000:
            return "traceback", f"a message of {len(words)} characters"
        return "told", error.message
    except MemoryError as error:
        return "memory", _place(error)
    except Exception as error:
        return "traceback", _place(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "fine", ""


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/stages/" in f.filename or "/seqres_cli/" in f.filename]
    at = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(own[-4:]))
    words = ""
    with contextlib.suppress(Exception):
        words = str(error)[:150]
    return f"{type(error).__name__} at {at}: {words}"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
