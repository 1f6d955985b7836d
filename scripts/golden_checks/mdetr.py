"""MDETR cases: criterion, matching, mask head, a small whole model, precision of RefExp, and what SiRi keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golden_checks.released import cardinality_error, positive_tokens, weighted_sum
from golden_checks.table import Report
from golden_checks.weights import by_rule
from stages.geometry.boxes import box_iou_pairwise
from stages.models.config import DetectorConfig, FusionConfig, ModelConfig
from stages.models.detection_boxes import centre_to_corners, giou
from stages.models.matcher import MatchCosts
from stages.models.mdetr import Detections, DetectorMemory, QueryDetector
from stages.models.mdetr_criterion import (
    DetectionTargets,
    LayerOutputs,
    LossWeights,
    dice_mask_loss,
    final_query_loss,
    focal_mask_loss,
    layer_losses,
    resize_masks,
)
from stages.models.mdetr_mask_head import AttentionMaskHead, MaskInputs, masks_in_image
from stages.models.siri import fate
from stages.weights.mdetr_names import convert, our_name

LOSS, GRADIENT, STATE, LOGITS = 1e-5, 1e-5, 1e-4, 1e-3
TERMS = {
    "tokens": "loss_ce",
    "l1": "loss_bbox",
    "giou": "loss_giou",
    "align": "loss_contrastive_align",
    "final": "loss_isfinal",
}


def load(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The json, and the arrays of the npz beside it (half precision widened)."""
    arrays = path.with_suffix(".npz")
    if not arrays.exists():
        return json.loads(path.read_text()), {}
    with np.load(arrays, allow_pickle=False) as stored:
        data = {
            k: torch.from_numpy(v.astype(np.float32) if v.dtype == np.float16 else v)
            for k, v in stored.items()
        }
    return json.loads(path.read_text()), data


