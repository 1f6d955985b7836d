"""Speed and memory of prepare-data and split-masks: rows P1 and C1 of the performance targets.

A REFER folder of RefCOCO's size is made up (19,994 pictures by reference, 50,000 referents, 142,210 sentences,
196,771 annotations with polygons of COCO's usual length; the pictures are hard links of one JPEG). Every side runs in
a fresh process, the sides take turns, medians are compared, one thread each.

    OMP_NUM_THREADS=1 python scripts/bench_data.py [--repeats 3] [--only P1 C1]

P1: `json.load` + `pickle.load` of the two annotation files against prepare-data of the same folder.
C1: prepare-data and split-masks on folders of 500, 5,000 and 50,000 referents.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

FULL = {"images": 19_994, "refs": 50_000, "sentences": 142_210, "annotations": 196_771}
SIZE_HW = (480, 640)
WORDS = [
    "left",
    "right",
    "man",
    "woman",
    "red",
    "blue",
    "shirt",
    "in",
    "the",
    "on",
    "with",
    "white",
    "black",
    "guy",
    "girl",
    "front",
    "back",
    "top",
    "of",
    "chair",
]


def make_folder(root: Path, share: float) -> Path:
    """A REFER folder of `share` of RefCOCO's size; returns `root`."""
    n = {key: max(1, round(value * share)) for key, value in FULL.items()}
    rng = np.random.default_rng(0)
    pictures = root / "images" / "train2014"
    pictures.mkdir(parents=True)
    smooth = cv2.resize(
        rng.integers(0, 255, (12, 16, 3), np.uint8), SIZE_HW[::-1], interpolation=cv2.INTER_CUBIC
    )
    first = pictures / "original.jpg"
    cv2.imwrite(str(first), smooth)
    images = [
        {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": SIZE_HW[0], "width": SIZE_HW[1]}
        for i in range(1, n["images"] + 1)
    ]
    for image in images:
        os.link(first, pictures / str(image["file_name"]))
    annotations = []
    for k in range(n["annotations"]):
        points = int(rng.gamma(2.0, 14.0)) + 4
        t = np.linspace(0, 2 * np.pi, points, endpoint=False)
        radius = rng.uniform(15, 110) * (1 + 0.2 * np.sin(3 * t))
        ring = np.stack([np.cos(t), np.sin(t)], axis=1) * radius[:, None] + rng.uniform(
            (150, 150), (490, 330)
        )
        ring = np.clip(ring, 0, SIZE_HW[::-1]).round(2)
        low, high = ring.min(axis=0), ring.max(axis=0)
        annotations.append(
            {
                "segmentation": [ring.reshape(-1).tolist()],
                "area": float(np.prod(high - low)),
                "iscrowd": 0,
                "image_id": k % n["images"] + 1,
                "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
                "category_id": k % 80 + 1,
                "id": k + 1,
            }
        )
    categories = [{"supercategory": "any", "id": c, "name": f"category {c}"} for c in range(1, 81)]
    (root / "instances.json").write_text(
        json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
    )
    (root / "refs(unc).p").write_bytes(pickle.dumps(_refs(n, annotations, rng), protocol=2))
    return root


def _refs(
    n: dict[str, int], annotations: list[dict[str, Any]], rng: np.random.Generator
) -> list[dict[str, Any]]:
    per_ref = np.diff(np.linspace(0, n["sentences"], n["refs"] + 1).round().astype(int))
    refs, sent_id = [], 0
    for k, annotation in enumerate(annotations[: n["refs"]]):
        sentences = []
        for _ in range(per_ref[k]):
            tokens = [WORDS[i] for i in rng.integers(0, len(WORDS), int(rng.integers(2, 6)))]
            text = " ".join(tokens)
            sentences.append({"tokens": tokens, "raw": text, "sent_id": sent_id, "sent": text})
            sent_id += 1
        refs.append(
            {
                "sent_ids": [s["sent_id"] for s in sentences],
                "file_name": f"COCO_train2014_{annotation['image_id']:012d}_{annotation['id']}.jpg",
                "ann_id": annotation["id"],
                "ref_id": k,
                "image_id": annotation["image_id"],
                "split": ("val" if k % 13 == 0 else "testA" if k % 25 == 0 else "train"),
                "sentences": sentences,
                "category_id": annotation["category_id"],
            }
        )
    return json.loads(json.dumps(refs))  # no shared strings, as in the public files


SIDES = {
    "load": "import json, pickle; json.load(open(f'{root}/instances.json')); pickle.load(open(f'{root}/refs(unc).p', 'rb'))",
    "prepare": (
        "from stages.prepare_data import Config, run; from pathlib import Path\n"
        "run(Config(source='refer', root=root), out=Path(out))"
    ),
    "split": (
        "from stages.split_masks import Config, run; from pathlib import Path\n"
        "run(Config(ratio=0.05), dataset=Path(root + '/prepared.h5'), out=Path(out))"
    ),
}


def measure(side: str, root: Path, out: Path) -> tuple[float, float]:
    """(seconds, peak MB) of one side in a fresh process; the start of the interpreter is left out.

    VmHWM and not ru_maxrss: the latter keeps the peak of the process that started this one.
    """
    out.unlink(missing_ok=True)
    code = (
        f"import time\nroot, out = {str(root)!r}, {str(out)!r}\nstart = time.perf_counter()\n"
        f"{SIDES[side]}\nseconds = time.perf_counter() - start\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(seconds, int(peak.split()[1]) / 1024)"
    )
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def medians(runs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(s for s, _ in runs), statistics.median(m for _, m in runs)


def p1(folder: Path, repeats: int) -> None:
    runs: dict[str, list[tuple[float, float]]] = {"load": [], "prepare": []}
    for _ in range(repeats):
        for side, done in runs.items():
            done.append(measure(side, folder, folder / "p1.h5"))
    (load_s, load_mb), (ours_s, ours_mb) = medians(runs["load"]), medians(runs["prepare"])
    print(f"P1 time: load {load_s:.2f} s, prepare-data {ours_s:.2f} s: {ours_s / load_s:.2f}x (target <= 4x)")
    print(
        f"P1 peak: load {load_mb:.0f} MB, prepare-data {ours_mb:.0f} MB: {ours_mb / load_mb:.2f}x (target <= 2x)"
    )


def c1(folders: dict[int, Path], repeats: int) -> None:
    for side in ("prepare", "split"):
        runs: dict[int, list[tuple[float, float]]] = {n: [] for n in folders}
        for _ in range(repeats):
            for n, folder in folders.items():
                out = folder / ("prepared.h5" if side == "prepare" else "split.h5")
                runs[n].append(measure(side, folder, out))
        for n in folders:
            seconds, megabytes = medians(runs[n])
            print(
                f"C1 {side}: {n:6d} referents {1e6 * seconds / n:8.1f} us a referent, peak {megabytes:.0f} MB"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["P1", "C1"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-data-") as temporary:
        shares = {500: 0.01, 5_000: 0.1, 50_000: 1.0} if "C1" in options.only else {50_000: 1.0}
        folders = {n: make_folder(Path(temporary) / str(n), share) for n, share in shares.items()}
        if "P1" in options.only:
            p1(folders[50_000], options.repeats)
        if "C1" in options.only:
            c1(folders, options.repeats)


if __name__ == "__main__":
    main()
