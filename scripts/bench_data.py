"""Time and memory of the stages that pass over a whole data set: rows P1 and C1 of the performance targets.

REFER folders of made-up annotations: at RefCOCO's full size (19,994 pictures of 480x640 by reference, 50,000 referents,
142,210 expressions, 196,771 annotations with polygons of COCO's usual length), at shares and at multiples of it. The
pictures are one JPEG with comments of different lengths. Each side runs in a fresh process, the sides take turns, medians are compared:
processor time and the largest resident memory, one thread each.

    OMP_NUM_THREADS=1 python scripts/bench_data.py [--sizes 0.01 0.1 1] [--repeats 3] [--json FILE]

P1: prepare-data against `json.load` and `pickle.load` of the same two annotation files, at the largest size.
C1: time a referent and peak memory from one size to the next, in prepare-data, split-masks (5 %), resample-points (of the
ellipses that `pseudo-label --start ellipse` writes into the other 95 % of the boxes) and evaluate. evaluate scores all
splits but train, a ninth of the referents; its network is replaced by one that finds every box and writes the ellipse in
it, so what is measured is all the rest: choosing, scoring, writing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

FULL = {"images": 19_994, "referents": 50_000, "expressions": 142_210, "annotations": 196_771}
SIZE_HW = (480, 640)
DIFFERENT_SIZES = 20_000  # of the pictures' files, as photographs have them
SHAPES = 5_000  # different polygons
WORDS = "left right man woman red blue shirt in the on with white black guy girl front back top of chair"


def make_folder(root: Path, size: float) -> Path:
    """A REFER folder of `size` times RefCOCO; returns `root`."""
    n = {key: max(1, round(value * size)) for key, value in FULL.items()}
    _make_pictures(root / "images" / "train2014", n["images"])
    _write_instances(root / "instances.json", n)
    with (root / "refs(unc).p").open("wb") as file:
        pickle.dump(_refs(n), file, protocol=2)
    return root


def _file_name(image_id: int) -> str:
    return f"COCO_train2014_{image_id:012d}.jpg"


def _image_of(annotation: int, n: dict[str, int]) -> int:
    return annotation % n["images"] + 1


def _make_pictures(folder: Path, count: int) -> None:
    import cv2
    import numpy as np

    folder.mkdir(parents=True)
    small = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    smooth = cv2.imencode(".jpg", cv2.resize(small, SIZE_HW[::-1], interpolation=cv2.INTER_CUBIC))[
        1
    ].tobytes()
    for i in range(count):
        comment = bytes(i % DIFFERENT_SIZES)
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (folder / _file_name(i + 1)).write_bytes(smooth[:2] + segment + smooth[2:])


def _polygons() -> list[str]:
    """Ends of an annotation's JSON text: polygon, area and box of wavy rings of 4 to some 100 points."""
    import numpy as np

    rng, texts = np.random.default_rng(0), []
    for _ in range(SHAPES):
        t = np.linspace(0, 2 * np.pi, int(rng.gamma(2.0, 14.0)) + 4, endpoint=False)
        radius = rng.uniform(15, 110) * (1 + 0.2 * np.sin(3 * t))
        ring = np.stack([np.cos(t), np.sin(t)], axis=1) * radius[:, None]
        ring = np.clip(ring + rng.uniform((150, 150), (490, 330)), 0, SIZE_HW[::-1]).round(2)
        low, high = ring.min(axis=0), ring.max(axis=0)
        box = [*low.tolist(), *(high - low).round(2).tolist()]
        shape = {"segmentation": [ring.reshape(-1).tolist()], "area": float(np.prod(high - low)), "bbox": box}
        texts.append(json.dumps({**shape, "iscrowd": 0})[1:])
    return texts


def _write_instances(path: Path, n: dict[str, int]) -> None:
    height, width = SIZE_HW
    images = (
        json.dumps({"id": i, "file_name": _file_name(i), "height": height, "width": width})
        for i in range(1, n["images"] + 1)
    )
    shapes = _polygons()
    annotations = (
        f'{{"id": {k + 1}, "image_id": {_image_of(k, n)}, "category_id": {k % 80 + 1}, {shapes[k * 7 % SHAPES]}'
        for k in range(n["annotations"])
    )
    categories = (
        json.dumps({"supercategory": "any", "id": c, "name": f"category {c}"}) for c in range(1, 81)
    )
    with path.open("w") as file:
        file.write('{"info": {}')
        for key, entries in (("images", images), ("annotations", annotations), ("categories", categories)):
            file.write(f', "{key}": [' + next(entries))
            file.writelines(", " + entry for entry in entries)
            file.write("]")
        file.write("}")


def _refs(n: dict[str, int]) -> list[dict[str, Any]]:
    import numpy as np

    rng, words = np.random.default_rng(1), WORDS.split()
    first = np.linspace(0, n["expressions"], n["referents"] + 1).round().astype(int).tolist()
    refs = []
    for k in range(n["referents"]):
        sentences = []
        for sent_id in range(first[k], first[k + 1]):
            tokens = [words[i] for i in rng.integers(0, len(words), int(rng.integers(2, 6)))]
            text = " ".join(tokens)
            sentences.append({"tokens": tokens, "raw": text, "sent_id": sent_id, "sent": text})
        image = _image_of(k, n)
        ref = {
            "sent_ids": [s["sent_id"] for s in sentences],
            "file_name": f"COCO_train2014_{image:012d}_{k + 1}.jpg",
            "ann_id": k + 1,
            "ref_id": k,
            "image_id": image,
            "split": ("val" if k % 13 == 0 else "testA" if k % 25 == 0 else "train"),
            "sentences": sentences,
            "category_id": k % 80 + 1,
        }
        refs.append(json.loads(json.dumps(ref)))  # no shared strings, as in the public files
    return refs


