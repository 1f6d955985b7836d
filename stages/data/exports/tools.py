"""LabelMe (a JSON file a picture) and Label Studio (one list of tasks); readers/labelme.py shows the formats."""

import base64
import os
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.data.exports.items import Item, Labels, json_bytes
from stages.geometry.brush_runs import encode_brush
from stages.geometry.edges import mask_parts
from stages.geometry.rasterise import rle_to_mask

_VERSION = "5.5.0"  # of LabelMe's format, the first one but few with masks


def labelme_files(labels: Labels, out: Path, tolerance_px: float, pictures: str | None) -> dict[str, bytes]:
    """name of a file -> content. Parts share a group_id; a mask with holes is a shape of the type mask.

    `pictures`: the folder in `out` that pictures are copied into; without, they are named where they are.
    """
    files = {}
    for k, items in labels.by_picture().items():
        picture = labels.pictures[k]
        name = str(PurePosixPath(picture.name).with_suffix("")) + ".json"
        here = out / PurePosixPath(name).parent
        place = out / pictures / picture.name if pictures else picture.place
        path = picture.name if place is None else Path(os.path.relpath(place, here)).as_posix()
        while name in files:  # a.jpg and a.png
            name = name.removesuffix(".json") + "_.json"
        splits = {item.split for item in items}
        files[name] = json_bytes(
            {
                "version": _VERSION,
                "flags": {next(iter(splits)): True} if len(splits) == 1 else {},
                "shapes": [s for n, item in enumerate(items, 1) for s in _shapes(item, n, tolerance_px)],
                "imagePath": path,
                "imageData": None,
                "imageHeight": picture.size_hw[0],
                "imageWidth": picture.size_hw[1],
            },
            indent=2,
        )
    return files


def _shapes(item: Item, number: int, tolerance_px: float) -> list[dict[str, Any]]:
    common = {
        "label": item.category,
        "description": "\n".join(item.expressions),
        "flags": {},
        **({} if item.score is None else {"score": round(item.score, 6)}),
    }
    if item.rle is None:
        if item.box_xyxy is None:
            return []
        corners = item.box_xyxy.reshape(2, 2).tolist()
        return [{**common, "points": corners, "group_id": None, "shape_type": "rectangle", "mask": None}]
    mask = rle_to_mask(item.rle)
    parts = mask_parts(mask, tolerance_px)
    if any(part.holes for part in parts):
        points, png = _window(mask)
        return [{**common, "points": points, "group_id": None, "shape_type": "mask", "mask": png}]
    group = number if len(parts) > 1 else None
    return [
        {**common, "points": part.outer.tolist(), "group_id": group, "shape_type": "polygon", "mask": None}
        for part in parts
    ]


def _window(mask: NDArray[np.bool_]) -> tuple[list[list[float]], str]:
    """The corners of the pixels of a mask, both included, and what is between them as PNG in base64."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].astype(np.uint8) * 255
    png = base64.b64encode(cv2.imencode(".png", part)[1].tobytes()).decode("ascii")
    return [[float(xs[0]), float(ys[0])], [float(xs[-1]), float(ys[-1])]], png


def label_studio_file(labels: Labels) -> bytes:
    """True masks are annotations, all others predictions: they wait for a person's word. Masks are brush strokes."""
    tasks = []
    for k, items in labels.by_picture().items():
        picture = labels.pictures[k]
        results = [r for n, item in enumerate(items, 1) for r in _results(item, n, picture.size_hw)]
        answer: dict[str, Any] = {"result": results}
        if labels.origin == "dataset":
            answer["ground_truth"] = False
        else:
            scores = [item.score for item in items if item.score is not None]
            answer |= {"model_version": f"seqres {labels.origin}"} | (
                {"score": min(scores)} if scores else {}
            )
        splits = {item.split for item in items}
        data = {"image": f"/data/local-files/?d={picture.name}"}
        data |= {"split": next(iter(splits))} if len(splits) == 1 else {}
        tasks.append(
            {
                "data": data,
                "annotations": [answer] if labels.origin == "dataset" else [],
                "predictions": [] if labels.origin == "dataset" else [answer],
            }
        )
    return json_bytes(tasks)


def _results(item: Item, number: int, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    height, width = size_hw
    common = {
        "id": f"r{number}",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        **({} if item.score is None else {"score": round(item.score, 6)}),
    }
    value: dict[str, Any]
    if item.rle is not None:
        runs = encode_brush(rle_to_mask(item.rle))
        kind, value = "brushlabels", {"format": "rle", "rle": runs, "brushlabels": [item.category]}
    elif item.box_xyxy is not None:
        x1, y1, x2, y2 = (item.box_xyxy * 100 / np.array([width, height, width, height])).tolist()
        kind = "rectanglelabels"
        value = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0, kind: [item.category]}
    else:
        return []
    names = {"brushlabels": "brush", "rectanglelabels": "rectangle"}
    region = {**common, "type": kind, "from_name": names[kind], "value": value}
    text = {**common, "type": "textarea", "from_name": "expressions", "value": {"text": item.expressions}}
    return [region, text]
