"""Model cases: the released networks with weights by rule, through import, encoding, decoding, loss and gradients.

Every quantity that a case holds is compared; a case without targets is decoded only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golden_checks.table import Report
from golden_checks.weights import noise, released_state
from stages.geometry.quantisation import dequantise_release, quantise_release, tokens_to_box, tokens_to_points
from stages.geometry.rasterise import mask_to_rle, polygon_to_rle, resize_mask_nearest, rle_to_mask
from stages.models.build import build_model
from stages.models.cctf import Content
from stages.models.losses import token_sums_release
from stages.models.memory import Memory
from stages.models.seqtr import PointSequenceModel
from stages.training.targets import SlotWeights, sequence_targets
from stages.weights.released_model import convert
from stages.weights.released_names import released_name

LOGITS, MEMORY, INPUT, LOSS, GRADIENT = 1e-3, 1e-4, 1e-4, 1e-5, 1e-3
# Rounding of another vector width flips single ReLUs near zero, which moves one tensor's projection by up to 1 %; a wrong
# formula moves it by 10 to 100 %.
WORST_PROJECTION = 3e-2
ZERO_GRADIENT = 1e-6  # of the total norm: a shorter gradient is zero but for rounding (biases of keys)


@dataclass
class Case:
    """One npz + json pair, and the model it belongs to."""

    name: str
    info: dict[str, Any]
    data: dict[str, np.ndarray]
    model: PointSequenceModel

    @property
    def images(self) -> Tensor:
        return torch.from_numpy(self.data["img_u8"]).float() / 255

    @property
    def sizes_hw(self) -> Tensor:
        return torch.from_numpy(self.data["img_shape"]).long()

    @property
    def words(self) -> Tensor:
        return torch.from_numpy(self.data["tokens"]).long()

    @property
    def multitask(self) -> bool:
        return self.model.config.sequence == "multitask"

    def slot_weights(self) -> SlotWeights:
        """The released weighting: the box's first token 1.5; END 0.1 only where nothing but a contour is trained."""
        return (
            SlotWeights(first_box=1.5) if not self.model.layout.box else SlotWeights(first_box=1.5, end=1.0)
        )


def load_case(folder: Path, path: Path) -> Case:
    info = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
        data = dict(stored)
    state = released_state(folder, info["repo"], info["config"], info.get("num_ray"))
    released = convert(state, where=path.stem)
    model = build_model(released.config, released.vocabulary_size)
    model.load_state_dict(released.state)
    if info.get("end_bias"):
        with torch.no_grad():
            model.predictor[-1].bias[-1] += info["end_bias"]
    return Case(path.stem, info, data, model.eval())


def check_model(folder: Path, path: Path) -> Report:
    """Every comparison of one case."""
    report = Report(path.stem)
    case = load_case(folder, path)
    has_targets = "targets" in case.data
    with torch.set_grad_enabled(has_targets and "loss" in case.info):
        memory = _encode(case, report)
        content = case.model.content(memory)
        if has_targets:
            _teacher_forcing(case, report, memory, content)
    with torch.inference_mode():
        _greedy(case, report, memory)
    return report


def _encode(case: Case, report: Report) -> Memory:
    model, data = case.model, case.data
    text = model.encode_text(case.words, case.words > 0)
    report.close("language feature", text.sentence.detach()[:, None], data.get("y"), MEMORY)
    maps: list[Tensor] = []
    handle = model.vision.register_forward_hook(lambda _m, _i, out: maps.extend(out))
    vision = model.encode_images(case.images, case.sizes_hw)
    handle.remove()
    for level, values in enumerate(maps):
        values = values.detach()
        report.close(f"backbone {level}", values[:, ::64], data.get(f"vis{level}_sub"), 1e-3)
        stats = [float(values.mean()), float(values.std())]
        report.close(f"backbone {level} mean, std", stats, case.info.get(f"vis{level}_mean_std"), MEMORY)
    everyone = torch.arange(len(case.words))
    fused = vision.cells.tanh() * text.sentence.tanh()[:, :, None, None]
    report.close("fused features", fused.detach()[:, ::4], data.get("x_mm_sub"), MEMORY)
    report.close("sentence token", text.sentence.detach().tanh()[..., None], data.get("x_lan"), MEMORY)
    memory = model.fuse(vision, everyone, text)
    h, w = memory.grid_hw
    report.same("padding mask", ~memory.mask[:, : h * w].numpy(), data.get("x_mask"))
    report.close("cell positions", memory.positions[:, : h * w, ::8], data.get("x_pos_sub"), MEMORY)
    report.close("memory", memory.tokens.detach(), data.get("memory"), MEMORY)
    return memory


