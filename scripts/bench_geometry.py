"""Speed of geometry and metrics: rows S1, G1, M1 and C1 (resample-points) of the performance targets.

Each row is a ratio inside one run: the two sides take turns, medians are compared, one thread each.

    OMP_NUM_THREADS=1 python scripts/bench_geometry.py [--repeats 9] [--only S1 G1 M1 C1]

C1 starts resample-points in fresh processes on 424, 4,240 and 42,404 referents (three sentences each).
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from stages.geometry.polygons import polygon_scores, resample_polygons
from stages.geometry.rasterise import mask_to_rle, polygon_to_rle, rle_to_mask
from stages.geometry.resampling import mask_to_points
from stages.metrics.segmentation import overlaps
from tests.oracles.rpp_textbook import select_and_resample

SIZE = (480, 640)
Rings = list[NDArray[np.float32]]


def objects(count: int, points: int, seed: int, waviness: float = 0.25) -> Rings:
    """Outlines of RefCOCO's usual size: a tenth of a 480x640 picture, wavy, mostly not convex."""
    rng = np.random.default_rng(seed)
    rings = []
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    for _ in range(count):
        radius = rng.uniform(50, 150) * (
            1 + waviness * np.sin(3 * t + rng.uniform(0, 6)) + 0.05 * rng.standard_normal(points)
        )
        centre = rng.uniform((180, 180), (460, 300))
        ring = centre + radius[:, None] * np.stack([np.cos(t), 0.8 * np.sin(t)], axis=1)
        rings.append(np.clip(ring, 0, (SIZE[1], SIZE[0])).astype(np.float32))
    return rings


def take_turns(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first one warms up


def bench_selection(repeats: int) -> dict[str, Any]:
    """S1: score and resample one predicted polygon a referent."""
    rings = objects(400, 12, seed=1)
    rng = np.random.default_rng(2)
    boxes = np.array([np.concatenate([r.min(0), r.max(0)]) for r in rings]) + rng.normal(0, 4, (400, 4))
    points = np.concatenate(rings)
    offsets = np.arange(401) * 12
    sizes = np.tile(SIZE, (400, 1))

    def textbook() -> None:
        for ring, box in zip(rings, boxes, strict=True):
            select_and_resample(polygon_to_rle(ring, SIZE), box, 12)

    def ours() -> None:
        kept = np.flatnonzero(polygon_scores(points, offsets, boxes, sizes) < 0.1)
        chosen = (offsets[kept][:, None] + np.arange(12)).reshape(-1)
        resample_polygons(points[chosen], np.arange(len(kept) + 1) * 12, sizes[kept], 12)

    times = take_turns({"textbook": textbook, "ours": ours}, repeats)
    return row(
        "S1",
        "select + resample a referent",
        times["textbook"] / 400,
        times["ours"] / 400,
        ">= 10x",
        "speed-up",
    )


def bench_outline(repeats: int) -> dict[str, Any]:
    """G1: mask -> outline -> 12 points against cv2.findContours alone."""
    masks = [rle_to_mask(polygon_to_rle(r, SIZE)) for r in objects(60, 40, seed=3)]

    def contours() -> None:
        for mask in masks:
            cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)

    def ours() -> None:
        for mask in masks:
            mask_to_points(mask, 12)

    times = take_turns({"findContours": contours, "ours": ours}, repeats)
    return row(
        "G1",
        "mask -> outline -> 12 points",
        times["findContours"] / 60,
        times["ours"] / 60,
        "<= 1.5x",
        "cost",
    )


def bench_metrics(repeats: int) -> dict[str, Any]:
    """M1: IoU of 1,024 pairs of run-length masks against the diagonals of 128 x 128 matrices."""
    masks = [rle_to_mask(polygon_to_rle(r, SIZE)) for r in objects(256, 40, seed=4)]
    true = [mask_to_rle(m) for m in masks] * 4
    predicted = [mask_to_rle(np.roll(m, (9, 5), (0, 1))) for m in masks] * 4

    def matrices() -> NDArray[np.float64]:
        parts = [
            np.diag(coco.iou(predicted[i : i + 128], true[i : i + 128], [0] * 128))
            for i in range(0, 1024, 128)
        ]
        return np.concatenate(parts)

    assert np.array_equal(matrices(), overlaps(predicted, true).iou), "not exact"
    times = take_turns({"matrices": matrices, "ours": lambda: overlaps(predicted, true)}, repeats)
    return row(
        "M1", "IoU of a pair of masks", times["matrices"] / 1024, times["ours"] / 1024, ">= 5x", "speed-up"
    )


