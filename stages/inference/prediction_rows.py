"""Answers as rows of the document that predict writes; each is the entry of a COCO result file as well."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.photographs import Photographs, Request
from stages.geometry.boxes import clip_boxes, xyxy_to_xywh
from stages.geometry.rasterise import rle_area
from stages.inference.photograph_answers import Answers


def rows_of(
    out: Path,
    photographs: Photographs,
    answers: Answers,
    drawings: Sequence[Path] = (),
    unknown: Sequence[Sequence[str]] = (),
) -> list[dict[str, Any]]:
    """One row a request. `drawings`: its overlay, `unknown`: words of its phrase that the model does not know."""
    ids, rows = image_ids(photographs), []
    for i, request in enumerate(photographs.requests):
        box = inside(answers.boxes_xyxy[i], photographs.size_hw(i))
        height, width = photographs.size_hw(i)
        given = photographs.boxes_xyxy[i]
        rle = None if answers.rles is None else answers.rles[i]
        mask = None if rle is None else {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
        # pycocotools takes area and box from the mask where there is no bbox, so boxes alone have one
        coco_box = [0.0] * 4 if box is None else xyxy_to_xywh(box).round(3)
        rows.append(
            {
                "image": _name_beside(out, request),
                "phrase": request.phrase,
                "size": list(photographs.size_hw(i)),
                "given_box_xyxy": given if np.isfinite(given).all() else None,
                "box_prompt": bool(answers.prompted[i]),
                "box_xyxy": box,
                "points_xy": answers.points_xy[i].astype(np.float64).clip(0, (width, height)).round(3),
                "mask": mask,
                "area": None if rle is None else rle_area(rle),
                "confidence": round(float(answers.confidence[i]), 6),
                **({"unknown_words": list(unknown[i])} if unknown and unknown[i] else {}),
                **({} if answers.refinement is None else {"refinement": answers.refinement[i]}),
                "overlay": str(drawings[i]) if drawings else None,
                # the entry of a COCO result file
                "image_id": ids[int(photographs.referent_image[i])],
                "category_id": 1,
                "score": round(float(answers.confidence[i]), 6),
                **({"segmentation": mask} if mask is not None else {"bbox": coco_box}),
            }
        )
    return rows


def inside(box_xyxy: NDArray[np.floating[Any]], size_hw: tuple[int, int]) -> NDArray[np.float64] | None:
    """The part of a predicted box within the picture, at least the pixel that it lies in; None for no box."""
    box = clip_boxes(box_xyxy, size_hw).round(3)
    if not np.isfinite(box).all():
        return None
    for axis, length in enumerate((size_hw[1], size_hw[0])):
        if box[axis + 2] - box[axis] < 1:
            box[axis] = min(np.floor(box[axis]), length - 1)
            box[axis + 2] = max(np.ceil(box[axis + 2]), box[axis] + 1)
    return box


def _name_beside(out: Path, request: Request) -> str:
    """A picture's name as `prepare-data --source table` finds it when it reads `out`: relative to its folder.

    A table's names stay as they are; they are relative to the table, or to --images.
    """
    if not request.where.startswith("--expression"):
        return request.image
    path = Path(os.path.abspath(request.path))
    folder = Path(os.path.abspath(out.parent))
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def image_ids(photographs: Photographs) -> list[int]:
    """COCO's number where every picture is named after one (000000000009.jpg), else its place in the list, from 1."""
    numbers = [re.fullmatch(r"(?:COCO_\w+_)?(\d{12})", path.stem) for path in photographs.image_paths]
    found = [int(number[1]) for number in numbers if number]
    return found if len(set(found)) == len(numbers) else list(range(1, len(numbers) + 1))


def image_entries(photographs: Photographs) -> list[dict[str, Any]]:
    """The list `images` of a COCO file."""
    sizes = photographs.image_sizes_hw.tolist()
    return [
        {"id": number, "file_name": str(path), "height": height, "width": width}
        for number, path, (height, width) in zip(
            image_ids(photographs), photographs.image_paths, sizes, strict=True
        )
    ]
