"""A small REFER folder made by hand, which tests bend in one place each."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Ref = dict[str, Any]


def sentence(sent_id: int, text: str) -> dict[str, Any]:
    return {"sent_id": sent_id, "sent": text, "raw": text, "tokens": text.split()}


def ref(ref_id: int, ann_id: int, image_id: int, split: str, *texts: str) -> Ref:
    sentences = [sentence(10 * ref_id + k, text) for k, text in enumerate(texts or ("the thing",))]
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "split": split,
        "file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg",
        "sent_ids": [s["sent_id"] for s in sentences],
        "sentences": sentences,
    }


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def annotation(
    ann_id: int, image_id: int, bbox: list[float], segmentation: Any, **more: Any
) -> dict[str, Any]:
    entry = {"id": ann_id, "image_id": image_id, "category_id": 1, "bbox": bbox, "segmentation": segmentation}
    return {**entry, "iscrowd": 0, "area": bbox[2] * bbox[3], **more}


class ReferFolder:
    """ROOT/toy/refs(unc).p, ROOT/toy/instances.json and ROOT/images/train2014: 3 images (24 high, 32 wide).

    Referents: 1 polygon (train), 2 compressed RLE (train), 3 uncompressed RLE crowd (train), 4 box only
    (train), 5 two polygons that overlap (val), 6 on the annotation of 5 (val), 7 polygon (testA).
    """

    height, width = 24, 32

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.pictures = root, root / "toy", root / "images" / "train2014"
        from pycocotools import mask as coco

        block = np.zeros((self.height, self.width), np.uint8)
        block[2:6, 3:9] = 1
        packed = coco.encode(np.asfortranarray(block))["counts"].decode("ascii")
        columns = block.T.reshape(-1)
        edges = np.flatnonzero(np.diff(columns)) + 1
        runs = np.diff([0, *edges, columns.size]).tolist()
        size = [self.height, self.width]
        self.images = [
            {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": self.height, "width": self.width}
            for i in (11, 12, 13, 14)  # 14 has no ref and no file
        ]
        self.annotations = [
            annotation(101, 11, [2, 2, 10, 10], [square(2, 2, 10)]),
            annotation(102, 11, [3, 2, 6, 4], {"size": size, "counts": packed}),
            annotation(103, 11, [3, 2, 6, 4], {"size": size, "counts": runs}, iscrowd=1),
            annotation(104, 12, [5.5, 4.5, 10, 8], []),
            annotation(105, 12, [1, 1, 12, 8], [square(1, 1, 8), square(5, 1, 8)]),
            annotation(106, 13, [20, 10, 6, 6], [square(20, 10, 6)]),
            annotation(107, 13, [0, 0, 500, 500], "nobody looks at what no ref names"),
        ]
        self.categories = [{"id": 1, "name": "thing"}, {"id": 2, "name": "other"}]
        self.refs: list[Ref] = [
            ref(5, 105, 12, "val", "two squares"),
            ref(1, 101, 11, "train", "left square", "the square on the left"),
            ref(2, 102, 11, "train"),
            ref(3, 103, 11, "train"),
            ref(4, 104, 12, "train", "box"),
            ref(6, 105, 12, "val", "the same squares"),
            ref(7, 106, 13, "testA"),
        ]

    def annotation(self, ann_id: int) -> dict[str, Any]:
        return next(a for a in self.annotations if a["id"] == ann_id)

    def ref(self, ref_id: int) -> Ref:
        return next(r for r in self.refs if r["ref_id"] == ref_id)

    def write(self, *, protocol: int = 2) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pictures.mkdir(parents=True, exist_ok=True)
        tables = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        (self.folder / "instances.json").write_text(json.dumps(tables))
        (self.folder / "refs(unc).p").write_bytes(pickle.dumps(copy.deepcopy(self.refs), protocol=protocol))
        for image in self.images[:3]:
            picture = np.full((self.height, self.width, 3), image["id"] * 10, np.uint8)
            cv2.imwrite(str(self.pictures / f"COCO_train2014_{image['id']:012d}.jpg"), picture)
        return self.root
