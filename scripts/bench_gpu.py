"""Speed on a GPU: rows X1 and X2 of the performance targets, full-size `partial-res-darknet53`, random weights.

Each row is a ratio inside one run, medians of the clock with the device waited for. The sides of X1 and E1 take turns, those of
X2 and F1 run one after another, as one alone may fill the GPU.

    python scripts/bench_gpu.py [--repeats 5] [--only X1 X2 E1 F1] [--profile] [--json rows.json]

X1: greedy decoding given the memory of 256 sentences. Textbook: tests/oracles/model_textbook.py in float32, which
    projects the memory anew at every position and loops over sentences.
X2: a training step of the whole model on 64 pictures of 640 px with one sentence each, with all that the training loop
    does. Plain: float32 without TF32, no channels last, torch's plain Adam.
E1: prediction from the pixels on: 16 pictures with 7 sentences each, the share of the decoder in it.
F1: the step of X2 fed with photographs of COCO's size from an artifact, prepared by no worker and by as many as a GPU gets by
    itself.
Limits: the products of matrices of the work (counted by torch's flop counter in X2) at the rate of an 8192^3 product in
bfloat16, and the bytes that must be read and written at the rate of a copy within the GPU, both measured in this run.
`--device cpu --quick` tries the script itself on small sizes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from bench_loader import make_dataset
from bench_model import built, decoder_flops, head_inputs, position_weights
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.inference.devices import autocast
from stages.models.image_maps import normalise
from stages.models.memory import Memory
from stages.models.presets import preset
from stages.models.seqtr import PointSequenceModel
from stages.training.batch import Batch
from stages.training.loader import BatchLoader, ContourTable, StepDataset, used_workers
from stages.training.objectives import build_objective
from stages.training.optimiser import MovingAverage, build_optimiser, trainable
from stages.training.plan import StepPlan
from stages.training.settings import TrainingSettings
from stages.training.targets import SlotWeights
from stages.weights.model_file import channels_last
from tests.oracles import model_textbook as textbook

FULL, SMALL = (
    preset(name).replace(sequence="contour", task_token="learnable", cctf=True, pmca=True)
    for name in ("partial-res-darknet53", "refshapes-small")
)
CLIP = 0.15  # of the published recipe


class Bench:
    """A device, what it can do at best, and the rows found so far."""

    def __init__(self, device: torch.device, repeats: int, *, quick: bool) -> None:
        self.device, self.repeats, self.quick = device, repeats, quick
        self.config = SMALL if quick else FULL
        self.rows: list[dict[str, Any]] = []
        side, length = (256, 1 << 20) if quick else (8192, 1 << 30)
        a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
        source, target = (torch.empty(length, dtype=torch.uint8, device=device) for _ in range(2))
        times = self.turns({"product": lambda: torch.mm(a, b), "copy": lambda: target.copy_(source)})
        self.flops_a_second = 2 * side**3 / times["product"]
        self.bytes_a_second = 2 * length / times["copy"]

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def turns(self, sides: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Median seconds of each side; the first two turns warm up."""
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(self.repeats + 2):
            for name, work in sides.items():
                self.wait()
                start = time.perf_counter()
                work()
                self.wait()
                seconds[name].append(time.perf_counter() - start)
        return {name: statistics.median(times[2:]) for name, times in seconds.items()}

    def add(self, row_id: str, work: str, reference: float, ours: float, target: str, note: str = "") -> None:
        missed = bool(target) and reference / ours < float(target.strip(">= x"))
        note = f"{note}; misses" if missed and note else note or ("misses" if missed else "")
        self.rows.append(
            {"id": row_id, "work": work, "reference": reference, "ours": ours, "target": target, "note": note}
        )
        print(
            f"| {row_id} | {work} | {reference * 1e3:.2f} | {ours * 1e3:.2f} | {reference / ours:.1f}x | {target} | {note} |",
            flush=True,
        )

    def share(self, seconds: float, *, flops: float = 0.0, moved: float = 0.0) -> str:
        """How near `seconds` is to what the arithmetic or the bytes of the work need."""
        parts = []
        if flops:
            parts.append(f"{100 * flops / self.flops_a_second / seconds:.1f} % of the matrix limit")
        if moved:
            parts.append(f"{100 * moved / self.bytes_a_second / seconds:.1f} % of the memory limit")
        return ", ".join(parts)


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """What float32 products and convolutions may round to. torch's default: convolutions only."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def on_device(parts: Any, device: torch.device) -> Any:
    """A dataclass of tensors, or a tensor, on the device."""
    if isinstance(parts, Tensor):
        return parts.detach().to(device)
    moved = {k: v.detach().to(device) if isinstance(v, Tensor) else v for k, v in vars(parts).items()}
    return type(parts)(**moved)


# ---------------------------------------------------------------- X1


def reading(model: PointSequenceModel, n: int, memory_tokens: int, *, size: int) -> float:
    """Bytes of `size` each: every position reads the decoder's weights and the keys and values of n sentences."""
    c = model.config
    kept = 2 * c.decoder_layers * memory_tokens * c.d_model * n
    return size * (kept + model.layout.length * (position_weights(c) + kept))


