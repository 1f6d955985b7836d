"""All benchmarks after one another, and their rows in one table: `make bench`.

Each scripts/bench_*.py prints Markdown tables of ratios measured inside its own run. Their rows come together in
OUT/bench.md and OUT/bench.json, with what a script says beside its tables. One that fails does not stop the others.

    OMP_NUM_THREADS=1 python scripts/bench.py [--out runs/bench] [--only geometry model] [--old ../seqres-old]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

SCRIPTS = Path(__file__).resolve().parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in SCRIPTS.glob("bench_*.py"))
FOR_A_GPU = "X1 (full-size decoding, batch 256) and X2 (training step, darknet53, 640 px, batch 64), bf16"


def rows_of(lines: Iterable[str]) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of the Markdown tables among `lines`, each by the heads of its columns; and all other lines."""
    rows, others, heads = [], [], []
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
            others += [line] if line.strip() else []
        elif not heads:
            heads = cells
        elif set("".join(cells)) - set("-:"):
            rows.append({head or "note": cell for head, cell in zip(heads, cells, strict=False) if cell})
    return rows, others


def run(name: str, more: list[str]) -> dict[str, Any]:
    """One script, whose output is also shown while it runs."""
    print(f"== {name}", flush=True)
    command = [sys.executable, str(SCRIPTS / f"bench_{name}.py"), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    rows, others = rows_of(lines)
    return {"name": name, "exit_code": process.returncode, "rows": rows, "lines": others}


def table(found: list[dict[str, Any]], left_out: dict[str, str]) -> str:
    """A line for each row: where it is from, what it is, and its numbers with the names of their columns."""
    lines = ["| from | id | work | measured |", "|---|---|---|---|"]
    for script in found:
        for row in script["rows"]:
            # of a table without "work", its first column says what the row is
            work = next((head for head in row if head.startswith("work")), next(iter(row)))
            rest = [
                value if head == "note" else f"{head}: {value}"
                for head, value in row.items()
                if head not in ("id", work)
            ]
            lines.append(f"| {script['name']} | {row.get('id', '')} | {row[work]} | {'; '.join(rest)} |")
        lines += [f"| {script['name']} | | {line} | |" for line in script["lines"]]
        if script["exit_code"]:
            lines.append(f"| {script['name']} | | **failed** with code {script['exit_code']} | |")
    lines += [f"| | {name} | {why} | |" for name, why in left_out.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--old", help="an older checkout: the training step is compared with its own")
    given = parser.parse_args()
    left_out, found = {}, []
    for name in given.only:
        if name == "gpu" and not torch.cuda.is_available():
            left_out[name] = f"{FOR_A_GPU}: no GPU here, not measured"
            continue
        if name == "training" and not given.old:
            left_out[name] = "training step: needs --old CHECKOUT to compare with"
            continue
        found.append(run(name, ["--old", given.old] if name == "training" else []))
    text = table(found, left_out)
    machine = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "bench.md").write_text(text + "\n")
    (given.out / "bench.json").write_text(
        json.dumps({**machine, "scripts": found, "left_out": left_out}, indent=1)
    )
    print(f"\n{text}\n\nwrote {given.out / 'bench.md'} and {given.out / 'bench.json'}")
    sys.exit(any(script["exit_code"] for script in found))


if __name__ == "__main__":
    main()
