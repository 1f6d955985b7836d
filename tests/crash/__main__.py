"""Kill every command at its file operations, refuse them, end it at random moments: nothing may be lost.

`python -m tests.crash [COMMAND …] [--kills N] [--refusals N] [--moments N] [--folder FOLDER]`: see CONTRIBUTING.md.
What is checked: `laboratory.py`. Prints one line a command, and in the end one JSON object with the counts; exit code 1
when anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

from tests.crash.laboratory import Laboratory
from tests.crash.scenarios import SCENARIOS, needed_by

COLUMNS = {  # heading of the table -> faults
    "killed before an operation": ("kill",),
    "in a write": ("torn",),
    "at a random moment": ("SIGKILL",),
    "refused": ("full", "broken", "read-only"),
    "SIGTERM, SIGINT": ("SIGTERM", "SIGINT"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("commands", nargs="*", help=f"default: all of {', '.join(names)}")
    for option, default, what in (
        (
            "--kills",
            0,
            "SIGKILL before operations and within writes, so many of each (0: before all, in six)",
        ),
        ("--refusals", 10, "no space, an error, so many of each; a read-only folder"),
        ("--moments", 3, "of each signal"),
    ):
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"{what}; default {default}")
    parser.add_argument("--folder", type=Path, help="work here and leave everything")
    given = parser.parse_args()
    if unknown := set(given.commands) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="seqres-crash-"))
    try:
        return examine(given.commands or names, folder, given.kills, given.refusals, given.moments)
    finally:
        if not given.folder:
            shutil.rmtree(folder, ignore_errors=True)


def examine(names: Sequence[str], folder: Path, kills: int, refusals: int, moments: int) -> int:
    """Exit code; each command's counts and findings are printed as soon as they are known."""
    chosen = [scenario for scenario in SCENARIOS if scenario.name in names]
    started, counts, lost = time.monotonic(), Counter[str](), 0
    laboratory = Laboratory(folder, needed_by(chosen))
    print("| command", *COLUMNS, "lost |", sep=" | ")
    for scenario in chosen:
        cases = laboratory.cases(scenario, kills, refusals, moments)
        bad = [case for case in cases if case.problems]
        number = Counter(case.fault for case in cases)
        cells = [sum(number[fault] for fault in faults) for faults in COLUMNS.values()]
        print(f"| {scenario.name}", *cells, f"{len(bad)} |", sep=" | ", flush=True)
        for case in bad:
            print(f"  {case}:", *case.problems, sep="\n    ", flush=True)
        counts += number
        lost += len(bad)
    killed = sum(counts[fault] for fault in ("kill", "torn", "SIGKILL"))
    seconds = round(time.monotonic() - started)
    print(json.dumps({"kill_points": killed, **counts, "lost": lost, "seconds": seconds}))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
