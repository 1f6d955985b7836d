"""In the place of the steps of an experiment: a script that writes down how it was called, and its command line as file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from seqres_cli.experiments import step, workflow

Calls = Callable[[], list[Any]]

STAND_IN = """
import json, os, re, signal, sys
from pathlib import Path
words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
with open(os.environ["CALLS"], "a") as log:
    log.write(json.dumps([words, os.environ.get("OMP_NUM_THREADS")]) + "\\n")
name = f"{out.parent.name}/{out.stem}"
print("words of the stage")
if os.environ.get("MEET") and name in ("seed0/rec", "seed0/split-1"):  # opening a pipe waits for the other end
    open(os.environ["MEET"], "r" if name == "seed0/rec" else "w").close()
if name == os.environ.get("KILLS"):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(int(os.environ["KILLED"]), signal.SIGTERM)
    try:
        signal.pause()
    except KeyboardInterrupt:
        Path(os.environ["CALLS"] + ".ended").touch()
        sys.exit(130)
if name == os.environ.get("FAILS"):
    sys.exit(1)
out.parent.mkdir(parents=True, exist_ok=True)
out.with_suffix(".new").write_text(json.dumps(words))
os.replace(out.with_suffix(".new"), out)
"""


def install_stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every step is a call of the stand-in, and a file is right when that call stands in it.

    Returns the calls so far: [words, threads]. FAILS and KILLS name files (their stem) in the environment.
    """
    script, log = folder / "stand_in.py", folder / "calls"
    script.write_text(STAND_IN)
    monkeypatch.setenv("CALLS", str(log))
    monkeypatch.setattr(workflow, "LAUNCHER", (sys.executable, str(script)))

    def look(words: Sequence[str]) -> str:
        out = step.out_of(words)
        if not out.exists():
            return "absent"
        return "current" if out.read_text() == json.dumps(list(words)) else "stale"

    monkeypatch.setattr(step, "look", look)
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