# ---------------------------------------------------------------- sides, each in a process of its own


def load(root: Path) -> None:
    with (root / "instances.json").open() as text, (root / "refs(unc).p").open("rb") as data:
        json.load(text)
        pickle.load(data)  # noqa: S301 (written above)


def prepare(root: Path) -> None:
    from stages.prepare_data import Config, run

    run(Config(source="refer", root=str(root)), out=root / "data.h5")


def split(root: Path) -> None:
    from stages.split_masks import Config, run

    run(Config(ratio=0.05), dataset=root / "data.h5", out=root / "split.h5")


def start(root: Path) -> None:
    """Not measured: what resample-points reads."""
    from stages.pseudo_label import Config, run

    run(Config(start="ellipse"), dataset=root / "data.h5", split=root / "split.h5", out=root / "pseudo.h5")


def resample(root: Path) -> None:
    from stages.resample_points import Config, run

    run(Config(), dataset=root / "data.h5", pseudo=root / "pseudo.h5", out=root / "points.h5")


def evaluate(root: Path) -> None:
    import numpy as np

    from stages import evaluate as stage
    from stages.geometry.boxes import ellipse_in
    from stages.inference import predictions
    from stages.inference.answers import Predictions
    from stages.weights import model_file
    from tests.oracles.small_artifacts import write_model

    def predict(_: Any, data: Any, sentences: Any, **__: Any) -> Predictions:
        found = Predictions.empty(sentences, 1)
        found.boxes_xyxy[:] = data.boxes_xyxy[data.sentence_referent[sentences]]
        found.points_xy[:] = [ellipse_in(box, 12).astype(np.float32) for box in found.boxes_xyxy]
        return found

    sequence = SimpleNamespace(layout=SimpleNamespace(box=()))
    made = SimpleNamespace(model=sequence, config=SimpleNamespace(n_points=12), device="cpu")
    model_file.load_model = lambda *_, **__: made  # type: ignore[assignment]
    predictions.predict_sentences = predict  # type: ignore[assignment]
    model = write_model(root / "model.h5", root / "data.h5")
    stage.run(stage.Config(), dataset=root / "data.h5", model=model, out=root / "scores.h5")


SIDES: dict[str, tuple[Callable[[Path], None], str]] = {  # by name: the work, and the file that it makes
    "load": (load, ""),
    "prepare-data": (prepare, "data.h5"),
    "split-masks": (split, "split.h5"),
    "pseudo-label": (start, "pseudo.h5"),
    "resample-points": (resample, "points.h5"),
    "evaluate": (evaluate, "scores.h5"),
}


def work(side: str, root: Path) -> None:
    """What the process of one side does; prints processor seconds and peak MB.

    VmHWM and not ru_maxrss: the latter keeps the peak of the process that started this one.
    """
    before = time.process_time()
    SIDES[side][0](root)
    seconds = time.process_time() - before
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "megabytes": int(peak.split()[1]) / 1024}))


def measure(side: str, root: Path) -> dict[str, float]:
    if made := SIDES[side][1]:
        (root / made).unlink(missing_ok=True)
    command = [sys.executable, __file__, "--side", side, "--folder", str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(size: float, root: Path, repeats: int) -> list[dict[str, Any]]:
    """Medians of every side at one size."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _, side in itertools.product(range(repeats), SIDES):
        runs[side].append(measure(side, root))
        print(f"size {size:g}: {side} {runs[side][-1]}", file=sys.stderr, flush=True)
    referents = max(1, round(FULL["referents"] * size))
    return [
        {"size": size, "referents": referents, "side": side}
        | {key: statistics.median(run[key] for run in found) for key in ("seconds", "megabytes")}
        for side, found in runs.items()
        if side != "pseudo-label"
    ]


def show(rows: list[dict[str, Any]]) -> None:
    last = {r["side"]: r for r in rows if r["size"] == rows[-1]["size"]}
    reference, ours = last["load"], last["prepare-data"]
    print(f"| id | work, {reference['referents']:,} referents | reference | ours | ratio | target |")
    print("|---|---|---|---|---|---|")
    for key, name, unit, most in (
        ("seconds", "processor time", "s", 4),
        ("megabytes", "peak memory", "MB", 2),
    ):
        ratio = f"{ours[key] / reference[key]:.2f}x | <= {most}x |"
        print(f"| P1 | prepare-data, {name} | {reference[key]:.1f} {unit} | {ours[key]:.1f} {unit} | {ratio}")
    print("\n| id | work | referents | µs a referent | growth (<= 1.2x) | peak memory | growth (<= 1.3x) |")
    print("|---|---|---|---|---|---|---|")
    for side in last:
        before: dict[str, Any] = {}
        for r in (r for r in rows if r["side"] == side):
            each = r["seconds"] / r["referents"]
            slower = f"{each / before['seconds'] * before['referents']:.2f}x" if before else ""
            more = f"{r['megabytes'] / before['megabytes']:.2f}x" if before else ""
            told = f"{1e6 * each:.0f} | {slower} | {r['megabytes']:.0f} MB | {more} |"
            print(f"| C1 | {side} | {r['referents']:,} | {told}")
            before = r


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.01, 0.1, 1.0], help="RefCOCO = 1")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options.side, options.folder)
        return
    rows: list[dict[str, Any]] = []
    for size in sorted(options.sizes):
        with tempfile.TemporaryDirectory(prefix="bench-data-") as temporary:
            folder = make_folder(Path(temporary, "folder"), size)
            rows += rows_of(size, folder, options.repeats)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