def bench_growth() -> list[dict[str, Any]]:
    """C1 for resample-points: time a referent and peak memory as the data grows."""
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (424, 4_240, 42_404):
            command = [sys.executable, __file__, "--stage", str(count), folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            measured.append((count, json.loads(done.stdout.splitlines()[-1])))
    rows = []
    for (smaller, before), (count, now) in itertools.pairwise(measured):
        a, b = before["seconds"] / smaller, now["seconds"] / count
        rows.append(
            row("C1", f"resample-points, {smaller:,} -> {count:,} referents", a, b, "<= 1.2x", "cost")
        )
        growth = now["megabytes"] / before["megabytes"]
        rows[-1] |= {
            "note": f"peak memory {before['megabytes']:.0f} -> {now['megabytes']:.0f} MB ({growth:.2f}x)"
        }
    return rows


def run_stage(count: int, folder: Path) -> None:
    """Write inputs of `count` referents in a child, then measure the stage in this process."""
    from stages.resample_points import Config, run

    dataset, pseudo = folder / f"data{count}.h5", folder / f"pseudo{count}.h5"
    child = subprocess.run([sys.executable, __file__, "--inputs", str(count), str(folder)], check=False)
    child.check_returncode()
    start = time.perf_counter()
    summary = run(Config(), dataset=dataset, pseudo=pseudo, out=folder / f"points{count}.h5").summary
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes(), "kept": summary["kept"]}))


def peak_megabytes() -> float:
    """Peak resident memory of this program; ru_maxrss would count the process it was forked from, too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_inputs(count: int, folder: Path) -> None:
    """A dataset of `count` training referents, and pseudo labels for three sentences of each."""
    from tests.oracles.small_artifacts import boxes_of, write_dataset, write_pseudo

    dataset = write_dataset(
        folder / f"data{count}.h5", ["train"] * count, sentences=3, masked=[False] * count
    )
    t = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    rng = np.random.default_rng(0)
    rows = []
    for referent, (x1, y1, x2, y2) in enumerate(boxes_of(count)):
        for sentence in range(3):
            radius = np.array([x2 - x1, y2 - y1]) / 2 * rng.uniform(0.8, 1.1, (12, 1))
            ring = np.clip((x1 / 2 + x2 / 2, y1 / 2 + y2 / 2) + circle * radius, 0, (80, 60))
            rows.append((referent, 3 * referent + sentence, float(rng.random()), ring))
    write_pseudo(folder / f"pseudo{count}.h5", dataset, rows, n_points=12)


def row(name: str, work: str, reference: float, ours: float, target: str, kind: str) -> dict[str, Any]:
    ratio = reference / ours if kind == "speed-up" else ours / reference
    return {
        "id": name,
        "work": work,
        "reference": reference,
        "ours": ours,
        "ratio": ratio,
        "target": target,
        "note": "",
    }


def show(rows: list[dict[str, Any]]) -> None:
    print("| id | work | reference (µs) | ours (µs) | ratio | target | |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        numbers = f"{r['reference'] * 1e6:.1f} | {r['ours'] * 1e6:.1f} | {r['ratio']:.2f}x"
        print(f"| {r['id']} | {r['work']} | {numbers} | {r['target']} | {r['note']} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--only", nargs="*", choices=("S1", "G1", "M1", "C1"), default=("S1", "G1", "M1", "C1")
    )
    parser.add_argument("--stage", nargs=2, metavar=("REFERENTS", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--inputs", nargs=2, metavar=("REFERENTS", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # pycocotools' decode
    if arguments.inputs:
        write_inputs(int(arguments.inputs[0]), Path(arguments.inputs[1]))
        return
    if arguments.stage:
        run_stage(int(arguments.stage[0]), Path(arguments.stage[1]))
        return
    rows: list[dict[str, Any]] = []
    for name, bench in (("S1", bench_selection), ("G1", bench_outline), ("M1", bench_metrics)):
        if name in arguments.only:
            rows.append(bench(arguments.repeats))
    if "C1" in arguments.only:
        rows += bench_growth()
    show(rows)


if __name__ == "__main__":
    main()