def _case_targets(case: Case) -> tuple[Tensor, Tensor]:
    data, s = case.data, len(case.words)
    boxes = data.get("gt_bbox", np.zeros((s, 4), np.float32))
    n = case.model.config.n_points
    points = np.full((s, n, 2), np.nan)
    if "gt_mask_vertices" in data:
        points = data["gt_mask_vertices"].transpose(0, 2, 1).astype(np.float64)
        points = np.where(points < 0, np.nan, points)
    tokens, weights = sequence_targets(
        case.model.layout, boxes, points, np.ones(s), data["pad_shape"], case.slot_weights(), quantise_release
    )
    return torch.from_numpy(tokens), torch.from_numpy(weights)


def _teacher_forcing(case: Case, report: Report, memory: Memory, content: Content | None) -> None:
    model, data = case.model, case.data
    targets, weights = _case_targets(case)
    report.same("targets", targets.numpy(), data["targets"])
    targets = torch.from_numpy(data["targets"]).long()
    inputs = model.decoder_input(targets, memory, content)
    report.close("decoder input", inputs.detach(), data.get("tf_in"), INPUT)
    plain = model.decoder_input(targets, memory, None).detach()
    report.close("decoder input without CCTF", plain, data.get("tf_in_noCCTF"), INPUT)
    bias: dict[int, Tensor] = {}
    handles = [
        layer.point.register_forward_hook(lambda _m, _i, out, k=k: bias.__setitem__(k, out.detach()))
        for k, layer in enumerate(model.decoder.layers)
        if layer.point is not None
    ]
    state = model.decoder(inputs, model.slot_embedding.weight, memory)
    for handle in handles:
        handle.remove()
    report.close("decoder output", state.detach(), data.get("tf_dec"), LOGITS)
    logits = model.predictor(state)
    report.close("logits", logits.detach(), data.get("tf_logits"), LOGITS)
    _pmca(report, data, bias, memory.grid_hw)
    _teacher_predictions(case, report, logits.detach())
    if "loss" not in case.info:
        return
    loss = token_sums_release(logits, targets, weights, smoothing=0.1).mean()
    report.close("loss", loss.item(), case.info["loss"], LOSS, relative=True)
    if case.info.get("grad"):
        loss.backward()
        _gradients(case, report)
        model.zero_grad(set_to_none=True)


def _pmca(
    report: Report, data: dict[str, np.ndarray], bias: dict[int, Tensor], grid_hw: tuple[int, int]
) -> None:
    """Ours (S, heads, T, M) against theirs (T, HW, S * heads)."""
    cells = grid_hw[0] * grid_hw[1]
    if "gauss_l0" in data:
        ours = bias[0][..., :cells].permute(2, 3, 0, 1).flatten(2)
        report.close("PMCA bias, layer 0", ours, data["gauss_l0"], LOGITS)
    if "gauss_l2_s3" in data:
        ours = bias[2][:, :, 3, :cells].permute(2, 0, 1).flatten(1)
        report.close("PMCA bias, layer 2, step 3", ours, data["gauss_l2_s3"], LOGITS)


def _gradients(case: Case, report: Report) -> None:
    """Norm and a random projection of each parameter's gradient, and that the same parameters have one."""
    reference: dict[str, list[float]] = case.info["grad"]
    ours = {
        released_name(n, multitask=case.multitask): p
        for n, p in case.model.named_parameters()
        if p.requires_grad
    }
    report.same("parameters with a gradient", sorted(set(ours)), sorted(reference))
    worst_norm, total = 0.0, 0.0
    projections: list[float] = []  # error of each, relative
    for name, (norm, inner) in reference.items():
        parameter = ours.get(name)
        if parameter is None:
            continue
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        flat = gradient.double().numpy().reshape(-1)
        length = float(np.linalg.norm(flat))
        total += length**2
        scale = max(norm, ZERO_GRADIENT * case.info["grad_total_norm"])
        projection = float(flat @ noise(f"grad:{name}", flat.shape))
        worst_norm = max(worst_norm, abs(length - norm) / scale)
        projections.append(abs(projection - inner) / scale)
    report.close("gradient norms (worst, relative)", worst_norm, 0.0, GRADIENT)
    compare_projections(report, projections)
    report.close("gradient total norm", total**0.5, case.info["grad_total_norm"], 1e-4, relative=True)