def bench_decoding(bench: Bench) -> None:
    n = 4 if bench.quick else 256
    model = built(bench.config).eval().to(bench.device)
    inputs = [on_device(part, bench.device) for part in head_inputs(n, bench.config.fusion.channels)]
    with torch.no_grad(), tf32(False):
        memory = model.fuse(*inputs)
        same = (textbook.generate(model, memory) == model.generate(memory).tokens).float().mean().item()
    print(f"X1: {100 * same:.2f} % of the tokens of float32 are the textbook's", flush=True)

    def plain() -> Tensor:
        with tf32(False):
            return textbook.generate(model, memory)

    def ours(precision: Any, memory: Memory = memory) -> Tensor:
        with torch.inference_mode(), autocast(bench.device, precision), tf32(False):
            return model.generate(memory).tokens

    sides: dict[str, Callable[[], object]] = {
        "textbook": plain,
        "fp32": partial(ours, "fp32"),
        "bf16": partial(ours, "bf16"),
    }
    if bench.device.type == "cuda":
        sides["graph"] = captured(partial(ours, "bf16"))
    times = bench.turns(sides)
    m, length = memory.tokens.shape[1], model.layout.length
    flops, moved = n * decoder_flops(bench.config, m, length), reading(model, n, m, size=2)
    for name, label in (("fp32", "float32"), ("bf16", "bf16"), ("graph", "bf16, replayed as a CUDA graph")):
        if name in times:
            note = bench.share(times[name], flops=flops, moved=moved)
            goal = ">= 30x" if name == "bf16" else ""
            work = f"greedy decoding, batch {n}, {label}"
            bench.add("X1", work, times["textbook"], times[name], goal, note)


def captured(work: Callable[[], object]) -> Callable[[], object]:
    """The kernels of `work`, launched at once by each call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


# ---------------------------------------------------------------- X2


class Step:
    """The training loop's step on one batch that stays the same."""

    def __init__(self, batch: Batch | None, bench: Bench, *, plain: bool, compiled: bool = False) -> None:
        self.batch, self.device, self.config, self.plain = batch, bench.device, bench.config, plain
        model = built(self.config).train().to(self.device)
        self.model = model if plain else channels_last(model)
        if compiled:
            self.model.vision.compile(dynamic=False)
            self.model.fusion.compile(dynamic=False)  # type: ignore[union-attr]
        settings = TrainingSettings(label_smoothing=0.1, coordinate_spread=0.0)
        self.objective = build_objective(self.model, settings)
        self.trained = list(trainable(self.model))
        if plain:
            self.optimiser: torch.optim.Optimizer = torch.optim.Adam(
                self.trained, lr=5e-4, betas=(0.9, 0.98), eps=1e-9, amsgrad=True, foreach=False
            )
        else:
            self.optimiser = build_optimiser(
                self.model, kind="adam", lr=5e-4, weight_decay=0.0, backbone_factor=0.1, text_factor=1.0
            )
        self.average = MovingAverage(self.model, 0.999)

    def __call__(self, batch: Batch | None = None) -> float:
        batch = batch or self.batch
        assert batch
        batch = batch.to(self.device)
        with tf32(False), autocast(self.device, "fp32" if self.plain else "bf16"):
            outputs = self.objective.predict(normalise(batch.images, batch.sizes_hw, self.config), batch)
        with tf32(False):
            loss = self.objective.loss(outputs, batch)
            value = loss.item()  # before the backward pass, as the loop asks whether it is finite
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
        nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimiser.step()
        self.average.update()
        return value


