"""A slice of `make fuzz` for every reader, and the runner itself: it must see what it looks for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from stages.errors import ArtifactError
from tests.fuzz import runner
from tests.fuzz.runner import run_target
from tests.fuzz.targets import TARGETS

SLOW = ("artifacts-bytes", "artifacts-structure", "weights-exported", "toml")  # tenths of a second a case
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("readers", "cases"), [(SLOW, 8), (tuple(n for n in TARGETS if n not in SLOW), 25)], ids=["slow", "quick"]
)
def test_no_case_of_a_slice_ends_in_anything_but_success_or_an_error_of_the_family(
    readers: tuple[str, ...], cases: int
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        *readers,
        "--cases",
        str(cases),
        "--jobs",
        "1",
        "--seed",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{cases * len(readers)} cases, 0 findings" in done.stdout


def _spin() -> None:
    while True:
        pass


def _told() -> None:
    raise ArtifactError("no good")


_BEHAVIOUR: tuple[tuple[str, Callable[[], object]], ...] = (
    ("fine", lambda: None),
    ("traceback", lambda: [][0]),
    ("told", _told),
    ("crash", lambda: os.kill(os.getpid(), signal.SIGSEGV)),
    ("memory", lambda: bytearray(1 << 33)),
    ("hang", _spin),
    ("traceback", lambda: "\ud800".encode()),
    ("hang", lambda: time.sleep(60)),
    ("fine", lambda: None),
)


class _Behaviour:
    name = "behaviour"

    def prepare(self, folder: Path) -> None:
        (folder / "seed").write_text("x")

    def warm(self, here: Path, folder: Path) -> None:
        assert (here / "seed").exists()

    def case(self, seeds: Path, folder: Path, rng: Random) -> Callable[[], object]:
        return _BEHAVIOUR[self.number][1]

    number = 0


def test_the_runner_tells_every_outcome_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CPU_S", 0.2)
    monkeypatch.setattr(runner, "WALL_S", 2.0)
    target = _Behaviour()

    def one(
        _: object, case: int, *rest: object, real: Callable[..., tuple[str, str]] = runner._one
    ) -> tuple[str, str]:
        target.number = case
        return real(target, case, *rest)

    monkeypatch.setattr(runner, "_one", one)
    result = run_target(target, range(len(_BEHAVIOUR)))
    expected = [kind for kind, _ in _BEHAVIOUR]
    assert [(f.case, f.kind) for f in result.findings] == [
        (i, kind) for i, kind in enumerate(expected) if kind not in ("fine", "told")
    ]
    assert result.counts["fine"] == 2 and result.counts["told"] == 1


def test_a_case_is_the_same_whatever_ran_before(tmp_path: Path) -> None:
    target = TARGETS["coco"]
    (tmp_path / "seeds").mkdir()
    target.prepare(tmp_path / "seeds")

    def damaged(where: str, case: int) -> bytes:
        target.case(tmp_path / "seeds", tmp_path / where, Random(f"0 coco {case}"))
        return b"".join(p.read_bytes() for p in sorted((tmp_path / where).rglob("*.json")))

    assert damaged("a", 3) == damaged("b", 3) != damaged("c", 4)


@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith("artifacts")])
def test_what_is_not_damaged_is_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every case would be told for the same reason, and nothing behind it tried."""
    target = TARGETS[name]
    monkeypatch.setattr(target, "_damage", lambda data, *_: data)
    (tmp_path / "seeds").mkdir()
    target.prepare(tmp_path / "seeds")
    for case in range(5):
        (tmp_path / str(case)).mkdir()
        target.case(tmp_path / "seeds", tmp_path / str(case), Random(case))()
