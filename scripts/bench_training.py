"""Speed of a training step of the small model, this checkout against an older one, and where the time goes.

Each checkout trains in a process of its own; the two take turns, step by step, on one thread each, and medians of the
processor time are compared. Settings are those of the demo (`pipeline-smoke`): train-rec, and the first train-res.

    OMP_NUM_THREADS=1 python scripts/bench_training.py --old ../seqres-old [--steps 15] [--profile]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
WARM_UP = 3
STAGES = ("train-rec", "train-res")


class Side:
    """A training in another process that makes one step when asked."""

    def __init__(self, checkout: Path, stage: str, folder: Path, extra: list[str]) -> None:
        command = [
            sys.executable,
            __file__,
            "--serve",
            str(checkout),
            "--stage",
            stage,
            "--folder",
            str(folder),
        ]
        self.process = subprocess.Popen(
            [*command, *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def end(self) -> str:
        out, _ = self.process.communicate()
        return out


def serve(checkout: Path, stage: str, folder: Path, profile: bool) -> None:
    """Train as the demo does, but one step for each line that comes in."""
    sys.path.insert(0, str(checkout))
    import torch

    from seqres_cli.main import main as seqres
    from stages.training.loop import Trainer

    torch.set_num_threads(1)

    def served(trainer: Any, **_: Any) -> Any:
        trainer.model.train()
        entries = trainer.plan.epoch(0)
        if hasattr(trainer, "batches"):
            batches = trainer.batches.epoch(entries)
        else:  # an older checkout
            from stages.training import loader

            batches = loader.train_batches(trainer.steps, entries, 0)
        for number, _line in enumerate(sys.stdin):
            start = time.process_time()
            batch = next(batches)
            loaded = time.process_time()
            trainer.progress.step = number
            trainer._set_rate(270)
            loss = float(trainer._step(batch))
            end = time.process_time()
            sizes = {"images": len(batch.images), "expressions": len(batch.words)}
            print(
                json.dumps({"loader": loaded - start, "step": end - loaded, "loss": loss, **sizes}),
                flush=True,
            )
        if profile:
            with torch.profiler.profile() as found:
                for _ in range(5):
                    trainer._step(next(batches))
            print(
                found.key_averages().table(
                    sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=40
                )
            )
        raise KeyboardInterrupt

    Trainer.fit = served  # type: ignore[method-assign]
    files = [
        "--dataset",
        str(folder / "dataset.h5"),
        "--out",
        str(folder / f"served-{id(served)}.h5"),
        "--quiet",
    ]
    recipe = "pipeline-smoke" if stage == "train-rec" else "pipeline-smoke:first"
    files += ["--expressions-per-image", "3"]  # the same step, whatever the other checkout's recipe says
    if stage == "train-res":
        files += ["--split", str(folder / "split.h5"), "--rec", str(folder / "rec.h5")]
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115
    seqres([stage, *files, "--config", recipe])


def prepare(folder: Path) -> None:
    """The demo's dataset and split, and a box model of one step."""
    seqres = [sys.executable, "-m", "seqres_cli"]
    data = ["--dataset", str(folder / "dataset.h5"), "--quiet"]
    for call in (
        ["prepare-data", "--config", "pipeline-smoke", "--out", str(folder / "dataset.h5"), "--quiet"],
        ["split-masks", *data, "--ratio", "0.05", "--out", str(folder / "split.h5")],
        ["train-rec", *data, "--config", "pipeline-smoke", "--steps-per-epoch", "1", "--validation-expressions", "1",
         "--out", str(folder / "rec.h5")],
    ):  # fmt: skip
        subprocess.run([*seqres, *call], check=True, cwd=HERE, stdout=subprocess.DEVNULL)


def compare(old: Path, stage: str, folder: Path, steps: int, profile: bool) -> None:
    extra = ["--profile"] if profile else []
    sides = {"before": Side(old, stage, folder, extra), "now": Side(HERE, stage, folder, extra)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(WARM_UP + steps):
        for name, side in sides.items():
            found[name].append(side.step())
    medians = {
        (name, part): statistics.median(row[part] for row in rows[WARM_UP:])
        for name, rows in found.items()
        for part in ("loader", "step")
    }
    total = {name: medians[name, "loader"] + medians[name, "step"] for name in sides}
    shown = found["now"][WARM_UP]
    same = sum(math.isclose(a["loss"], b["loss"], rel_tol=1e-3) for a, b in zip(*found.values(), strict=True))
    print(
        f"| {stage}, {shown['images']} pictures, {shown['expressions']} expressions "
        + "".join(f"| {1000 * medians[n, p]:.0f} " for n in sides for p in ("loader", "step"))
        + f"| {total['before'] / total['now']:.2f}x | {same} of {WARM_UP + steps} losses within 0.1 % |",
        flush=True,
    )
    for name, side in sides.items():
        rest = side.end()
        if profile:
            print(f"{stage}, {name}\n{rest}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, help="the other checkout")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--stage", choices=STAGES)
    parser.add_argument("--profile", action="store_true", help="also the operators that take most time")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="keep the demo's dataset here, for another call")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve.resolve(), arguments.stage, arguments.folder, arguments.profile)
        return
    if arguments.old is None:
        parser.error("--old CHECKOUT is needed")
    with tempfile.TemporaryDirectory(prefix="bench-training-") as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "rec.h5").exists():
            prepare(folder)
        print(
            "| step | loader before, ms | step before | loader now | step now | faster | |\n|---|---|---|---|---|---|---|"
        )
        for stage in [arguments.stage] if arguments.stage else STAGES:
            compare(arguments.old.resolve(), stage, folder, arguments.steps, arguments.profile)


if __name__ == "__main__":
    main()