def compare_projections(report: Report, errors: list[float]) -> None:
    """Relative errors of all tensors' projections: most must be small, and none large (see WORST_PROJECTION)."""
    report.close("gradient projections (median, relative)", np.median(errors), 0.0, GRADIENT)
    report.close("gradient projections (worst, relative)", np.max(errors), 0.0, WORST_PROJECTION)


def _teacher_predictions(case: Case, report: Report, logits: Tensor) -> None:
    layout = case.model.layout
    if layout.box and "train_pred_bboxes" in case.data:
        box = logits[:, list(layout.box), :-1].argmax(-1).numpy()
        report.close("teacher-forced boxes", _boxes(case, box), case.data["train_pred_bboxes"], 1e-4)
    if layout.contour and "train_pred_masks" in case.info:
        contour = logits[:, [*layout.contour, layout.length - 1]].argmax(-1).numpy()
        rles = [_rle(case, i, row)[0] for i, row in enumerate(contour)]
        report.same(
            "teacher-forced masks",
            [_text(r) for r in rles],
            [_text(r) for r in case.info["train_pred_masks"]],
        )


def _greedy(case: Case, report: Report, memory: Memory) -> None:
    model, data, layout = case.model, case.data, case.model.layout
    decoded = model.generate(memory, keep_logits=True)
    assert decoded.logits is not None
    tokens = decoded.tokens.numpy()
    n_box = len(layout.box)
    report.same("greedy box tokens", tokens[:, :n_box], data.get("gen_seq_out_bbox"))
    report.same("greedy contour tokens", tokens[:, n_box:], data.get("gen_seq_out_mask"))
    values, index = decoded.logits.topk(5, -1)
    if "gen_top5_idx" in data:
        first = data["gen_top5_idx"][..., 0].astype(np.int64)
        report.same("greedy top-1 of the raw logits", index[..., 0].numpy(), first)
    report.close("greedy top-5 logits", values, data.get("gen_top5"), LOGITS)
    steps = [0, 1, 2, decoded.logits.shape[1] - 1]
    report.close("greedy logits", decoded.logits[:, steps], data.get("gen_logits_sel"), LOGITS)
    if "gen_in_last" in data:
        full = torch.full((len(tokens), layout.length), layout.end)
        full[:, list(layout.decoded)] = decoded.tokens
        inputs = model.decoder_input(full, memory, model.content(memory))
        report.close(
            "greedy decoder input", inputs[:, : data["gen_in_last"].shape[1]], data["gen_in_last"], INPUT
        )
    if "pred_bboxes" in data:
        boxes = _boxes(case, tokens[:, :n_box])
        report.close("boxes", boxes, data["pred_bboxes"], 1e-4)
        report.close(
            "boxes, original frame", boxes / data["scale_factor"], data["pred_bboxes_rescaled"], 1e-3
        )
    if "pred_masks" in case.info:
        rles = [_rle(case, i, row) for i, row in enumerate(tokens[:, n_box:])]
        report.same(
            "masks, padded frame", [_text(r[0]) for r in rles], [_text(r) for r in case.info["pred_masks"]]
        )
        report.same(
            "masks, original frame",
            [_text(r[1]) for r in rles],
            [_text(r) for r in case.info["pred_masks_rescaled"]],
        )


def _boxes(case: Case, tokens: np.ndarray) -> np.ndarray:
    return tokens_to_box(
        tokens, case.data["pad_shape"][:, ::-1], case.model.config.n_bins, dequantise_release
    )


def _rle(case: Case, row: int, tokens: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Contour tokens -> mask at pad_shape and, by the release's squeezing resize, at ori_shape."""
    size_hw = [int(v) for v in case.data["pad_shape"][row]]
    points = tokens_to_points(tokens, size_hw[::-1], case.model.config.n_bins, dequantise_release)
    rle = polygon_to_rle(points, size_hw, two_points="xywh")
    original = resize_mask_nearest(rle_to_mask(rle), [int(v) for v in case.data["ori_shape"][row]])
    return rle, mask_to_rle(original)


def _text(rle: dict[str, Any]) -> str:
    counts = rle["counts"]
    return f"{list(rle['size'])} {counts.decode() if isinstance(counts, bytes) else counts}"
