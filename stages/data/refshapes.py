"""RefShapes, part 4: the whole data set, written as a true REFER folder.

    ROOT/refs(unc).p       pickle (protocol 2) of plain lists, dicts, strings and integers
    ROOT/instances.json    COCO: polygons along pixel edges, compressed RLE where a mask has a hole (and for some)
    ROOT/images/*.jpg

so that the generated data takes the same reader as RefCOCO. testA holds curved referents and testB angular ones.
Scene i of a split depends on (seed, split, i) alone: the same seed gives the same bytes, in one process or several.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.data.refshapes_scenes import ShapeObject, generate_scene
from stages.data.refshapes_sentences import STYLES, choose_referents, style_of
from stages.data.refshapes_shapes import ANGULAR_SHAPES, CURVED_SHAPES, SHAPES
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import mask_to_rle, rle_from_segmentation, rle_to_mask
from stages.reporter import Reporter

NAME, BY = "refshapes", "unc"
SPLITS = ("train", "val", "testA", "testB")
SCALES: dict[str, tuple[int, int, int, int]] = {  # images of each split
    "tiny": (40, 12, 8, 8),
    "smoke": (1_500, 150, 75, 75),
    "standard": (10_000, 500, 300, 300),
}
IMAGE_SIZE = 160
JPEG_QUALITY = 92
RLE_SHARE = 0.1  # of the masks that could be polygons: both forms occur in real annotations
CATEGORY_NAMES = {s: f"letter {s}" if len(s) == 1 else s for s in SHAPES}

_FAVOURED = {"testA": CURVED_SHAPES, "testB": ANGULAR_SHAPES}
_MIN_REFERENTS = 2
_PARALLEL_FROM = 400  # images; below, starting processes costs more than it saves


@dataclass(frozen=True, eq=False)
class _Sample:
    """One image with its annotations; ids are given when samples are put together."""

    split: str
    jpeg: bytes
    annotations: list[dict[str, Any]]
    referents: list[tuple[int, list[str]]]  # (annotation of this image, sentences)
    styles: list[str]
    filled_box_iou: list[float]  # of the referents
    ellipse_iou: list[float]


# ---------------------------------------------------------------- one image


def segmentation_of(mask: NDArray[np.bool_], *, as_rle: bool) -> list[list[float]] | dict[str, Any]:
    """COCO segmentation of a mask (H, W): a polygon along the pixel edges of each piece, or compressed RLE.

    A mask that polygons cannot say (one with a hole) becomes RLE in any case.
    """
    rle = mask_to_rle(mask)
    if not as_rle:
        n, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
        polygons = [
            largest_outer_contour(labels == k).reshape(-1).astype(float).tolist() for k in range(1, n)
        ]
        if np.array_equal(rle_to_mask(rle_from_segmentation(polygons, mask.shape)), mask):
            return polygons
    return {"size": [int(v) for v in rle["size"]], "counts": bytes(rle["counts"]).decode("ascii")}


def trivial_ious(mask: NDArray[np.bool_], box_xyxy: NDArray[np.float64]) -> tuple[float, float]:
    """IoU of a mask with its filled box and with the ellipse inscribed in the box."""
    x0, y0, x1, y1 = (int(v) for v in box_xyxy)
    window = mask[y0:y1, x0:x1]
    x = (np.arange(x1 - x0) + 0.5) / (x1 - x0) * 2 - 1
    y = (np.arange(y1 - y0) + 0.5) / (y1 - y0) * 2 - 1
    ellipse = y[:, None] ** 2 + x[None, :] ** 2 <= 1.0
    return float(window.mean()), float((window & ellipse).sum() / (window | ellipse).sum())


def _annotation(item: ShapeObject, rng: np.random.Generator) -> dict[str, Any]:
    x0, y0, x1, y1 = item.box_xyxy.tolist()
    return {
        "category_id": SHAPES.index(item.shape) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(np.count_nonzero(item.mask)),
        "iscrowd": 0,
        "segmentation": segmentation_of(item.mask, as_rle=bool(rng.random() < RLE_SHARE)),
    }


def make_sample(task: tuple[str, int], *, seed: int) -> _Sample:
    """Image number `task[1]` of the split `task[0]`."""
    split, index = task
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    favoured = _FAVOURED.get(split)
    while True:
        scene = generate_scene(rng, IMAGE_SIZE, favoured_shapes=favoured)
        chosen = choose_referents(scene, rng, favoured)
        if len(chosen) >= _MIN_REFERENTS:
            break
    ok, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert ok
    ious = [trivial_ious(scene.objects[i].mask, scene.objects[i].box_xyxy) for i, _ in chosen]
    return _Sample(
        split=split,
        jpeg=jpeg.tobytes(),
        annotations=[_annotation(item, rng) for item in scene.objects],
        referents=[(i, [text for text, _ in sentences]) for i, sentences in chosen],
        styles=[style_of(text, description) for _, sentences in chosen for text, description in sentences],
        filled_box_iou=[box for box, _ in ious],
        ellipse_iou=[ellipse for _, ellipse in ious],
    )


def _samples(tasks: list[tuple[str, int]], seed: int, workers: int) -> Iterator[_Sample]:
    """All samples in order, made by `workers` processes (0 = one a core)."""
    make = partial(make_sample, seed=seed)
    workers = (
        workers or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    done = 0
    if workers > 1 and len(tasks) >= _PARALLEL_FROM:
        try:
            # "spawn": the caller may have threads (progress bars), and forking them is not safe.
            with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
                for sample in pool.map(make, tasks, chunksize=16):
                    done += 1
                    yield sample
        except BrokenProcessPool:
            pass  # a script without a `__main__` guard, or no memory for workers: go on alone
    yield from map(make, tasks[done:])


# ---------------------------------------------------------------- the folder


def write_refer_layout(
    root: Path, *, scale: str, seed: int, reporter: Reporter, workers: int = 0
) -> dict[str, Any]:
    """Generate RefShapes into `root` and return a report.

    Args:
        root: folder, made when absent; files of an earlier run are replaced.
        scale: a key of SCALES.
        workers: processes; 0 = one a core. The bytes do not depend on it.

    Returns:
        splits (images, referents, sentences of each), styles (sentences of each), words (size of the vocabulary),
        filled_box_iou and ellipse_iou (means over referents: what a method without any notion of contours gets).
    """
    root = Path(root)
    (root / "images").mkdir(parents=True, exist_ok=True)
    tasks = [(split, i) for split, n in zip(SPLITS, SCALES[scale], strict=True) for i in range(n)]
    book = _Book()
    with reporter.progress("generating RefShapes", len(tasks), "image") as bar:
        for (split, index), sample in zip(tasks, _samples(tasks, seed, workers), strict=True):
            name = f"refshapes_{split}_{index:06d}.jpg"
            (root / "images" / name).write_bytes(sample.jpeg)
            book.add(name, sample)
            bar.advance()
    (root / "instances.json").write_text(json.dumps(book.instances(seed, scale), separators=(",", ":")))
    # Protocol 2 and no shared strings: what the loaders of the public data sets expect.
    (root / f"refs({BY}).p").write_bytes(pickle.dumps(book.refs, protocol=2))
    return book.report()


class _Book:
    """Collects samples into the two tables of the REFER layout and gives out the ids."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.refs: list[dict[str, Any]] = []
        self._n_sentences = 0
        self._samples: list[tuple[str, int, int]] = []
        self._styles = dict.fromkeys(STYLES, 0)
        self._words: set[str] = set()
        self._box_iou: list[float] = []
        self._ellipse_iou: list[float] = []

    def add(self, file_name: str, sample: _Sample) -> None:
        image_id = len(self.images) + 1
        self.images.append(
            {"id": image_id, "file_name": file_name, "height": IMAGE_SIZE, "width": IMAGE_SIZE}
        )
        first = len(self.annotations) + 1
        for k, annotation in enumerate(sample.annotations):
            self.annotations.append({"id": first + k, "image_id": image_id, **annotation})
        before = self._n_sentences
        for k, texts in sample.referents:
            self.refs.append(self._ref(self.annotations[first + k - 1], file_name, sample.split, texts))
        self._samples.append((sample.split, len(sample.referents), self._n_sentences - before))
        for style in sample.styles:
            self._styles[style] += 1
        self._box_iou += sample.filled_box_iou
        self._ellipse_iou += sample.ellipse_iou

    def _ref(
        self, annotation: dict[str, Any], file_name: str, split: str, texts: list[str]
    ) -> dict[str, Any]:
        sentences = []
        for text in texts:
            self._words.update(text.split())
            sentences.append(
                {"tokens": text.split(), "raw": text, "sent_id": self._n_sentences, "sent": text}
            )
            self._n_sentences += 1
        return {
            "ref_id": len(self.refs),
            "ann_id": annotation["id"],
            "image_id": annotation["image_id"],
            "category_id": annotation["category_id"],
            "split": split,
            "file_name": f"{Path(file_name).stem}_{annotation['id']}.jpg",
            "sent_ids": [s["sent_id"] for s in sentences],
            "sentences": sentences,
        }

    def instances(self, seed: int, scale: str) -> dict[str, Any]:
        return {
            "info": {"description": "RefShapes, generated", "scale": scale, "seed": seed},
            "licenses": [],
            "categories": [
                {"supercategory": "shape", "id": i + 1, "name": CATEGORY_NAMES[s]}
                for i, s in enumerate(SHAPES)
            ],
            "images": self.images,
            "annotations": self.annotations,
        }

    def report(self) -> dict[str, Any]:
        splits = {}
        for split in SPLITS:
            rows = [(refs, sentences) for name, refs, sentences in self._samples if name == split]
            splits[split] = {
                "images": len(rows),
                "referents": sum(refs for refs, _ in rows),
                "sentences": sum(sentences for _, sentences in rows),
            }
        return {
            "splits": splits,
            "styles": dict(self._styles),
            "words": len(self._words),
            "filled_box_iou": round(float(np.mean(self._box_iou)), 4),
            "ellipse_iou": round(float(np.mean(self._ellipse_iou)), 4),
        }
