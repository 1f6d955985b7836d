"""Start-up: rows I1 and I2 of the performance targets. Processor time of fresh processes, the sides take turns, medians.

    OMP_NUM_THREADS=1 python scripts/bench_start.py [--repeats 5] [--json FILE]

I1: `seqres --help`, and `seqres inspect` of a model file of 1 GB, beside the bare start of Python.
I2: loading a small model, what a stage does before its first useful work, beside `import torch` alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LARGE = 1 << 30  # bytes
LOAD = "from pathlib import Path; import torch; from stages.weights.model_file import load_model; load_model(Path({!r}), torch.device('cpu'))"


def make_files(folder: Path) -> tuple[Path, Path]:
    """A model file of 1 GB, whose weights are one tensor; a small model of RefShapes' architecture that can be loaded."""
    import numpy as np

    from stages.artifacts import write_artifact
    from tests.oracles.random_models import write_random_model

    large = folder / "large.h5"
    with write_artifact(large, "rec_model", fingerprint="f", provenance={}) as w:
        w.attr("dataset_digest", "0" * 64)
        for name in ("architecture", "vocabulary", "preprocessing", "history"):
            w.json(name, {})
        w.column("weights/w", np.zeros(LARGE // 4, np.float32), compress=False)
    return large, write_random_model(folder / "small.h5", "box")


def processor_seconds(command: list[str]) -> float:
    """User and system time of a process that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-start-") as temporary:
        large, small = make_files(Path(temporary))
        sides = {
            "python": ["-c", "pass"],
            "help": ["-m", "seqres_cli", "--help"],
            "inspect": ["-m", "seqres_cli", "inspect", str(large)],
            "torch": ["-c", "import torch"],
            "model": ["-c", LOAD.format(str(small))],
        }
        for _ in range(options.repeats + 1):  # the first one warms up
            for side, arguments in sides.items():
                seconds.setdefault(side, []).append(processor_seconds([sys.executable, *arguments]))
    found = {side: statistics.median(times[1:]) for side, times in seconds.items()}
    rows: list[dict[str, Any]] = [
        {"id": name, "work": work, "reference": found[reference], "ours": found[side], "target": target}
        for name, work, side, reference, target in (
            ("I1", "seqres --help; python's start", "help", "python", "< 0.5 s"),
            ("I1", "seqres inspect of 1 GB; python's start", "inspect", "python", "< 1 s"),
            ("I2", "load a small model; import torch", "model", "torch", "<= 1.5x"),
        )
    ]
    print("| id | work | reference (s) | ours (s) | ratio | target |")
    print("|---|---|---|---|---|---|")
    for r in rows:
        numbers = f"{r['reference']:.2f} | {r['ours']:.2f} | {r['ours'] / r['reference']:.2f}x"
        print(f"| {r['id']} | {r['work']} | {numbers} | {r['target']} |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
