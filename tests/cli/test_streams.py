"""Streams that fail, and requests to end: the work is done all the same, and files are put in order."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from seqres_cli.ending import ended_like_ctrl_c
from seqres_cli.main import main
from stages.reporter import Reporter, TqdmReporter

LATIN = os.fsdecode(b"caf\xe9")
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")


def tell_much(reporter: Reporter) -> None:
    reporter.info("a röd line")
    reporter.warn(f"a name: {LATIN}")
    with reporter.progress("work █", 3) as task:
        for _ in range(3):
            task.advance(loss=0.5)


@pytest.fixture
def toy(stage: Any, data: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Words that call the stage, which tells much."""
    stage.effect = tell_much

    def words(*more: str, out: str = "out.h5") -> list[str]:
        return ["toy-stage", "--dataset", str(data), "--out", str(tmp_path / out), *more]

    return words


@pytest.fixture
def full() -> Iterator[TextIO]:
    with open("/dev/full", "w", encoding="utf-8") as stream:
        yield stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is left in it has to go somewhere


@pytest.fixture
def closed_terminal() -> Iterator[TextIO]:
    """The program's end of a terminal whose window was closed: writing is refused with EIO."""
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        os.close(ours)
        yield stream


@needs_full
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_disk_behind_both_streams_costs_neither_work_nor_exit_code(
    toy: Callable[..., list[str]], tmp_path: Path, full: TextIO, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "stderr", full)
    monkeypatch.setattr(sys, "stdout", full)
    assert main(toy(*more)) == 0
    assert (tmp_path / "out.h5").exists()
    assert sys.stdout is full


@needs_full
def test_a_result_that_is_nowhere_else_and_cannot_be_printed_is_a_failure(
    data: Path, full: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    assert main(["inspect", str(data)]) == 1
    assert capsys.readouterr().err == "warning: the result could not be printed: no space left on device\n"


def test_a_closed_terminal_does_not_end_the_work(
    toy: Callable[..., list[str]], tmp_path: Path, closed_terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", closed_terminal)
    monkeypatch.setattr(sys, "stdout", closed_terminal)
    assert main(toy()) == 0
    assert (tmp_path / "out.h5").exists()


def test_a_stream_that_was_closed_in_this_process(
    toy: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert main(toy()) == 0
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert main(toy(out="other.h5")) == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_every_encoding_takes_every_text(
    toy: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, encoding: str, more: tuple[str, ...]
) -> None:
    raw = io.BytesIO(), io.BytesIO()
    for name, buffer in zip(("stdout", "stderr"), raw, strict=True):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(buffer, encoding=encoding, errors="strict"))
    assert main(toy(*more, out=f"{LATIN} ö.h5")) == 0
    told, progress = raw[0].getvalue(), raw[1].getvalue().decode(encoding)
    if more:
        assert json.loads(told.decode("ascii"))["path"].endswith("caf\\xe9 ö.h5")
    else:
        assert "caf\\xe9 " in told.decode(encoding)
    assert {"ascii": r"a r\xf6d line", "latin-1": "a röd line", "utf-8": "a röd line"}[encoding] in progress
    assert "a name: caf\\xe9" in progress
    assert ("work █" if encoding == "utf-8" else "work #") in progress


def test_errors_about_odd_names_are_told(seqres: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    done = seqres("inspect", f"{LATIN}.h5", "--json")
    assert done.code == 3
    assert json.loads(done.out)["error"]["message"] == "no such file: caf\\xe9.h5"
    assert done.out.isascii()
    assert done.err.startswith("error: no such file: caf\\xe9.h5\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_descriptors_that_were_closed_from_outside(
    data: Path, tmp_path: Path, project_root: Path, closed: str
) -> None:
    """Without care the artifact that is opened first would be standard output."""
    command = f"'{sys.executable}' -m seqres_cli verify '{data}' {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=project_root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_progress_of_a_notebook_does_not_end_the_work_either(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    tell_much(TqdmReporter())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_request_to_end_is_an_interruption(
    stage: Any, data: Path, tmp_path: Path, seqres: Callable[..., Any], number: signal.Signals, code: int
) -> None:
    stage.effect = lambda reporter: os.kill(os.getpid(), number)
    before = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    of_pytest = signal.signal(number, before)  # a run in the background ignores SIGHUP or SIGINT
    try:
        done = seqres("toy-stage", "--dataset", data, "--out", tmp_path / "out.h5", "--json")
    finally:
        left = signal.signal(number, of_pytest)
    assert done.code == code
    assert json.loads(done.out)["error"]["exit_code"] == code
    assert done.err.startswith("error: interrupted\n")
    assert [p.name for p in tmp_path.iterdir()] == ["data.h5"]
    assert left is before


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_like_ctrl_c() as ended:
            os.kill(os.getpid(), signal.SIGHUP)
        assert ended.signal == 0
    finally:
        signal.signal(signal.SIGHUP, before)
