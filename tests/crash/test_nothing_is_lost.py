"""A short slice of `make crash`; and that it finds what a careless writer does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from seqres_cli.commands import COMMANDS
from tests.conftest import PROJECT_ROOT
from tests.crash.scenarios import SCENARIOS


def examined(*words: str, carelessly: str = "") -> tuple[dict[str, int], str]:
    """Counts and findings. In a process of its own, because each case is a fork."""
    code = f"import sys; from tests.crash.__main__ import main\n{carelessly}\nsys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (1 if counts["lost"] else 0)
    return counts, done.stdout


def test_commands_killed_or_refused_lose_nothing_and_leave_nothing() -> None:
    counts, told = examined(
        "prepare-data", "export-folder", "--kills", "3", "--refusals", "1", "--moments", "0"
    )
    assert counts["lost"] == 0, told
    assert counts["kill_points"] >= 20 and counts["full"] == counts["broken"] == counts["read-only"] == 4


@pytest.mark.parametrize(
    ("carelessly", "finding"),
    [
        ("import stages.artifacts.temporary as t; t.remove_litter = lambda *targets: None", "after the next run: .o.json"),
        (
            "import os\n"
            "def copy(old, new):\n"
            "    with open(old, 'rb') as a, open(new, 'wb') as b: b.write(a.read())\n"
            "os.replace = copy",
            "o.json is neither the old nor the new one",
        ),
    ],
    ids=["litter stays", "not written at once"],
)  # fmt: skip
def test_a_careless_writer_is_found(carelessly: str, finding: str) -> None:
    counts, told = examined(
        "export-file", "--kills", "2", "--refusals", "0", "--moments", "0", carelessly=carelessly
    )
    assert counts["lost"] > 0 and finding in told


def test_every_command_that_writes_is_killed() -> None:
    writing = {
        name for name, command in COMMANDS.items() if "out" in {p.name for p in command.build().params}
    }
    # reproduce runs Snakemake, which calls the others
    assert {scenario.words.split()[0] for scenario in SCENARIOS} == writing - {"reproduce"}
