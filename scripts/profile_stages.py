"""Where the time of each stage goes, by the file of this package whose code runs or waits for a library.

Every stage runs once, on the pictures of RefShapes' smoke scale, in a process of its own that pyinstrument samples on the
clock. With --old, another checkout does the same with files of its own.

    OMP_NUM_THREADS=1 python scripts/profile_stages.py [--old ../seqres-old] [--only evaluate ...] [--folder runs/profile]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
INTERVAL = 0.001  # seconds between samples
SHOWN = 7  # files of a stage
PACKAGES = ("stages", "seqres_cli")

DATA = ["--dataset", "dataset.h5"]
FEW = [*DATA, "--split", "split.h5"]
LENGTH = ["--expressions-per-image", "3", "--validation-expressions", "50", "--steps-per-epoch"]
STAGES = {
    "prepare-data": ["--source", "refshapes", "--scale", "smoke", "--workers", "1", "--out", "dataset.h5"],
    "split-masks": [*DATA, "--ratio", "0.05", "--out", "split.h5"],
    "train-rec": [*DATA, "--config", "pipeline-smoke", "--model", "refshapes-small", *LENGTH, "60", "--out", "rec.h5"],
    "train-res": [*FEW, "--config", "pipeline-smoke:first", "--rec", "rec.h5", *LENGTH, "120", "--out", "first.h5"],
    "pseudo-label": [*FEW, "--config", "pipeline-smoke", "--model", "first.h5", "--max-referents", "1000", "--out", "pseudo.h5"],
    "refine-masks": [*DATA, "--pseudo", "pseudo.h5", "--out", "refined.h5"],
    "resample-points": [*DATA, "--config", "pipeline-smoke", "--pseudo", "pseudo.h5", "--out", "points.h5"],
    "evaluate": [*DATA, "--config", "pipeline-smoke", "--model", "first.h5", "--max-expressions", "400", "--out", "eval.h5"],
    "visualize-attention": [*FEW, "--model", "first.h5", "--out", "attention.h5"],
}  # fmt: skip


def serve(checkout: Path, result: Path, arguments: list[str]) -> None:
    """Run one call of seqres in this process; its processor time, and seconds on the clock by file, go to `result`."""
    from pyinstrument import Profiler

    sys.path.insert(0, str(checkout))
    with Profiler(interval=INTERVAL) as profiler:
        from seqres_cli.main import main as seqres

        code = seqres(arguments)
    if code:
        sys.exit(code)
    assert profiler.last_session
    root = profiler.last_session.root_frame(trim_stem=False)
    seconds: Counter[str] = Counter()
    gather(root, "Python", checkout, seconds)
    result.write_text(json.dumps({"processor": time.process_time(), "seconds": seconds}))


def gather(frame: Any, file: str, checkout: Path, seconds: Counter[str]) -> None:
    """Add the time of a frame of the call tree to the innermost file of the package, or to what is imported."""
    path = Path(frame.file_path or "")
    if "importlib" in str(path) and frame.function.startswith("_find_and_load"):
        file = "imports"
    elif frame.function != "<module>" and any(path.is_relative_to(checkout / name) for name in PACKAGES):
        file = str(path.relative_to(checkout))
    seconds[file] += frame.time - sum(child.time for child in frame.children)
    for child in frame.children:
        gather(child, file, checkout, seconds)


def profile(checkout: Path, stage: str, folder: Path) -> dict[str, Any]:
    """What `serve` finds of a stage whose inputs lie in `folder`."""
    result = folder / f"{stage}.json"
    call = [stage, *STAGES[stage], "--quiet", *(["--force"] if (folder / STAGES[stage][-1]).exists() else [])]
    command = [sys.executable, __file__, "--serve", str(checkout), "--result", str(result), "--", *call]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def shares(seconds: dict[str, float]) -> str:
    """The largest shares, as text: `stages/evaluate.py 12 %, ...`."""
    whole = sum(seconds.values())
    largest = sorted(seconds.items(), key=lambda item: -item[1])[:SHOWN]
    return ", ".join(f"{file.removeprefix('stages/')} {100 * part / whole:.0f} %" for file, part in largest)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, help="the other checkout")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--folder", type=Path, help="keep the files there, for --only in another call")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.result, options.arguments)
        return
    sides = {"before": options.old.resolve()} if options.old else {}
    sides["now"] = HERE
    with tempfile.TemporaryDirectory(prefix="profile-stages-") as temporary:
        print("| stage | | processor time, s | where on the clock |\n|---|---|---|---|")
        for stage in options.only:
            for side, checkout in sides.items():
                folder = (options.folder or Path(temporary)) / side
                folder.mkdir(parents=True, exist_ok=True)
                found = profile(checkout, stage, folder)
                print(
                    f"| {stage} | {side} | {found['processor']:.1f} | {shares(found['seconds'])} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
