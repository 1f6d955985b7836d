"""Geometry and metric files: sampling, tokens, masks of sequences, projection scores, accuracies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from golden_checks.released import (
    batch_averaged,
    projection_score_release,
    quantise_vertices_release,
    sample_by_angle,
)
from golden_checks.table import Report
from stages.geometry.boxes import box_iou_pairwise
from stages.geometry.projection import projection_score
from stages.geometry.quantisation import dequantise_release, quantise_release, tokens_to_box, tokens_to_points
from stages.geometry.rasterise import mask_to_rle, polygon_to_rle, resize_mask_nearest, rle_area, rle_to_mask
from stages.geometry.resampling import sample_release
from stages.metrics.segmentation import PRECISION_AT, overlaps, summarise_masks


def check_vertices(path: Path) -> Report:
    """Contour points of masks as the release samples them (path: sample_mask_vertices.json)."""
    report = Report(path.stem)
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
        data = dict(stored)
    info = json.loads(path.read_text())
    filled = [i for i, mask in enumerate(data["masks"]) if mask.any()]
    masks = [data["masks"][i] > 0 for i in filled]
    for name in sorted(k for k in data if k.startswith("vertices_")):
        n, kind = int(name.split("_")[1]), name.split("_")[2]
        ours = np.array([(sample_by_angle if kind == "center" else sample_release)(m, n).T for m in masks])
        report.close(f"{n} points, {kind}", ours, data[name][filled], 0.0 if kind == "uniform" else 1e-4)
    found = np.array([(sample_release(m, 12) >= 0).any() for m in masks])
    report.same("kept", found, np.asarray(data["keep"])[filled].astype(bool))
    if info.get("empty_mask"):
        try:
            sample_release(np.zeros((4, 4), bool), 12)
            refused = False
        except ValueError:
            refused = True
        report.same("empty mask is refused", refused, True)
    return report


def check_tokens(path: Path) -> Report:
    """Coordinates -> tokens (quantize.json)."""
    report = Report(path.stem)
    for case in json.loads(path.read_text()):
        height, width = case["pad_shape"]
        size = f"{height}x{width}"
        box = quantise_release(case["box"], [width, height, width, height], 1000)
        report.same(f"{size} box tokens", box, np.array(case["box_tokens"]))
        ends = np.full((len(box), 1), 1000)
        report.same(f"{size} box targets", np.concatenate((box, ends), 1), np.array(case["box_targets"]))
        absolute = quantise_release(case["box"], 640, 1000)
        report.same(f"{size} absolute box tokens", absolute, np.array(case["box_tokens_absolute_mapping"]))
        vertices = np.swapaxes(case["vertices"], 1, 2)
        flat = (len(vertices), -1)
        raw = quantise_release(vertices, [width, height], 1000).reshape(flat)
        report.same(f"{size} vertex tokens", raw, np.array(case["vertices_quantize_raw"]))
        targets = quantise_vertices_release(vertices, [width, height], 1000).reshape(flat)
        targets = np.concatenate((targets, np.full((len(targets), 1), 1000)), 1)
        report.same(f"{size} contour targets", targets, np.array(case["mask_targets"]))
    return report


def check_masks(path: Path) -> Report:
    """Token sequences -> masks (sequence_to_rle.json); one row for each name."""
    report = Report(path.stem)
    names: dict[str, list[dict[str, Any]]] = {}
    for case in json.loads(path.read_text()):
        names.setdefault(case["name"], []).append(case)
    for name, cases in names.items():
        ours, theirs = [], []
        for case in cases:
            height, width = case["pad_shape"]
            points = tokens_to_points(case["tokens"], [width, height], 1000, dequantise_release)
            rle = polygon_to_rle(points, (height, width), two_points="xywh")
            rescaled = mask_to_rle(resize_mask_nearest(rle_to_mask(rle), case["ori_shape"]))
            ours += [rle["counts"].decode(), rle_area(rle), rescaled["counts"].decode(), rle_area(rescaled)]
            for key in ("rle", "rle_rescaled"):
                theirs += [case[key]["counts"], case[key]["area"]]
        report.same(name, ours, theirs)
    return report


def check_boxes(path: Path) -> Report:
    """Box tokens -> pixels (sequence_to_box.json)."""
    report, case = Report(path.stem), json.loads(path.read_text())
    height, width = case["pad_shape"]
    boxes = tokens_to_box(case["tokens"], [width, height], 1000, dequantise_release)
    report.close("boxes", boxes, case["box"], 0.0)
    report.close("boxes, original frame", boxes / case["scale_factor"], case["box_rescaled"], 1e-3)
    return report


def check_projection(path: Path) -> Report:
    """Projection scores (project_term.json): the release's, with its polygon round trip, and of the masks themselves."""
    report, data = Report(path.stem), json.loads(path.read_text())
    items = data["items"]
    released = [projection_score_release(i["pred"], i["bbox"]) for i in items]
    report.same("polygons found", [n for _, n in released], [i["n_polygons"] for i in items])
    report.same(
        "no score without a polygon",
        [s is None for s, _ in released],
        [i["project_term"] is None for i in items],
    )
    scored = [k for k, i in enumerate(items) if i["project_term"] is not None]
    scores = np.array([released[k][0] for k in scored], np.float64)
    report.close("project_term", scores, [items[k]["project_term"] for k in scored], 1e-6)
    kept = [bool(s < data["threshold"]) for s in scores]
    report.same("below the threshold", kept, [items[k]["below_threshold"] for k in scored])
    ours = []
    for k in scored:
        x, y, width, height = np.asarray(items[k]["bbox"]).astype(int)
        ours.append(projection_score(rle_to_mask(items[k]["pred"]), [x, y, x + width, y + height]))
    report.close(
        "project_term of the mask itself", ours, [items[k]["project_term_raw_mask"] for k in scored], 1e-6
    )
    return report


