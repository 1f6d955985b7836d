"""Speed of the training loader: row L1 of the performance targets.

JPEG in an artifact -> normalised tensor at 640 px, with one worker and with two, against `cv2.imdecode` of the same
bytes, resize, normalise and nothing else. The sides take turns, medians of the clock are compared, one thread each; two
workers need two cores to themselves. The processor time of the process that asks for the batches and normalises them
depends less on what else runs.

    OMP_NUM_THREADS=1 python scripts/bench_loader.py [--repeats 5] [--images 96]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from bench_data import FULL, SIZE_HW, make_folder

from stages.artifacts import open_artifact
from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.models.image_maps import normalise
from stages.models.presets import preset
from stages.prepare_data import Config, run
from stages.training.loader import BatchLoader, ContourTable, StepDataset
from stages.training.plan import StepPlan
from stages.training.settings import TrainingSettings
from stages.training.targets import SlotWeights

CONFIG = preset("partial-res-darknet53")
BATCH = 8


def make_dataset(root: Path, images: int) -> Path:
    """`images` photographs of COCO's size and file length (about 110 kB), embedded."""
    folder = make_folder(root, images / FULL["images"])
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 9, (*SIZE_HW, 3))
    for path in sorted((folder / "images" / "train2014").glob("COCO*.jpg")):
        smooth = rng.integers(0, 255, (SIZE_HW[0] // 16, SIZE_HW[1] // 16, 3)).astype(np.uint8)
        picture = cv2.resize(smooth, SIZE_HW[::-1], interpolation=cv2.INTER_CUBIC) + grain
        cv2.imwrite(str(path), picture.clip(0, 255).astype(np.uint8))
    out = root / "dataset.h5"
    run(Config(source="refer", root=str(folder), embed_images=True), out=out)
    return out


def decode_only(path: Path) -> Iterator[int]:
    """What no loader can leave out, one photograph after another, counted in batches."""
    size = CONFIG.image.size
    mean, std = (np.array(v, np.float32) for v in (CONFIG.image.mean, CONFIG.image.std))
    with open_artifact(path) as a:
        encoded = a.ragged("images/encoded").load()
    for number, data in enumerate(encoded, 1):
        picture = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        scale = size / max(picture.shape[:2])
        picture = cv2.resize(picture, None, fx=scale, fy=scale)
        torch.from_numpy(((picture.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1).copy())
        if number % BATCH == 0:
            yield BATCH


def load(path: Path, workers: int) -> Iterator[int]:
    """The same through the loader, with sentences and targets."""
    data = ReferringDataset.open(path, masks="none")
    sentences = np.arange(len(data.texts))
    settings = TrainingSettings(colour=0.0)
    plan = StepPlan(data, sentences, images=BATCH, per_image=3, seed=0)
    codec = WordCodec.from_sentences(data.texts, CONFIG.text.max_words)
    boxes_only = ContourTable.of_contours(len(data.boxes_xyxy), {}, {})
    steps = StepDataset(data, codec, CONFIG, boxes_only, settings, SlotWeights(), 0)
    for batch in BatchLoader(steps, workers).epoch(plan.epoch(0)):
        yield len(normalise(batch.images, batch.sizes_hw, CONFIG))


def rates(sides: dict[str, Callable[[], Iterator[int]]], repeats: int) -> dict[str, tuple[float, float]]:
    """Medians from each side's first batch on: photographs a second, this process's milliseconds a photograph.

    The first turn warms up.
    """
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, work in sides.items():
            batches = work()
            next(batches)  # workers have started
            start, busy = time.perf_counter(), time.process_time()
            count = sum(batches)
            measured[name].append(
                (count / (time.perf_counter() - start), 1000 * (time.process_time() - busy) / count)
            )
    return {
        name: (statistics.median(v[0] for v in values[1:]), statistics.median(v[1] for v in values[1:]))
        for name, values in measured.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=96)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as temporary:
        path = make_dataset(Path(temporary), arguments.images)
        sides: dict[str, Any] = {"decode": lambda: decode_only(path)}
        sides |= {f"{n}": (lambda n=n: load(path, n)) for n in (0, 1, 2)}
        found = rates(sides, arguments.repeats)
    decode, alone = found["decode"][0], found["0"][0]
    print("| id | work | photographs a second | processor time of this process | ratio | target | |")
    print("|---|---|---|---|---|---|---|")
    for name, work, ratio, target in (
        ("decode", "decode, resize, normalise alone", None, None),
        ("0", "loader in the main process", alone / decode, None),
        ("1", "loader, one worker", found["1"][0] / decode, 0.85),
        ("2", "loader, two workers", found["2"][0] / found["1"][0], 1.7),
    ):
        rate, busy = found[name]
        cells = [
            f"{rate:.0f}",
            f"{busy:.1f} ms",
            f"{ratio:.2f}x" if ratio else "",
            f">= {target}x" if target else "",
        ]
        note = "misses" if ratio and target and ratio < target else ""
        print(f"| L1 | {work} | {' | '.join(cells)} | {note} |")


if __name__ == "__main__":
    main()
