"""A `seqres` that only writes down how it was called, in the place of the real one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqres_cli.experiments.calls import Processes

Calls = Callable[[], list[Any]]

STAND_IN = """
import json, os, sys, time
from pathlib import Path
Path(os.environ["CALLS"]).open("a").write(json.dumps([sys.argv[1:], os.environ.get("OMP_NUM_THREADS")]) + "\\n")
print("words of the stage")
time.sleep(60 if "--slow" in sys.argv else 0)
sys.exit(3 if "--resume" in sys.argv else int(os.environ.get("CODE", "0")))
"""


def install_stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every step that `processes` runs is a call of the stand-in; returns the calls so far: [words, threads]."""
    script, log = folder / "stand_in.py", folder / "calls"
    script.write_text(STAND_IN)
    monkeypatch.setenv("CALLS", str(log))
    monkeypatch.setattr(Processes, "launcher", (sys.executable, str(script)))
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


def processes(folder: Path, jobs: int) -> Processes:
    """With the launcher of the moment; that of the class is fixed where `__init__` is made."""
    return Processes(folder, jobs, Processes.launcher)