def check_accuracy(path: Path) -> Report:
    """Box and mask scores of batches and of the epoch (accuracy.json), with and without the crowd rule."""
    report, data = Report(path.stem), json.loads(path.read_text())
    detected: list[bool] = []
    crowd_iou: list[float] = []
    for k, batch in enumerate(data["batches"]):
        box_iou = box_iou_pairwise(batch["pred_bbox"], batch["gt_bbox"])
        report.close(f"batch {k} box IoU", box_iou, batch["bbox_iou"], 1e-9)
        crowd = overlaps(batch["pred"], batch["gt"], crowd=batch["is_crowd"])
        for name, scores, wanted in (
            ("", crowd, batch),
            (" (iscrowd = 0)", overlaps(batch["pred"], batch["gt"]), batch["no_crowd"]),
        ):
            report.close(f"batch {k} mask IoU{name}", scores.iou * 100, wanted["mask_iou"], 1e-6)
            summary = summarise_masks(scores)
            ours = [summary["miou"] * 100, *(summary[f"pr@{at}"] * 100 for at in PRECISION_AT)]
            report.close(f"batch {k} mIoU, Pr@X{name}", ours, [wanted["mIoU"], *wanted["mask_acc_at"]], 1e-4)
        detected += (box_iou >= 0.5).tolist()
        crowd_iou += crowd.iou.tolist()
    sizes = [len(b["pred"]) for b in data["batches"]]
    epoch, iou = data["epoch_as_evaluate_model"], np.array(crowd_iou)
    averaged = [batch_averaged(detected, sizes), *(batch_averaged(iou >= at, sizes) for at in PRECISION_AT)]
    report.close(
        "epoch, mean of batch means",
        np.array(averaged) * 100,
        [epoch["det_acc"], *epoch["mask_acc_at"]],
        1e-4,
    )
    exact = [np.mean(detected), *((iou >= at).mean() for at in PRECISION_AT)]
    wanted = [epoch["per_sample_det_acc"], *epoch["per_sample_mask_acc_at"]]
    report.close("epoch, per sample", np.array(exact) * 100, wanted, 1e-4)
    report.close("epoch mIoU", iou.mean() * 100, epoch["mIoU"], 1e-6)
    return report


CHECKS = {
    "sample_mask_vertices": check_vertices,
    "quantize": check_tokens,
    "sequence_to_rle": check_masks,
    "sequence_to_box": check_boxes,
    "project_term": check_projection,
    "accuracy": check_accuracy,
}
