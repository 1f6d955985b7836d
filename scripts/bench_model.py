"""Speed of the model: rows D1, D2, T1, E1 and E2 of the performance targets.

Each row is a ratio inside one run: the sides take turns, medians are compared, one thread each. What is compared is
processor time, which other work on the machine disturbs less than the clock.

    OMP_NUM_THREADS=1 python scripts/bench_model.py [--repeats 3] [--only D1 T1 E1 E2] [--json rows.json]

"Textbook" is tests/oracles/model_textbook.py: the same weights and arithmetic, nothing kept between decoding steps.
"Bound" is the arithmetic of the work (counted below, products of matrices only) over the rate of a large matrix
product, measured in turns with the work. Decoding also has a bound with reading: every position reads all weights of the
decoder, and the memory's keys and values of each sentence, none of which stay in the cache; the rate is that of a sum
over 80 MB.
D1, D2, T1: full-size `partial-res-darknet53` head (12 points, memory 20 x 20 + sentence), random weights.
E1: full-size model, photographs of 480 x 640 with 7 sentences each, against itself one sentence at a time.
E2: the small RefShapes model, a batch at once, against a plain forward pass for each sentence + textbook decoding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from stages.data.text import WordCodec
from stages.data.transforms import plain_frame, render
from stages.inference.predictions import predict_sentences
from stages.models.attention import MultiheadAttention
from stages.models.build import build_model
from stages.models.config import ModelConfig
from stages.models.image_maps import VisionMaps, normalise
from stages.models.language import SentenceFeatures
from stages.models.losses import token_sums
from stages.models.presets import preset
from stages.models.seqtr import PointSequenceModel
from stages.weights.model_file import LoadedModel, channels_last
from tests.oracles import model_textbook as textbook

GRID = (20, 20)
WORDS = "left right man woman red blue shirt in the on with white black guy girl front back top of chair"
PHOTO_HW = (480, 640)
SENTENCES = 7  # of each image, RefCOCO's average


def take_turns(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor seconds of each side; the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, work in sides.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def built(config: ModelConfig) -> PointSequenceModel:
    torch.manual_seed(0)
    model = build_model(config, 100)
    assert isinstance(model, PointSequenceModel)
    torch.nn.init.normal_(model.predictor[-1].weight, std=1.0)  # type: ignore[arg-type]
    return model


def head_inputs(n: int, channels: int) -> tuple[VisionMaps, Tensor, SentenceFeatures]:
    """Fused cells of n images with one sentence each."""
    cells = torch.randn(n, channels, *GRID, requires_grad=True)
    full = torch.tensor([GRID] * n)
    words = torch.randn(n, 6, channels)
    mask = torch.ones(n, 6, dtype=torch.bool)
    vision = VisionMaps(cells, torch.ones(n, *GRID, dtype=torch.bool), full, full, True)
    return vision, torch.arange(n), SentenceFeatures(words, mask, words.amax(1))


# ---------------------------------------------------------------- the bound


def matrix_product() -> None:
    """2 * 1024^3 multiplications and additions."""
    torch.mm(_SQUARE, _SQUARE)


def read() -> None:
    """80 MB, once."""
    _LONG.sum()


_SQUARE = torch.randn(1024, 1024)
_PRODUCT_FLOPS = 2 * 1024**3
_LONG = torch.randn(20_000_000)


def encoder_flops(c: ModelConfig, m: int) -> float:
    """Of one sentence with m memory tokens, with the projection of the fused cells."""
    d = c.d_model
    layer = 4 * d * d + 2 * m * d + 2 * d * c.ffn_dim  # projections, two attention products, feed-forward
    return 2 * m * (c.encoder_layers * layer + c.fusion.channels * d)


def position_weights(c: ModelConfig) -> float:
    """How many weights one position of the decoder is multiplied with."""
    d = c.d_model
    point = d * 128 + 128 * 64 + 64 * 4 * c.n_heads if c.pmca else 0
    layer = 6 * d * d + 2 * d * c.ffn_dim + point  # both attentions without keys and values of the memory
    return c.decoder_layers * layer + 2 * d * d + d * (c.n_bins + 1)


def decoder_flops(c: ModelConfig, m: int, length: int) -> float:
    """Of one sentence: memory keys and values once, then every position once."""
    d = c.d_model
    attention = c.decoder_layers * (length * d + 2 * m * d)  # half of the prefix on average, two products
    return 2.0 * (c.decoder_layers * 2 * m * d * d + length * (position_weights(c) + attention))


def reading_bound(c: ModelConfig, n: int, m: int, length: int, times: dict[str, float]) -> float:
    """Seconds of n sentences: keys and values are made, then each position reads the weights, or computes with them if
    that takes longer, and reads the keys and values."""
    flop, byte = times["product"] / _PRODUCT_FLOPS, times["read"] / (4 * _LONG.numel())
    weights, kept = position_weights(c), c.decoder_layers * 2 * m * c.d_model * n
    return 2 * kept * c.d_model * flop + length * (
        max(4 * weights * byte, 2 * n * weights * flop) + 4 * kept * byte
    )


# ---------------------------------------------------------------- rows


def bench_decoding(repeats: int) -> list[dict[str, Any]]:
    """D1 and D2: greedy decoding given the memory."""
    model = built(preset("partial-res-darknet53").replace(sequence="contour", task_token="learnable")).eval()
    c, rows = model.config, []
    for n in (1, 8, 32):
        with torch.no_grad():
            memory = model.fuse(*head_inputs(n, c.fusion.channels))
        tokens = model.generate(memory).tokens
        assert torch.equal(tokens, textbook.generate(model, memory)), "not the same tokens"
        sides = {
            "textbook": partial(textbook.generate, model, memory),
            "ours": partial(model.generate, memory),
            "product": matrix_product,
            "read": read,
        }
        times = take_turns(sides, repeats)
        m, length = memory.tokens.shape[1], model.layout.length
        target = ">= 8x" if n == 1 else ">= 12x"
        rows.append(row("D1", f"greedy decoding, batch {n}", times["textbook"], times["ours"], target))
        if n == 32:
            flops = n * decoder_flops(c, m, length)
            bound = flops * times["product"] / _PRODUCT_FLOPS
            work = f"greedy decoding, batch {n}, bound of {flops / n / 1e9:.2f} GFLOP an image"
            rows.append(row("D2", work, bound, times["ours"], "<= 2.5x", cost=True))
        bound = reading_bound(c, n, m, length, times)
        work = f"greedy decoding, batch {n}, bound with reading"
        rows.append(row("D2", work, bound, times["ours"], "<= 2.5x", cost=True))
    return rows


def set_dropout(model: PointSequenceModel, p: float) -> None:
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = p
        elif isinstance(part, MultiheadAttention):
            part.dropout = p


def bench_step(repeats: int) -> list[dict[str, Any]]:
    """T1: teacher-forced forward and backward of the head, with the dropout of the recipe and without."""
    model = built(preset("partial-res-darknet53").replace(sequence="contour", task_token="learnable"))
    c, rows = model.config, []
    length = model.layout.length
    for n in (8, 32):
        inputs = head_inputs(n, c.fusion.channels)
        targets, weights = torch.randint(0, c.n_bins, (n, length)), torch.ones(n, length)

        def step(plain: bool, inputs: Any = inputs, targets: Any = targets, weights: Any = weights) -> float:
            model.zero_grad()
            if plain:
                logits = textbook.logits(model, textbook.fuse(model, *inputs), targets)
            else:
                logits = model.decode(model.fuse(*inputs), targets)
            loss = token_sums(logits, targets, weights).mean()
            loss.backward()
            return loss.item()

        m = GRID[0] * GRID[1] + 1
        flops = 3 * n * (encoder_flops(c, m) + decoder_flops(c, m, length))  # backward costs two forwards
        for dropout in (True, False):
            set_dropout(model.train(), c.dropout if dropout else 0.0)
            if not dropout:
                assert abs(step(True) - step(False)) < 1e-4, "not the same loss"
            sides = {"textbook": partial(step, True), "ours": partial(step, False), "product": matrix_product}
            times = take_turns(sides, repeats)
            bound = flops * times["product"] / _PRODUCT_FLOPS
            work = f"step of the head, batch {n}, {'dropout 0.1' if dropout else 'no dropout'}"
            rows.append(row("T1", work, times["textbook"], times["ours"], ">= 1.8x"))
            work = f"the same against the bound of {flops / n / 1e9:.1f} GFLOP an image"
            rows.append(row("T1", work, bound, times["ours"], "<= 1.5x", cost=True))
    return rows


def photographs(n: int, size_hw: tuple[int, int]) -> Any:
    """n smooth pictures with `SENTENCES` sentences each, as prediction reads a dataset."""
    rng = np.random.default_rng(0)
    pictures = [
        np.kron(rng.integers(0, 255, (size_hw[0] // 8, size_hw[1] // 8, 3)), np.ones((8, 8, 1))).astype(
            np.uint8
        )
        for _ in range(n)
    ]
    words = WORDS.split()
    texts = [" ".join(rng.choice(words, int(rng.integers(2, 6)))) for _ in range(n * SENTENCES)]
    return SimpleNamespace(
        referent_image=np.arange(n),
        sentence_referent=np.repeat(np.arange(n), SENTENCES),
        boxes_xyxy=np.zeros((n, 4)),
        image_sizes_hw=np.array([size_hw] * n),
        texts=texts,
        image=lambda i: pictures[i],
    )


def loaded(model: PointSequenceModel) -> LoadedModel:
    codec = WordCodec.from_sentences([WORDS], model.config.text.max_words)
    return LoadedModel(channels_last(model).eval(), model.config, codec, torch.device("cpu"))


def bench_full_size(repeats: int) -> list[dict[str, Any]]:
    """E1: all sentences of an image together against one at a time."""
    ready = loaded(built(preset("partial-res-darknet53").replace(sequence="contour", task_token="learnable")))
    data = photographs(1, PHOTO_HW)
    sentences = np.arange(SENTENCES)

    def alone() -> Any:
        return np.concatenate(
            [predict_sentences(ready, data, sentences[i : i + 1]).tokens for i in sentences]
        )

    assert np.array_equal(alone(), predict_sentences(ready, data, sentences).tokens), "not the same tokens"
    times = take_turns({"alone": alone, "ours": lambda: predict_sentences(ready, data, sentences)}, repeats)
    work = "full-size prediction, a sentence of an image with 7"
    return [row("E1", work, times["alone"] / SENTENCES, times["ours"] / SENTENCES, ">= 5x")]


def bench_small(repeats: int) -> list[dict[str, Any]]:
    """E2: the small model over a batch of images against a plain forward pass for each sentence."""
    config = preset("refshapes-small").replace(
        sequence="box-contour", task_token="learnable", cctf=True, pmca=True, point_content=True
    )
    ready = loaded(built(config))
    model, n = ready.model, 8
    assert isinstance(model, PointSequenceModel)
    data = photographs(n, (config.image.size, config.image.size))
    sentences = np.arange(n * SENTENCES)

    @torch.no_grad()
    def plain() -> Any:
        """Every sentence with its own copy of the image, in batches of 8."""
        tokens = []
        for start in range(0, len(sentences), 8):
            here = sentences[start : start + 8]
            pictures = []
            for image in data.sentence_referent[here]:
                picture = data.image(int(image))
                pictures.append(render(picture, plain_frame(*picture.shape[:2], config.image.size)))
            sizes = torch.tensor([p.shape[:2] for p in pictures])
            pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
            words, mask = (torch.from_numpy(a) for a in ready.codec.encode([data.texts[s] for s in here]))
            vision = model.encode_images(normalise(pixels, sizes, config), sizes)
            memory = textbook.fuse(model, vision, torch.arange(len(here)), model.encode_text(words, mask))
            tokens.append(textbook.generate(model, memory).numpy())
        return np.concatenate(tokens)

    same = (plain() == predict_sentences(ready, data, sentences).tokens).mean()
    assert same == 1, f"only {same:.3f} of the tokens agree"
    times = take_turns({"plain": plain, "ours": lambda: predict_sentences(ready, data, sentences)}, repeats)
    work = "RefShapes-size prediction, a sentence of an image with 7"
    count = len(sentences)
    return [row("E2", work, times["plain"] / count, times["ours"] / count, ">= 4x")]


def row(
    name: str, work: str, reference: float, ours: float, target: str, *, cost: bool = False
) -> dict[str, Any]:
    ratio = ours / reference if cost else reference / ours
    limit = float(target.strip("<>= x"))
    met = ratio <= limit if cost else ratio >= limit
    return {
        "id": name, "work": work, "reference": reference, "ours": ours, "ratio": ratio, "target": target,
        "note": "" if met else "misses",
    }  # fmt: skip


def show(rows: list[dict[str, Any]]) -> None:
    print("| id | work | reference (ms) | ours (ms) | ratio | target | |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        numbers = f"{r['reference'] * 1e3:.1f} | {r['ours'] * 1e3:.1f} | {r['ratio']:.2f}x"
        print(f"| {r['id']} | {r['work']} | {numbers} | {r['target']} | {r['note']} |", flush=True)


BENCHES = {"D1": bench_decoding, "T1": bench_step, "E1": bench_full_size, "E2": bench_small}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--only", nargs="*", choices=tuple(BENCHES), default=tuple(BENCHES), help="D1 gives D2"
    )
    parser.add_argument("--json", type=Path, help="also write the rows, in seconds, to this file")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}")
    rows = [r for name in arguments.only for r in BENCHES[name](arguments.repeats)]
    show(rows)
    if arguments.json:
        threads = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        arguments.json.write_text(json.dumps({**threads, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
