"""Formats without a tool: a table, a table with a PNG a mask (both are read by prepare-data), and YOLO's polygons."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import PurePosixPath

import cv2
import numpy as np

from stages.data.exports.coco import runs_of
from stages.data.exports.items import Item, Labels, json_bytes
from stages.geometry.edges import mask_parts, one_polygon
from stages.geometry.rasterise import rle_area, rle_to_mask

_COLUMNS = (
    "image", "phrase", "x1", "y1", "x2", "y2", "split", "mask", "category", "score", "ref_id", "ann_id",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
BOX_ONLY = "boxes without a mask left out, beside polygons"


def csv_file(labels: Labels) -> bytes:
    """One line an expression; the mask as a COCO segmentation in its cell."""
    return _table(labels, lambda k, item: "" if item.rle is None else json.dumps(runs_of(item)))


def png_files(labels: Labels) -> dict[str, bytes]:
    """masks.csv, and a PNG (255 = object) a mask, named after picture and referent."""
    files: dict[str, bytes] = {}
    names: dict[int, str] = {}
    for k, item in enumerate(labels.items):
        if item.rle is None:
            continue
        stem = str(PurePosixPath(labels.pictures[item.picture].name))
        name = f"masks/{stem}/{item.ref_id}.png"
        number = 1
        while name in files:
            number += 1
            name = f"masks/{stem}/{item.ref_id}-{number}.png"
        names[k] = name
        files[name] = cv2.imencode(".png", rle_to_mask(item.rle).astype(np.uint8) * 255)[1].tobytes()
    return {"masks.csv": _table(labels, lambda k, item: names.get(k, "")), **files}


def _table(labels: Labels, mask_of: Callable[[int, Item], str]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for k, item in enumerate(labels.items):
        corners = [""] * 4 if item.box_xyxy is None else [f"{v:.10g}" for v in item.box_xyxy.tolist()]
        mask, name = mask_of(k, item), labels.pictures[item.picture].name
        name = f"./{name}" if name.startswith(_FORMULA) else name
        score = "" if item.score is None else f"{item.score:.6f}"
        texts = [harmless(text) for text in (item.split, mask, item.category)]
        for phrase in item.expressions:
            row = [name, harmless(phrase), *corners, *texts, score, item.ref_id, item.ann_id]
            writer.writerow(row)
    return stream.getvalue().encode("utf-8", "replace")


def harmless(text: str) -> str:
    """Text that a spreadsheet would take for a formula, with an apostrophe before it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def yolo_files(labels: Labels, tolerance_px: float) -> dict[str, bytes]:
    """data.yaml and labels/<split>/<picture>.txt: "class x y x y …" a line, shares of the picture.

    YOLO has one polygon an object: parts and holes are joined by bridges of no width. Boxes without a mask become
    lines "class x y width height" where no item has a mask, and are left out (and told) beside masks.
    """
    masked = any(item.rle is not None for item in labels.items)
    numbers = {name: k for k, name in enumerate(labels.categories)}
    lines: dict[str, list[str]] = {}
    for item in labels.items:
        picture = labels.pictures[item.picture]
        path = f"labels/{item.split}/{PurePosixPath(picture.name).with_suffix('')}.txt"
        of_file = lines.setdefault(path, [])
        height, width = picture.size_hw
        scale = np.array([width, height], np.float64)
        if item.rle is not None and rle_area(item.rle):
            values = one_polygon(mask_parts(rle_to_mask(item.rle), tolerance_px)) / scale
        elif item.box_xyxy is not None and not masked:
            corners = item.box_xyxy.reshape(2, 2) / scale
            values = np.stack([corners.mean(axis=0), corners[1] - corners[0]])
        else:
            labels.notices[BOX_ONLY] = labels.notices.get(BOX_ONLY, 0) + 1
            continue
        numbers_text = " ".join(f"{v:.8g}" for v in values.reshape(-1).tolist())
        of_file.append(f"{numbers[item.category]} {numbers_text}")
    splits = list(dict.fromkeys(item.split for item in labels.items))
    roles = {s: s if s in ("train", "val", "test") else json_bytes(s).decode().strip() for s in splits}
    description = ["path: .", *(f"{role}: images/{split}" for split, role in roles.items()), "names:"]
    description += [f"  {k}: {json_bytes(name).decode().strip()}" for name, k in numbers.items()]
    files = {path: "".join(f"{line}\n" for line in of_file).encode() for path, of_file in lines.items()}
    return {"data.yaml": "\n".join([*description, ""]).encode(), **files}
