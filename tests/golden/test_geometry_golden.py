"""Numbers measured with the public release, reproduced by the functions that carry its semantics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_checks.released import (
    batch_averaged,
    projection_score_release,
    quantise_vertices_release,
    sample_by_angle,
)

from stages.geometry.boxes import box_iou_pairwise
from stages.geometry.projection import projection_score
from stages.geometry.quantisation import dequantise_release, quantise_release, tokens_to_box, tokens_to_points
from stages.geometry.rasterise import (
    mask_to_rle,
    polygon_to_rle,
    resize_mask_nearest,
    rle_area,
    rle_to_mask,
)
from stages.geometry.resampling import sample_release
from stages.metrics.segmentation import PRECISION_AT, overlaps, summarise_masks


@pytest.fixture(scope="session")
def folder(golden_dir: Path) -> Path:
    return golden_dir / "geometry"


def load(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("n", [12, 18])
@pytest.mark.parametrize("kind", ["uniform", "center"])
def test_sampled_vertices(folder: Path, n: int, kind: str) -> None:
    data = np.load(folder / "sample_mask_vertices.npz")
    for mask, expected, keep in zip(data["masks"], data[f"vertices_{n}_{kind}"], data["keep"], strict=True):
        if not mask.any():
            with pytest.raises(ValueError, match="empty mask"):
                sample_release(mask > 0, n)
            continue
        points = (sample_by_angle if kind == "center" else sample_release)(mask > 0, n)
        assert pytest.approx(expected, abs=0 if kind == "uniform" else 1e-4) == points.T
        assert (points >= 0).any() == keep


def test_tokens(folder: Path) -> None:
    for case in load(folder, "quantize"):
        height, width = case["pad_shape"]
        box = quantise_release(case["box"], [width, height, width, height], 1000)
        assert box.tolist() == case["box_tokens"]
        assert [[*row, 1000] for row in box.tolist()] == case["box_targets"]
        absolute = quantise_release(case["box"], 640, 1000)
        assert absolute.tolist() == case["box_tokens_absolute_mapping"]
        vertices = np.swapaxes(case["vertices"], 1, 2)
        raw = quantise_release(vertices, [width, height], 1000).reshape(len(vertices), -1)
        assert raw.tolist() == case["vertices_quantize_raw"]
        targets = quantise_vertices_release(vertices, [width, height], 1000).reshape(len(vertices), -1)
        assert [[*row, 1000] for row in targets.tolist()] == case["mask_targets"]


def test_sequences_to_masks(folder: Path) -> None:
    for case in load(folder, "sequence_to_rle"):
        height, width = case["pad_shape"]
        points = tokens_to_points(case["tokens"], [width, height], 1000, dequantise_release)
        rle = polygon_to_rle(points, (height, width), two_points="xywh")
        assert rle["counts"].decode() == case["rle"]["counts"], case["name"]
        assert rle_area(rle) == case["rle"]["area"]
        rescaled = mask_to_rle(resize_mask_nearest(rle_to_mask(rle), case["ori_shape"]))
        assert rescaled["counts"].decode() == case["rle_rescaled"]["counts"], case["name"]


def test_sequences_to_boxes(folder: Path) -> None:
    case = load(folder, "sequence_to_box")
    height, width = case["pad_shape"]
    boxes = tokens_to_box(case["tokens"], [width, height], 1000, dequantise_release)
    assert boxes.tolist() == case["box"]
    assert boxes / case["scale_factor"] == pytest.approx(np.array(case["box_rescaled"]), rel=1e-6)


def test_projection_scores(folder: Path) -> None:
    data = load(folder, "project_term")
    for item in data["items"]:
        score, n_polygons = projection_score_release(item["pred"], item["bbox"])
        assert n_polygons == item["n_polygons"], item["name"]
        if item["project_term"] is None:
            assert score is None
            assert projection_score(rle_to_mask(item["pred"]), [0, 0, 9, 9]) >= data["threshold"], (
                "never kept here"
            )
            continue
        assert score == pytest.approx(item["project_term"], abs=1e-6), item["name"]
        assert (score < data["threshold"]) == item["below_threshold"]
        x, y, width, height = np.asarray(item["bbox"]).astype(int)
        ours = projection_score(rle_to_mask(item["pred"]), [x, y, x + width, y + height])
        assert ours == pytest.approx(item["project_term_raw_mask"], abs=1e-6), item["name"]


def test_accuracies(folder: Path) -> None:
    data = load(folder, "accuracy")
    detected: list[bool] = []
    crowd_iou: list[float] = []
    for batch in data["batches"]:
        box_iou = box_iou_pairwise(batch["pred_bbox"], batch["gt_bbox"])
        assert box_iou == pytest.approx(np.array(batch["bbox_iou"]), abs=1e-12)
        assert (box_iou >= 0.5).mean() * 100 == pytest.approx(batch["det_acc"])
        crowd = overlaps(batch["pred"], batch["gt"], crowd=batch["is_crowd"])
        plain = overlaps(batch["pred"], batch["gt"])
        for scores, expected in ((crowd, batch), (plain, batch["no_crowd"])):
            assert scores.iou * 100 == pytest.approx(np.array(expected["mask_iou"]), abs=1e-10)
            summary = summarise_masks(scores)
            assert summary["miou"] * 100 == pytest.approx(expected["mIoU"])
            precision = [summary[f"pr@{at}"] * 100 for at in PRECISION_AT]
            assert precision == pytest.approx(expected["mask_acc_at"], abs=1e-4)
        detected += (box_iou >= 0.5).tolist()
        crowd_iou += crowd.iou.tolist()
    sizes = [len(batch["pred"]) for batch in data["batches"]]
    epoch = data["epoch_as_evaluate_model"]
    assert batch_averaged(detected, sizes) * 100 == pytest.approx(epoch["det_acc"])
    assert np.mean(detected) * 100 == pytest.approx(epoch["per_sample_det_acc"])
    for at, ours, theirs in zip(
        PRECISION_AT, epoch["per_sample_mask_acc_at"], epoch["mask_acc_at"], strict=True
    ):
        correct = np.array(crowd_iou) >= at
        assert correct.mean() * 100 == pytest.approx(ours)
        assert batch_averaged(correct, sizes) * 100 == pytest.approx(theirs, abs=1e-4)
    assert np.mean(crowd_iou) * 100 == pytest.approx(epoch["mIoU"])
