"""Recipe files: loss, loss weights, learning rates, moving average, words, picture pipeline, darknet weights."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from golden_checks.released import resize_boxes
from golden_checks.table import Report
from stages.data.release_pipeline import choose_window, fit_size, jitter_boxes, jitter_pixels
from stages.data.text import PAD, WordCodec, clean
from stages.data.transforms import model_frame_size, padded
from stages.geometry.quantisation import quantise_release
from stages.geometry.rasterise import mask_to_rle, resize_mask_nearest
from stages.models.config import ModelConfig
from stages.models.darknet import ConvBlock, DarkNet53, ResidualStack
from stages.models.losses import token_sums_release
from stages.models.vocabulary import sequence_layout
from stages.training.optimiser import MovingAverage, linear_factor, step_factor
from stages.training.targets import SlotWeights, sequence_targets
from stages.weights.darknet import layout, load_darknet


def check_loss_weights(path: Path) -> Report:
    """Weight of every token, and its target (loss_weights.json)."""
    report = Report(path.stem)
    for name, case in json.loads(path.read_text()).items():
        tokens = np.array(case["targets"])
        sequence = {"rec": "box", "res": "contour", "mul": "multitask"}[name[:3]]
        digits = "".join(c for c in name if c.isdigit())
        config = ModelConfig(
            sequence=sequence,  # type: ignore[arg-type]
            n_points=int(digits or 12),
            task_token="task-wise" if sequence == "multitask" else "zero",
        )
        slots = sequence_layout(config)
        pixels = np.where(
            tokens == slots.end, np.nan, tokens + 0.5
        )  # on a canvas of 1000 x 1000 a bin is a pixel
        s = len(tokens)
        boxes = pixels[:, list(slots.box)] if slots.box else np.zeros((s, 4))
        points = (
            pixels[:, list(slots.contour)].reshape(s, -1, 2) if slots.contour else np.full((s, 12, 2), np.nan)
        )
        weighting = SlotWeights(first_box=1.5, end=1.0 if slots.box else 0.1)
        ours, weights = sequence_targets(
            slots, boxes, points, np.ones(s), np.full((s, 2), 1000), weighting, quantise_release
        )
        report.same(f"{name} targets", ours, tokens)
        report.close(f"{name} weights", weights, case["weight"], 1e-7)
    return report


def check_loss(path: Path) -> Report:
    """Label-smoothed cross-entropy and its gradient (label_smooth_ce.npz)."""
    report = Report(path.stem)
    with np.load(path, allow_pickle=False) as stored:
        data = dict(stored)
    for k in itertools.count():
        if f"logits{k}" not in data:
            return report
        logits = torch.from_numpy(data[f"logits{k}"].astype(np.float32)).requires_grad_()
        targets = torch.from_numpy(data[f"targets{k}"].astype(np.int64))
        weights = torch.from_numpy(data[f"weight{k}"]).view(targets.shape)
        loss = token_sums_release(logits, targets, weights, smoothing=float(data[f"neg_factor{k}"])).mean()
        loss.backward()
        assert logits.grad is not None
        report.close(f"loss {k}", loss.item(), float(data[f"loss{k}"]), 1e-5, relative=True)
        report.close(f"gradient {k}", logits.grad[:, :2], data[f"grad{k}"], 1e-6)
    raise AssertionError("unreachable")


def check_learning_rates(path: Path) -> Report:
    """Learning rate of every epoch (lr_schedule.json)."""
    report = Report(path.stem)
    for k, case in enumerate(json.loads(path.read_text())):
        cfg = case["cfg"]
        warmup, epochs = cfg["warmup_epochs"], cfg["max_epoch"]
        if cfg["decay_steps"] is None:
            factors = [linear_factor(e, warmup=warmup, epochs=epochs) for e in range(epochs)]
        else:
            steps, ratio = cfg["decay_steps"], cfg["decay_ratio"]
            factors = [step_factor(e, warmup=warmup, decay_epochs=steps, ratio=ratio) for e in range(epochs)]
        ours = case["base_lr"] * np.array(factors)
        report.close(f"schedule {k}: decay at {cfg['decay_steps']}", ours, case["lr_of_epoch"], 1e-12)
    return report


def check_average(path: Path) -> Report:
    """Moving average of weights drawn by rule (ema.json)."""
    report, data = Report(path.stem), json.loads(path.read_text())
    for decay, steps in data["shadow_after_step"].items():
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        report.same(f"decay {decay} order", list(model.state_dict()), data["order"])
        _draw(model, 0)
        average = MovingAverage(model, float(decay), average_buffers=True)
        ours, theirs = [], []
        for k, wanted in enumerate(steps, start=1):
            _draw(model, k)
            average.update()
            ours += [average.values[n].numpy().flatten() for n in data["order"]]
            theirs += [np.ravel(wanted[n]) for n in data["order"]]
        report.close(f"decay {decay}", np.concatenate(ours), np.concatenate(theirs), 1e-6)
    return report


@torch.no_grad()
def _draw(model: nn.Module, step: int) -> None:
    for i, value in enumerate(model.state_dict().values()):
        if value.dtype.is_floating_point:
            value.copy_(
                torch.from_numpy(np.random.default_rng(100 * step + i).standard_normal(tuple(value.shape)))
            )
        else:
            value.fill_(7 * step)


def check_text(path: Path) -> Report:
    """Cleaning, word list and word numbers (text.json)."""
    report, data = Report(path.stem), json.loads(path.read_text())
    sentences = [e for split in data["anns_for_vocabulary"].values() for a in split for e in a["expressions"]]
    codecs = {n: WordCodec.from_sentences(sentences, n) for n in {c["max_token"] for c in data["cases"]}}
    words = next(iter(codecs.values())).words
    report.same("word list", words, sorted(data["token2idx"], key=data["token2idx"].get))
    report.same(
        "cleaned", [clean(c["expression"]) for c in data["cases"]], [c["cleaned"] for c in data["cases"]]
    )
    report.same(
        "words", [clean(c["expression"]).split() for c in data["cases"]], [c["words"] for c in data["cases"]]
    )
    worded = [c for c in data["cases"] if c["words"]]
    ours = [codecs[c["max_token"]].encode([c["expression"]])[0][0].tolist() for c in worded]
    report.same("word numbers", ours, [c["indices"] for c in worded])
    silent = [codecs[c["max_token"]].encode([c["expression"]])[0][0] for c in data["cases"] if not c["words"]]
    # the release feeds nothing but padding and then fails; here a sentence without words is one unknown word
    report.same(
        "a sentence without words has one unknown word",
        [int((ids != PAD).sum()) for ids in silent],
        [1] * len(silent),
    )
    return report


def check_pipeline(path: Path) -> Report:
    """Resizing, padding and large-scale jitter of pictures, boxes and masks (pipeline.json)."""
    report = Report(path.stem)
    for k, case in enumerate(json.loads(path.read_text())):
        name = f"{k}: {'jitter' if 'random_values' in case else 'resize'} {case['hw'][0]}x{case['hw'][1]}"
        (_check_jitter if "random_values" in case else _check_resize)(report, name, case)
    return report


def _case_mask(case: dict[str, Any]) -> np.ndarray:
    """The box filled, except where (x + y) % 7 == 0."""
    h, w = case["hw"]
    y, x = np.mgrid[:h, :w]
    x1, y1, x2, y2 = case["box"]
    return ((x >= x1) & (x < x2) & (y >= y1) & (y < y2) & ((x + y) % 7 != 0)).astype(np.uint8)


def _check_mask(report: Report, name: str, mask: np.ndarray, case: dict[str, Any]) -> None:
    canvas = np.zeros(case["pad_shape"], bool)
    canvas[: mask.shape[0], : mask.shape[1]] = mask
    report.same(f"{name} mask", mask_to_rle(canvas)["counts"].decode(), case["gt_mask_rle"]["counts"])


def _check_resize(report: Report, name: str, case: dict[str, Any]) -> None:
    size = tuple(case["hw"])
    new = fit_size(size, 128)
    report.same(f"{name} size", new, tuple(case["img_shape"]))
    report.same(f"{name} size of our own frame", model_frame_size(*size, 128), tuple(case["img_shape"]))
    report.same(f"{name} padded size", tuple(padded(v, 32) for v in new), tuple(case["pad_shape"]))
    report.close(f"{name} box", resize_boxes(case["box"], size, new), case["gt_bbox"], 1e-5)
    _check_mask(report, name, resize_mask_nearest(_case_mask(case), new), case)


def _check_jitter(report: Report, name: str, case: dict[str, Any]) -> None:
    values = itertools.cycle(case["random_values"])
    calls = itertools.count()

    def draw() -> float:
        next(calls)
        return float(next(values))

    size = tuple(case["hw"])
    mask = _case_mask(case)
    window = choose_window(draw, size, 128, case["box"], mask)
    report.same(f"{name} draws", next(calls), case["random_calls"])
    report.same(f"{name} untouched", window.untouched, case["fallback_returned_unscaled"])
    report.same(f"{name} size", window.size_hw, tuple(case["img_array_after_jitter"]))
    if "gt_bbox" not in case:
        return
    report.same(f"{name} padded size", tuple(padded(v, 32) for v in window.size_hw), tuple(case["pad_shape"]))
    report.close(f"{name} box", jitter_boxes(case["box"], size, window), case["gt_bbox"], 1e-9)
    _check_mask(report, name, jitter_pixels(mask, window) > 0, case)


def check_darknet(path: Path) -> Report:
    """Which number of a darknet file lands where (darknet.json, tiny_darknet.weights)."""
    report, data = Report(path.stem), json.loads(path.read_text())
    shapes = {name: entry[2] for name, entry in data["tiny_first_last_shape"].items()}
    tiny = _Trunk(shapes)
    loaded = load_darknet(tiny, path.with_name("tiny_darknet.weights"))
    ours, theirs = [], []
    state = tiny.state_dict()
    for name, (first, last, shape) in data["tiny_first_last_shape"].items():
        values = state[name].reshape(-1)
        ours.append([float(values[0]), float(values[-1]), list(state[name].shape)])
        theirs.append([float(first), float(last), shape])
    report.same("tiny file, first and last number", ours, theirs)
    report.same("tiny file, numbers read", sum(state[n].numel() for n in loaded.read), data["tiny_floats"])
    at, offsets = 0, {}
    with torch.device("meta"):
        trunk = DarkNet53()
    for name, tensor in layout(trunk):
        offsets[name] = [at, tensor.numel()]
        at += tensor.numel()
    report.same(
        "DarkNet-53, places of all tensors",
        sorted(offsets.items()),
        sorted(data["darknet53_offset_len"].items()),
    )
    report.same("DarkNet-53, numbers", at, data["darknet53_total_floats"])
    return report


class _Trunk(nn.Module):
    """A trunk of the modules that a table of shapes names."""

    def __init__(self, shapes: dict[str, list[int]]) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for i in range(1 + max(int(name.split(".")[1]) for name in shapes)):
            kernel = shapes.get(f"darknet.{i}.conv.weight")
            if kernel:
                modules.append(ConvBlock(kernel[1], kernel[0], kernel[2]))
                continue
            first = shapes[f"darknet.{i}.module_list.0.0.conv.weight"]
            blocks = len({n.split(".")[3] for n in shapes if n.startswith(f"darknet.{i}.module_list.")})
            modules.append(ResidualStack(first[1], blocks, shortcut=True))
        self.darknet = nn.ModuleList(modules)


CHECKS = {
    "loss_weights": check_loss_weights,
    "label_smooth_ce": check_loss,
    "lr_schedule": check_learning_rates,
    "ema": check_average,
    "text": check_text,
    "pipeline": check_pipeline,
    "darknet": check_darknet,
}