def step_batch(n: int, side: int, length: int, n_bins: int) -> Batch:
    """n random pictures with a sentence and a contour each, on the host."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randint, generator=generator)
    pixels = draw(0, 256, (n, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    targets = draw(0, n_bins, (n, length))
    targets[:, -1] = n_bins
    batch = Batch(
        images=pixels, sizes_hw=torch.full((n, 2), side), image_of_sentence=torch.arange(n),
        words=draw(1, 100, (n, 6)), word_mask=torch.ones(n, 6, dtype=torch.bool), targets=targets,
        slot_weights=torch.ones(n, length), boxes=torch.zeros(n, 4), masks=torch.zeros(n, 0, 0, dtype=torch.bool),
        mask_weight=torch.zeros(n),
    )  # fmt: skip
    return batch.pin_memory() if torch.cuda.is_available() else batch


def peak(bench: Bench, work: Callable[[], object]) -> str:
    if bench.device.type != "cuda":
        return ""
    torch.cuda.reset_peak_memory_stats()
    work()
    return f"{torch.cuda.max_memory_allocated() / 2**30:.0f} GiB"


def bench_step(bench: Bench, profile: bool) -> None:
    n, side = (2, 64) if bench.quick else (64, 640)
    length, n_bins = built(bench.config).layout.length, bench.config.n_bins
    batch = step_batch(n, side, length, n_bins)
    counter = FlopCounterMode(display=False)
    ours = Step(batch, bench, plain=False)
    few = Step(step_batch(2, side, length, n_bins), bench, plain=False)
    few()
    with counter:
        few()
    del few
    flops = counter.get_total_flops() / 2 * n
    print(f"X2: {flops / n / 1e9:.0f} GFLOP of matrix products a picture", flush=True)
    times = bench.turns({"bf16": ours})
    memory = peak(bench, ours)
    if profile:
        show_profile(bench, ours)
    del ours
    # one model after the other: 64 pictures of 640 px fill the GPU
    small = n
    while True:
        try:
            plain = Step(batch if small == n else step_batch(small, side, length, n_bins), bench, plain=True)
            times |= bench.turns({"plain": plain})
            break
        except torch.OutOfMemoryError:
            small //= 2
            plain = None  # type: ignore[assignment]
            torch.cuda.empty_cache()
    reference = times["plain"] * n / small
    size = f", {small} pictures at a time" if small < n else ""
    memory += f" against {peak(bench, plain)}{size}"
    del plain
    found = {"bf16": times["bf16"]}
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.backends.cudnn.benchmark = True
        tuned = Step(batch, bench, plain=False)
        found["bf16, convolutions chosen by trial"] = bench.turns({"": tuned})[""]
        torch.backends.cudnn.benchmark = False
        del tuned
        torch.cuda.empty_cache()
        start = time.perf_counter()
        compiled = Step(batch, bench, plain=False, compiled=True)
        compiled()
        print(f"X2: compiling took {time.perf_counter() - start:.0f} s", flush=True)
        found["bf16, backbone and fusion compiled"] = bench.turns({"": compiled})[""]
        memory += f"; compiled {peak(bench, compiled)}"
    for label, seconds in found.items():
        note = f"{n / seconds:.0f} pictures/s, {bench.share(seconds, flops=flops)}"
        if label == "bf16":
            note += f", memory {memory}"
        work = f"training step, {n} pictures of {side} px, {label}"
        bench.add("X2", work, reference, seconds, ">= 3x" if label == "bf16" else "", note)


def show_profile(bench: Bench, work: Callable[[], object]) -> None:
    with torch.profiler.profile() as found:
        work()
        bench.wait()
    kind = "cuda" if bench.device.type == "cuda" else "cpu"
    table = found.key_averages().table(
        sort_by=f"self_{kind}_time_total", row_limit=25, max_name_column_width=60
    )
    print(table, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- E1


def bench_prediction(bench: Bench, profile: bool) -> None:
    n, side, sentences = (2, 64, 2) if bench.quick else (16, 640, 7)
    model = channels_last(built(bench.config).eval().to(bench.device))
    pixels = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    pixels = pixels.to(bench.device)
    sizes, owner = torch.full((n, 2), side), torch.arange(n).repeat_interleave(sentences).to(bench.device)
    words = torch.randint(1, 100, (len(owner), 6)).to(bench.device)
    mask = torch.ones(len(owner), 6, dtype=torch.bool)

    @torch.inference_mode()
    def encode() -> Memory:
        with autocast(bench.device, "bf16"):
            vision = model.encode_images(normalise(pixels, sizes, bench.config), sizes)
            return model.fuse(vision, owner, model.encode_text(words, mask))

    memory = encode()

    @torch.inference_mode()
    def decode() -> Tensor:
        with autocast(bench.device, "bf16"):
            return model.generate(memory).tokens

    times = bench.turns({"encode": encode, "decode": decode})
    total = times["encode"] + times["decode"]
    note = f"{n / total:.0f} pictures/s, {len(owner) / total:.0f} sentences/s; reference: the decoder alone"
    bench.add(
        "E1", f"prediction, {n} pictures with {sentences} sentences, bf16", times["decode"], total, "", note
    )
    if profile:
        show_profile(bench, decode)


# ---------------------------------------------------------------- F1


def bench_feeding(bench: Bench) -> None:
    n, n_images = (2, 8) if bench.quick else (64, 512)
    helpers = 1 if bench.quick else used_workers(None, bench.device, 1)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as temporary:
        data = ReferringDataset.open(make_dataset(Path(temporary), n_images), masks="none")
        step, config = Step(None, bench, plain=False), bench.config
        codec = WordCodec.from_sentences(data.texts, config.text.max_words)
        no_contours = ContourTable.of_contours(len(data.boxes_xyxy), {}, {})
        steps = StepDataset(data, codec, config, no_contours, TrainingSettings(colour=0.0), SlotWeights(), 0)
        plan = StepPlan(data, np.arange(len(data.texts)), images=n, per_image=1, seed=0)
        rate = {}
        for workers in (0, helpers):
            loader = BatchLoader(steps, workers)
            for epoch in range(2):  # the first starts the workers
                start, count = time.perf_counter(), 0
                for batch in loader.epoch(plan.epoch(epoch)):
                    step(batch)
                    count += len(batch.images)
                bench.wait()
                rate[workers] = count / (time.perf_counter() - start)
        work = f"training from photographs, {n} a step, bf16: no worker, {helpers} workers, a picture"
        bench.add("F1", work, 1 / rate[0], 1 / rate[helpers], "", f"{rate[helpers]:.0f} pictures/s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--only", nargs="*", choices=("X1", "X2", "E1", "F1"), default=("X1", "E1", "F1", "X2")
    )
    parser.add_argument(
        "--profile", action="store_true", help="also the kernels that take most time, on stderr"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--json", type=Path, help="also write the rows, in seconds, to this file")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    bench = Bench(device, arguments.repeats, quick=arguments.quick)
    print(
        f"{name}, torch {torch.__version__}: bf16 products {bench.flops_a_second / 1e12:.0f} TFLOP/s, "
        f"copies {bench.bytes_a_second / 1e12:.2f} TB/s",
        flush=True,
    )
    print("| id | work | reference (ms) | ours (ms) | ratio | target | |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for row in arguments.only:
        if row == "X1":
            bench_decoding(bench)
        elif row == "X2":
            bench_step(bench, arguments.profile)
        elif row == "F1":
            bench_feeding(bench)
        else:
            bench_prediction(bench, arguments.profile)
    if arguments.json:
        facts = {"device": name, "torch": torch.__version__, "flops_a_second": bench.flops_a_second,
                 "bytes_a_second": bench.bytes_a_second, "rows": bench.rows}  # fmt: skip
        arguments.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
