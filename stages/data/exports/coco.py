"""COCO: an instances file with `expressions`, or the list of results that `COCO.loadRes` takes.

A mask without holes is written as polygons along the pixel edges where these give the same pixels again (without a
tolerance they do), else as compressed run lengths.
"""

from typing import Any

from stages.data.exports.items import Item, Labels, json_bytes
from stages.geometry.edges import mask_parts
from stages.geometry.rasterise import rle_area, rle_to_mask


def instances_file(labels: Labels, tolerance_px: float) -> bytes:
    """`id` is the referent's id where each is there once, else a running number."""
    ref_ids = [item.ref_id for item in labels.items]
    own = len(set(ref_ids)) == len(ref_ids) and min(ref_ids, default=1) > 0
    used = {item.picture for item in labels.items}
    return json_bytes(
        {
            "info": {"description": f"seqres export of {labels.origin} {labels.digest[:12]}"},
            "images": [
                {"id": p.id, "file_name": p.name, "height": p.size_hw[0], "width": p.size_hw[1]}
                for k, p in enumerate(labels.pictures)
                if k in used
            ],
            "annotations": [
                {
                    "id": item.ref_id if own else number,
                    "image_id": labels.pictures[item.picture].id,
                    "category_id": labels.categories[item.category],
                    "iscrowd": int(item.is_crowd),
                    **_geometry(item, tolerance_px),
                    "expressions": item.expressions,
                    "split": item.split,
                    "ref_id": item.ref_id,
                    "ann_id": item.ann_id,
                    **({} if item.score is None else {"score": round(item.score, 6)}),
                }
                for number, item in enumerate(labels.items, 1)
            ],
            "categories": [{"id": k, "name": name} for name, k in labels.categories.items()],
        }
    )


def results_file(labels: Labels) -> bytes:
    """One entry an item; the score of what has none is 1."""
    entries = []
    for item in labels.items:
        entry: dict[str, Any] = {
            "image_id": labels.pictures[item.picture].id,
            "category_id": labels.categories[item.category],
            "score": 1.0 if item.score is None else round(item.score, 6),
            "expressions": item.expressions,
            "ref_id": item.ref_id,
        }
        # pycocotools takes all entries as boxes when the first one has a bbox
        if item.rle is None:
            entry["bbox"] = _bbox(item)
        else:
            entry["segmentation"] = runs_of(item)
        entries.append(entry)
    kinds = {"bbox" in entry for entry in entries}
    return json_bytes([entry for entry in entries if len(kinds) == 1 or "segmentation" in entry])


def _geometry(item: Item, tolerance_px: float) -> dict[str, Any]:
    if item.rle is None:
        x1, y1, x2, y2 = (0.0,) * 4 if item.box_xyxy is None else map(float, item.box_xyxy)
        return {"segmentation": [], "bbox": _bbox(item), "area": (x2 - x1) * (y2 - y1)}
    parts = [] if item.is_crowd else mask_parts(rle_to_mask(item.rle), tolerance_px)
    plain = bool(parts) and not any(part.holes for part in parts)
    segmentation = [part.outer.reshape(-1).tolist() for part in parts] if plain else runs_of(item)
    return {"segmentation": segmentation, "bbox": _bbox(item), "area": rle_area(item.rle)}


def _bbox(item: Item) -> list[float]:
    if item.box_xyxy is None:
        return [0.0] * 4
    x1, y1, x2, y2 = map(float, item.box_xyxy)
    return [round(v, 4) for v in (x1, y1, x2 - x1, y2 - y1)]


def runs_of(item: Item) -> dict[str, Any]:
    """The mask as run lengths in a text that JSON can hold."""
    assert item.rle is not None
    return {"size": [int(v) for v in item.rle["size"]], "counts": bytes(item.rle["counts"]).decode("ascii")}
