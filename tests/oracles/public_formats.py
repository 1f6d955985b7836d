"""The hand-made REFER folder, rewritten in the other public formats: all must read to the same referents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.oracles.refer_folder import ReferFolder

Entry = dict[str, Any]


def seqtr_lists(folder: ReferFolder, *, masks: bool = True) -> dict[str, list[Entry]]:
    """{split: entries}, splits in their usual order, entries in the order of the ref ids."""
    lists: dict[str, list[Entry]] = {}
    for split in ("train", "val", "testA"):
        for ref in sorted(folder.refs, key=lambda r: r["ref_id"]):
            if ref["split"] != split:
                continue
            annotation = folder.annotation(ref["ann_id"])
            entry: Entry = {
                "image_id": ref["image_id"],
                "height": folder.height,
                "width": folder.width,
                "bbox": annotation["bbox"],
                "category_id": annotation["category_id"],
                "iscrowd": annotation["iscrowd"],
                "expressions": [s["sent"] for s in ref["sentences"]],
            }
            if masks and annotation["segmentation"]:
                entry["mask"] = annotation["segmentation"]
            lists.setdefault(split, []).append(entry)
    return lists


def write_seqtr(folder: ReferFolder, name: str = "toy-unc", **options: Any) -> Path:
    """ROOT/<name>/instances.json beside the pictures."""
    target = folder.root / name / "instances.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(seqtr_lists(folder, **options)))
    return target


def mdetr_tables(folder: ReferFolder, split: str) -> dict[str, list[Entry]]:
    """One image entry and one annotation an expression, numbered through."""
    images: list[Entry] = []
    annotations: list[Entry] = []
    for ref in folder.refs:
        if ref["split"] != split:
            continue
        picture = next(i for i in folder.images if i["id"] == ref["image_id"])
        known = folder.annotation(ref["ann_id"])
        for said in ref["sentences"]:
            number = 7000 + len(images)
            images.append(
                {
                    **picture,
                    "id": number,
                    "original_id": picture["id"],
                    "caption": said["sent"],
                    "dataset_name": "toy",
                    "tokens_negative": [[0, 3]],
                }
            )
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "original_id": ref["ann_id"],
                    "bbox": known["bbox"],
                    "category_id": known["category_id"],
                    "iscrowd": known["iscrowd"],
                    "area": 1.0,
                    "tokens_positive": [[0, 3]],
                }
            )
    return {"images": images, "annotations": annotations, "categories": folder.categories}


def write_mdetr(folder: ReferFolder, name: str = "toy") -> Path:
    """ROOT/finetune_<name>_<split>.json; the root."""
    for split in ("train", "val", "testA"):
        path = folder.root / f"finetune_{name}_{split}.json"
        path.write_text(json.dumps(mdetr_tables(folder, split)))
    return folder.root


def gref(ref_id: int, ann_ids: list[int], image_id: int, split: str, *texts: str, **more: Any) -> Entry:
    return {
        "ref_id": ref_id,
        "ann_id": ann_ids,
        "image_id": image_id,
        "category_id": [1] * len(ann_ids),
        "split": split,
        "sentences": [
            {"sent_id": 10 * ref_id + k, "sent": text} for k, text in enumerate(texts or ("both",))
        ],
        **more,
    }


def write_grefcoco(folder: ReferFolder, refs: list[Entry]) -> Path:
    """ROOT/grefcoco/grefs(unc).json + instances.json; the root."""
    target = folder.root / "grefcoco"
    target.mkdir(parents=True, exist_ok=True)
    (target / "grefs(unc).json").write_text(json.dumps(refs))
    tables = {"images": folder.images, "annotations": folder.annotations, "categories": folder.categories}
    (target / "instances.json").write_text(json.dumps(tables))
    return folder.root