def weights(manifest: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Manifest without scales: every gain is 1 -> state dict of our names."""
    entries = []
    for e in manifest:
        fan_in = int(np.prod(e["shape"][1:])) if len(e["shape"]) > 1 else 1
        entries.append({"scale": 1.0 if e["kind"] == "embedding" else fan_in**-0.5, **e})
    return convert(by_rule(entries))


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


# ------------------------------------------------------------------- criterion


def check_criterion(path: Path) -> Report:
    info, data = load(path)
    report = Report(f"mdetr/{path.stem}")
    layers = ["main", *sorted({k.split("_")[0] for k in data if k.startswith("aux")})]
    n_rows = len(data["main_pred_logits"])
    boxes = [data[f"target{i}_boxes"] for i in range(n_rows)]
    row = torch.repeat_interleave(torch.arange(n_rows), torch.tensor([len(b) for b in boxes]))
    words = is_final = None
    if "main_proj_tokens" in data:
        spans = [[tuple(s) for s in target] for image in info["tokens_positive"] for target in image]
        n_tokens = data["main_proj_tokens"].shape[1]
        words = positive_tokens(
            spans, row.tolist(), info["char_to_token"], n_tokens, info["char_to_token"][0]
        )
    if "target0_isfinal" in data:
        is_final = torch.cat([data[f"target{i}_isfinal"] for i in range(n_rows)])
    targets = DetectionTargets(row, torch.cat(boxes), data["positive_map"], words, is_final)
    table = info["weight_dict"]
    given = {term: table[name] for term, name in TERMS.items() if name in table}
    loss_weights = LossWeights(
        **given, no_object=info["eos_coef"], temperature=info.get("temperature", LossWeights.temperature)
    )
    cost = info["matcher"]
    costs = MatchCosts(cost["cost_class"], cost["cost_bbox"], cost["cost_giou"])
    n_boxes, losses = float(info["num_boxes"]), info["losses"]
    leaves = {k: v.clone().requires_grad_() for k, v in data.items() if f"{k}_grad" in data}
    total = torch.zeros(())
    for number, layer in enumerate(layers):
        end = "" if layer == "main" else f"_{number - 1}"
        pick = {
            k.removeprefix(f"{layer}_"): leaves.get(k, v)
            for k, v in data.items()
            if k.startswith(f"{layer}_")
        }
        outputs = LayerOutputs(
            pick["pred_logits"], pick["pred_boxes"], pick.get("proj_queries"), pick.get("pred_isfinal")
        )
        terms, matches = layer_losses(outputs, pick.get("proj_tokens"), targets, loss_weights, costs, n_boxes)
        first = torch.searchsorted(row, torch.arange(n_rows))
        pairs = [
            [matches.query[matches.row == i].tolist(), (matches.target[matches.row == i] - first[i]).tolist()]
            for i in range(n_rows)
        ]
        report.same(f"{layer} matches", pairs, info[f"{layer}_match"])
        for term, value in terms.items():
            report.close(
                f"{TERMS[term]}{end}", value.item(), losses.get(f"{TERMS[term]}{end}"), LOSS, relative=True
            )
        report.close(
            f"cardinality_error{end}",
            float(cardinality_error(outputs.logits, row)),
            losses.get(f"cardinality_error{end}"),
            LOSS,
        )
        if outputs.is_final is not None and is_final is not None:
            _, accuracy = final_query_loss(outputs.is_final, matches, is_final, n_boxes)
            report.close(
                f"accuracy_isfinal{end}", accuracy.item(), losses.get(f"accuracy_isfinal{end}"), LOSS
            )
        total = total + weighted_sum(terms, loss_weights)
        if "pred_masks" in pick:
            truth = _padded([data[f"target{i}_masks"] for i in range(n_rows)])[matches.target].flatten(1)
            drawn = pick["pred_masks"][matches.row, matches.query]
            logits = resize_masks(drawn, tuple(_canvas(data, n_rows))).flatten(1)
            masks = {"loss_mask": focal_mask_loss(logits, truth), "loss_dice": dice_mask_loss(logits, truth)}
            for name, each in masks.items():
                value = each.sum() / n_boxes
                report.close(f"{name}{end}", value.item(), losses.get(f"{name}{end}"), LOSS, relative=True)
                total = total + table[name] * value
    report.close("total", total.item(), info["total"], LOSS, relative=True)
    total.backward()
    for name, leaf in leaves.items():
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        report.close(f"gradient of {name}", gradient, data[f"{name}_grad"], GRADIENT, relative=True)
    if "prim_x" in data:
        x, t = data["prim_x"], data["prim_t"]
        report.close(
            "focal, 3 boxes", float(focal_mask_loss(x, t).sum() / 3), info.get("prim_focal_nb3"), LOSS
        )
        report.close("dice, 3 boxes", float(dice_mask_loss(x, t).sum() / 3), info.get("prim_dice_nb3"), LOSS)
    if "giou" in data:
        report.close("giou", giou(data["giou_a"][:, None], data["giou_b"][None]), data["giou"], LOSS)
    return report


def _canvas(data: dict[str, Tensor], n: int) -> list[int]:
    return [max(data[f"target{i}_masks"].shape[k] for i in range(n)) for k in (1, 2)]


def _padded(masks: list[Tensor]) -> Tensor:
    """Masks of all images on one canvas, padding 0."""
    h, w = (max(m.shape[k] for m in masks) for k in (1, 2))
    return torch.cat([nn.functional.pad(m, (0, w - m.shape[2], 0, h - m.shape[1])) for m in masks])


# ------------------------------------------------------------------- mask head


@torch.no_grad()
def check_mask_head(path: Path) -> Report:
    info, data = load(path)
    report = Report(f"mdetr/{path.stem}")
    head = AttentionMaskHead(info["hidden"], info["nheads"], info["fpn_dims"])
    head.load_state_dict(part(weights(info["manifest"]), "mask_head."))
    levels = [data[k] for k in sorted(data) if k.startswith("fpn")]
    inputs = MaskInputs(data["memory"], ~data["mask"], data["src_proj"], levels)
    report.close(
        "attention maps", head.attention(data["hs"], inputs.cells, inputs.valid), data["bbox_mask"], 1e-5
    )
    logits = head(data["hs"], inputs)
    report.close("mask logits", logits, data["seg_masks"], LOGITS)
    for case in ("post_same", "post_diff"):
        sizes = [
            tuple(data[f"{case}_{i}_masks"].shape[-2:])
            for i in range(len(logits))
            if f"{case}_{i}_masks" in data
        ]
        padded = (max(s[0] for s in sizes), max(s[1] for s in sizes)) if sizes else (0, 0)
        for i, size in enumerate(sizes):
            masks = masks_in_image(logits[i], padded, size, size)
            report.same(f"{case} {i} masks", masks.numpy(), data[f"{case}_{i}_masks"][:, 0].numpy())
            outputs = LayerOutputs(data["post_logits"][i : i + 1], data["post_boxes"][i : i + 1])
            found = Detections([outputs], data["hs"], None)  # type: ignore[arg-type]
            scale = torch.tensor([size[1], size[0]] * 2)
            corners = centre_to_corners(outputs.boxes[0]) * scale
            report.close(f"{case} {i} boxes", corners, data[f"{case}_{i}_boxes"], LOGITS)
            report.close(f"{case} {i} scores", found.scores()[0], data[f"{case}_{i}_scores"], LOSS)
    return report


# ------------------------------------------------------------------- whole model


@torch.no_grad()
def check_small_model(path: Path) -> Report:
    info, data = load(path)
    report = Report(f"mdetr/{path.stem}")
    state = part(weights(info["manifest"]), "detector.")
    config = ModelConfig(
        family="mdetr", d_model=info["d_model"], n_heads=info["nhead"], encoder_layers=info["enc"],
        decoder_layers=info["dec"], ffn_dim=info["ffn"], dropout=0.0,
        fusion=FusionConfig(channels=info["backbone_channels"]),
        detector=DetectorConfig(
            queries=info["num_queries"], classes=len(state["class_heads.0.bias"]) - 1,
            align_dim=len(state.get("align_queries.bias", ())),
        ),
    )  # fmt: skip
    model = QueryDetector(config, info["backbone_channels"], info["text_hidden"]).eval()
    model.load_state_dict(state)
    cells = data["features"].flatten(2).transpose(1, 2)
    positions = data["pos"].flatten(2).transpose(1, 2)
    valid = ~data["feat_mask"].flatten(1)
    words = data["text_hidden"].transpose(0, 1)
    word_mask = ~data["text_mask"]
    report.close("projected text", model.text_proj(words), data["text_resized"].transpose(0, 1), STATE)
    tokens, mask, positions, projected = model.encode(cells, valid, positions, words, word_mask)
    want = data["img_memory"].transpose(0, 1)
    report.close("memory", tokens * mask[..., None], want * mask[..., None], STATE)
    h, w = data["features"].shape[-2:]
    whole = torch.tensor([[h, w]] * len(tokens))
    found = model.detect(
        DetectorMemory(tokens, mask, positions, (h, w), whole, whole, False, projected=projected)
    )
    names = [*(f"aux{i}_" for i in range(len(found.layers) - 1)), ""]
    for name, layer in zip(names, found.layers, strict=True):
        report.close(f"{name}pred_logits", layer.logits, data.get(f"{name}pred_logits"), LOGITS)
        report.close(f"{name}pred_boxes", layer.boxes, data.get(f"{name}pred_boxes"), STATE)
        if layer.aligned is not None:
            report.close(f"{name}proj_queries", layer.aligned, data.get(f"{name}proj_queries"), STATE)
    if found.aligned_text is not None:
        report.close(
            "proj_tokens",
            found.aligned_text * word_mask[..., None],
            data["proj_tokens"] * word_mask[..., None],
            STATE,
        )
    return report


# ------------------------------------------------------------------- evaluator, SiRi


def check_precision(path: Path) -> Report:
    """The evaluator thresholds generalised IoU (ODDITIES H1); both precisions."""
    info, _ = load(path)
    report = Report(f"mdetr/{path.stem}")
    keys = sorted(info["gt_xywh"], key=int)
    truth = torch.tensor([info["gt_xywh"][k] for k in keys], dtype=torch.float32)
    truth[:, 2:] += truth[:, :2]
    first = torch.tensor([info["pred_xyxy"][k][0] for k in keys], dtype=torch.float32)
    overlap = giou(first, truth)
    iou = box_iou_pairwise(first.numpy(), truth.numpy())
    report.close("giou", overlap, info["giou"], LOSS)
    report.close("iou", iou, info["iou"], LOSS)
    report.close("precision by giou", float((overlap >= 0.5).float().mean()), info["official_p_at_1"], LOSS)
    report.close("precision by iou", float((iou >= 0.5).mean()), info["iou_p_at_1"], LOSS)
    return report


# the release copies its whole transformer for the second decoder and builds a module that nothing calls (ODDITIES H7)
UNUSED = ("transformer.1.encoder", "transformer.1.resizer", "sent_pos_attn")


def check_state_groups(path: Path) -> Report:
    """Tensors, numbers and fate of each group, counted in our multi-task model of the same size."""
    info, _ = load(path)
    report = Report(f"mdetr/{path.stem}")
    width = info["query_embed"][1] // 16
    coarse = (info["input_proj"][1] - width) // width
    text = (info["transformer.0.resizer"][1] - 3 * width) // width
    layers = info["transformer.0.encoder"][0] // 12
    per_layer = info["transformer.0.encoder"][1] // layers
    ffn = (per_layer - 4 * width * width - 9 * width) // (2 * width + 1)
    config = ModelConfig(
        family="mdetr", d_model=width, encoder_layers=layers, decoder_layers=(info["transformer.0.decoder"][0] - 2) // 18,
        ffn_dim=ffn, detector=DetectorConfig(second_decoder=True),
    )  # fmt: skip
    from stages.models.fusion import AddedLevel

    with torch.device("meta"):
        detector = QueryDetector(config, coarse, text)
        added = AddedLevel((coarse // 4, coarse // 2, coarse))
    state = {f"detector.{k}": v for k, v in detector.state_dict().items()}
    state |= {f"fusion.{k}": v for k, v in added.state_dict().items()}
    for group, (tensors, numbers, want) in info.items():
        if group.startswith(UNUSED) or group.endswith(UNUSED):
            continue
        ours = our_name(f"{group}.") if group not in ("transformer.0.resizer", "bbox_embed", "class_embed") else {
            "transformer.0.resizer": "detector.text_proj.", "bbox_embed": "detector.box_heads.", "class_embed": "detector.class_heads.",
        }[group]  # fmt: skip
        mine = {k: v for k, v in state.items() if k.startswith(ours)}
        fates = {"re-initialised" if fate(k, "mdetr") == "pretrained" else fate(k, "mdetr") for k in mine}
        report.same(f"{group} tensors", len(mine), tensors)
        report.same(f"{group} numbers", sum(v.numel() for v in mine.values()), numbers)
        report.same(f"{group} fate", sorted(fates), [want])
    return report


CHECKS: dict[str, Callable[[Path], Report]] = {
    "criterion": check_criterion,
    "mask head": check_mask_head,
    "model": check_small_model,
    "precision": check_precision,
    "state groups": check_state_groups,
}


def kind_of(info: Any) -> str | None:
    """Which check a case is for, by what its json holds; None = none of them."""
    if not isinstance(info, dict):
        return None
    signs = {
        "weight_dict": "criterion",
        "fpn_dims": "mask head",
        "num_queries": "model",
        "official_p_at_1": "precision",
    }
    for key, kind in signs.items():
        if key in info:
            return kind
    return "state groups" if "transformer.0.encoder" in info else None
