"""What runs on a GPU, tried without one, in a process of its own (see gpu_checks.py)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECKS = Path(__file__).with_name("gpu_checks.py")


def test_the_checks_of_a_gpu_pass() -> None:
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(CHECKS)]
    done = subprocess.run(call, cwd=CHECKS.parents[3], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (found := re.search(r"(\d+) passed", done.stdout)) and int(found[1]) >= 19
