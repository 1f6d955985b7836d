"""Small dataset, split, model and pseudo-label artifacts whose every number is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.artifacts import open_artifact, write_artifact
from stages.artifacts.ragged import pack
from stages.geometry.rasterise import box_to_rle, ellipse_to_rle
from stages.geometry.runs import pack_rles

SIZE = (60, 80)
SPLITS = ["train", "val", "test"]
Rings = Sequence[Sequence[Sequence[float]]]


def diamond(box_xyxy: Sequence[float]) -> list[list[float]]:
    x1, y1, x2, y2 = box_xyxy
    return [[(x1 + x2) / 2, y1], [x2, (y1 + y2) / 2], [(x1 + x2) / 2, y2], [x1, (y1 + y2) / 2]]


def boxes_of(count: int) -> NDArray[np.float64]:
    """Boxes of 20 x 30 pixels, each a little further right."""
    x = 5.0 + np.arange(count) % 40
    return np.stack([x, np.full(count, 10.0), x + 20, np.full(count, 40.0)], axis=1)


def write_dataset(
    path: Path,
    splits: Sequence[str],
    *,
    sentences: int = 2,
    masked: Sequence[bool] | None = None,
    seed: int = 0,
    texts: Sequence[str] | None = None,
    pictures: bool = False,
    image_of: Sequence[int] | None = None,
) -> Path:
    """One referent (and one image) for each entry of `splits`, with an ellipse as its mask; `pictures` embeds some, and
    `image_of` lets referents share images."""
    count = len(splits)
    has_mask = np.ones(count, dtype=bool) if masked is None else np.asarray(masked, dtype=bool)
    boxes = boxes_of(count)
    empty: dict[str, Any] = {"size": list(SIZE), "counts": b""}
    rles = [ellipse_to_rle(b, SIZE) if m else empty for b, m in zip(boxes, has_mask, strict=True)]
    with write_artifact(path, "dataset", fingerprint="f", provenance={}) as w:
        for name, value in (("name", f"small-{seed}"), ("by", "tests"), ("split_names", SPLITS)):
            w.attr(name, value)
        w.column("images/id", np.arange(count) + 100)
        w.strings("images/file_name", [f"{i}.jpg" for i in range(count)])
        w.column("images/height", np.full(count, SIZE[0], dtype=np.int32))
        w.column("images/width", np.full(count, SIZE[1], dtype=np.int32))
        w.column("categories/id", np.array([1]))
        w.strings("categories/name", ["thing"])
        w.column("referents/ref_id", np.arange(count) + 1)
        w.column("referents/ann_id", np.arange(count) + 1)
        w.column("referents/image_index", np.arange(count) if image_of is None else np.array(image_of))
        w.column("referents/category_index", np.zeros(count, dtype=np.int32))
        w.column("referents/split", np.array([SPLITS.index(s) for s in splits], dtype=np.int8))
        w.column("referents/box_xyxy", boxes)
        w.column("referents/has_mask", has_mask)
        w.column("referents/is_crowd", np.zeros(count, dtype=bool))
        w.column("referents/sentence_offsets", np.arange(count + 1) * sentences)
        w.column("sentences/referent_index", np.repeat(np.arange(count), sentences))
        w.column("sentences/sent_id", np.arange(count * sentences))
        w.strings("sentences/text", texts or [f"thing {i}" for i in range(count * sentences)])
        if pictures:
            shades = [np.full((*SIZE, 3), 40 + i * 160 // count, np.uint8) for i in range(count)]
            w.ragged("images/encoded", *pack([cv2.imencode(".jpg", s)[1] for s in shades], np.uint8))
        w.ragged("masks/rle", *pack_rles(rles))
        w.json("counts", {})
    return path


def write_split(path: Path, dataset: Path, visible: Sequence[bool]) -> Path:
    with write_artifact(path, "split", fingerprint="f", provenance={}) as w:
        w.attr("dataset_digest", digest(dataset))
        for name, value in (
            ("split_name", "train"),
            ("strategy", "tests"),
            ("seed", 0),
            ("unit", "referent"),
        ):
            w.attr(name, value)
        shown = np.asarray(visible, dtype=bool)
        w.column("visible", shown)
        w.column("rank", np.where(shown, np.arange(len(shown)), -1))
        w.column("labelled_ref_id", np.flatnonzero(shown) + 1)
    return path


def write_model(path: Path, dataset: Path, kind: str = "res_model") -> Path:
    """A model file that opens; nothing can be predicted with it."""
    with write_artifact(path, kind, fingerprint="f", provenance={}) as w:
        w.attr("dataset_digest", digest(dataset))
        for name in ("architecture", "vocabulary", "preprocessing", "history"):
            w.json(name, {})
        w.column("weights/w", np.zeros(1, dtype=np.float32))
    return path


def write_shard(path: Path, dataset: Path, number: int, count: int) -> Path:
    """A part of a run that labelled nothing."""
    with write_artifact(path, "pseudo_shard", fingerprint="f", provenance={}) as w:
        for name, value in (
            ("dataset_digest", digest(dataset)), ("model_digest", "0" * 64), ("prompt", "none"), ("n_points", 4),
            ("shard", f"{number}/{count}"), ("whole", "w"), ("batch_images", 1), ("n_rows", 0),
        ):  # fmt: skip
            w.attr(name, value)
        for name in ("rows", "referent_index", "sentence_index"):
            w.column(name, np.zeros(0, np.int64))
        for name in ("projection_score", "confidence"):
            w.column(name, np.zeros(0, np.float32))
        w.column("tokens", np.zeros((0, 4), np.int32))
        w.column("token_probability", np.zeros((0, 4), np.float32))
        w.column("box_xyxy", np.zeros((0, 4), np.float32))
        w.ragged("points_xy", np.zeros((0, 2), np.float32), np.zeros(1, np.int64))
        w.json("summary", {})
    return path


def write_pseudo(
    path: Path,
    dataset: Path,
    rows: Sequence[tuple[int, int, float, Sequence[Sequence[float]]]],
    *,
    masks: Sequence[Sequence[float] | None] | None = None,
    n_points: int | None = None,
) -> Path:
    """Rows (referent, sentence, confidence, ring); `masks` are boxes to fill, None for no mask."""
    rings = [np.reshape(np.asarray(r[3], dtype=np.float32), (-1, 2)) for r in rows]
    with write_artifact(path, "pseudo_points", fingerprint="f", provenance={}) as w:
        w.attr("dataset_digest", digest(dataset))
        w.attr("model_digest", "0" * 64)
        if n_points:
            w.attr("n_points", n_points)
        w.column("referent_index", np.array([r[0] for r in rows], dtype=np.int64))
        w.column("sentence_index", np.array([r[1] for r in rows], dtype=np.int64))
        w.column("tokens", np.zeros((len(rows), 4), dtype=np.int32))
        w.column("token_probability", np.ones((len(rows), 4), dtype=np.float32))
        offsets = np.concatenate([[0], np.cumsum([len(r) for r in rings])]).astype(np.int64)
        values = np.concatenate(rings) if rings else np.zeros((0, 2), dtype=np.float32)
        w.ragged("points_xy", values, offsets)
        w.column("box_xyxy", np.zeros((len(rows), 4), dtype=np.float32))
        w.column("projection_score", np.zeros(len(rows), dtype=np.float32))
        w.column("confidence", np.array([r[2] for r in rows], dtype=np.float32))
        if masks is not None:
            empty: dict[str, Any] = {"size": [0, 0], "counts": b""}
            w.ragged("masks/rle", *pack_rles([empty if b is None else box_to_rle(b, SIZE) for b in masks]))
    return path


def write_evaluation(path: Path, score: float, without: Sequence[str] = ()) -> Path:
    """Scores of one split, all masks with the same mIoU; `without`: what the summary does not tell."""
    masks = {
        key: {"miou": score} for key in ("model", "filled_box", "ellipse", "true_filled_box", "true_ellipse")
    }
    part = {
        "n_referents": 2, "n_sentences": 4, "n_mask_referents": 2, "n_mask_sentences": 4,
        "rec": {"acc@0.5": 0.75}, "res": {**masks, "upper_bound": {"miou": 0.9}},
    }  # fmt: skip
    with write_artifact(path, "evaluation", fingerprint="f", provenance={}) as writer:
        for name in ("dataset_digest", "model_digest", "task", "frame"):
            writer.attr(name, "x")
        for name in ("referent_index", "sentence_index", "split"):
            writer.column(name, np.zeros(1, np.int64))
        writer.column("predicted_box_xyxy", np.zeros((1, 4), np.float32))
        writer.column("box_iou", np.zeros(1, np.float32))
        summary: dict[str, Any] = {"frame": "original", "n_points": 12, "splits": {"val": part}}
        for key in without:
            (summary if key in summary else part).pop(key)
        writer.json("summary", summary)
    return path


def digest(path: Path) -> str:
    with open_artifact(path) as artifact:
        return artifact.digest
