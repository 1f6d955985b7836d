"""Annotation files of every source of prepare-data: how they are written, damaged and read."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import cv2
import numpy as np

from stages.errors import ArtifactError
from tests.fuzz.mutations import damaged_bytes, json_text, odd_pickle
from tests.fuzz.runner import Read, Target, copied
from tests.oracles.public_formats import gref, write_grefcoco, write_mdetr, write_seqtr
from tests.oracles.refer_folder import ReferFolder
from tests.oracles.tool_files import block, brush_bits, picture, png_text


class Annotations:
    """Files of one source of prepare-data, read with and without leaving out what is invalid."""

    def __init__(
        self,
        source: str,
        write: Callable[[Path], tuple[Path, list[Path]]],
        damage: Callable[[bytes, Path, Random], bytes],
        name: str = "",
    ) -> None:
        self.name, self._source, self._write, self._damage = name or source, source, write, damage

    def prepare(self, folder: Path) -> None:
        root, files = self._write(folder / "data")
        (folder / "places.json").write_text(
            json.dumps([str(root.relative_to(folder)), [str(f.relative_to(folder)) for f in files]])
        )

    def warm(self, here: Path, folder: Path) -> None:
        self._read(here / json.loads((here / "places.json").read_text())[0], folder, True)

    def case(self, seeds: Path, folder: Path, rng: Random) -> Read:
        here = copied(seeds, folder)
        root, files = json.loads((here / "places.json").read_text())
        path = here / rng.choice(files)
        path.write_bytes(self._damage(path.read_bytes(), path, rng))
        whole = rng.random() < 0.15
        return lambda: self._read(here / root, folder, whole)

    def _read(self, root: Path, folder: Path, whole: bool) -> None:
        from stages.data.readers.sources import open_source

        if whole:
            from stages import prepare_data

            config = prepare_data.Config(
                source=self._source, root=str(root), skip_missing=True, skip_invalid=True
            )  # type: ignore[arg-type]
            prepare_data.run(config, out=folder / "out.h5")
            return
        try:
            open_source(self._source, root, None, None, "category").read(False, None)
        except ArtifactError:
            open_source(self._source, root, None, None, "category").read(True, None)


def odd_json(data: bytes, path: Path, rng: Random) -> bytes:
    return json_text(json.loads(data), rng)


def _odd_pickle(data: bytes, path: Path, rng: Random) -> bytes:
    return odd_pickle(pickle.loads(data), rng)


def _refer(root: Path) -> tuple[Path, list[Path]]:
    folder = ReferFolder(root)
    folder.write()
    return folder.folder, [folder.folder / "instances.json"]


def _refer_pickle(root: Path) -> tuple[Path, list[Path]]:
    folder = ReferFolder(root)
    folder.write()
    return folder.folder, [folder.folder / "refs(unc).p"]


def _grefcoco(root: Path) -> tuple[Path, list[Path]]:
    folder = ReferFolder(root)
    folder.write()
    path = write_grefcoco(
        folder,
        [
            gref(1, [101, 102], 11, "train", "both"),
            gref(2, [-1], 12, "val", "none"),
            gref(3, [105], 12, "val", "one"),
        ],
    )
    return path, sorted(p for p in path.rglob("*.json") if p.parent.name != "toy")


def _seqtr(root: Path) -> tuple[Path, list[Path]]:
    folder = ReferFolder(root)
    folder.write()
    path = write_seqtr(folder)
    return path.parent, [path]


def _mdetr(root: Path) -> tuple[Path, list[Path]]:
    folder = ReferFolder(root)
    folder.write()
    path = write_mdetr(folder)
    place = path if path.is_dir() else path.parent
    return place, sorted(place.glob("finetune_*.json"))


def _coco(root: Path) -> tuple[Path, list[Path]]:
    picture(root / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 3, "bbox": [5, 5, 20, 20], "segmentation": [[5, 5, 25, 5, 25, 25]], "expressions": ["the red mug", {"sent": "mug"}]},
            {"id": 8, "image_id": 1, "category_id": 3, "segmentation": {"size": [40, 60], "counts": [100, 50, 2250]}, "attributes": {"caption": "other"}, "split": "val"},
        ],
        "categories": [{"id": 3, "name": "mug"}],
    }  # fmt: skip
    path = root / "instances_train.json"
    path.write_text(json.dumps(content))
    return path, [path]


def _labelme(root: Path) -> tuple[Path, list[Path]]:
    picture(root / "a.png")
    shapes = [
        {"label": "mug", "description": "the red mug", "points": [[5, 5], [25, 5], [25, 25]], "shape_type": "polygon", "group_id": None},
        {"label": "mug", "points": [[5, 5], [25, 25]], "shape_type": "rectangle", "group_id": 1},
        {"label": "plate", "points": [[30, 20], [35, 20]], "shape_type": "circle", "flags": {}},
        {"label": "cup", "points": [[5, 5], [14, 14]], "shape_type": "mask", "mask": png_text(block(0, 0, 10, 10, (10, 10)))},
    ]  # fmt: skip
    path = root / "a.json"
    path.write_text(
        json.dumps(
            {
                "imagePath": "a.png",
                "imageHeight": 40,
                "imageWidth": 60,
                "shapes": shapes,
                "flags": {"val": True},
            }
        )
    )
    return root, [path]


def _label_studio(root: Path) -> tuple[Path, list[Path]]:
    picture(root / "a.png")
    size = {"original_width": 60, "original_height": 40}
    results = [
        {"id": "r1", "type": "polygonlabels", **size, "value": {"points": [[10, 10], [40, 10], [40, 60]], "polygonlabels": ["mug"]}},
        {"id": "r1", "type": "textarea", "value": {"text": ["the red mug"]}},
        {"id": "r2", "type": "rectanglelabels", **size, "value": {"x": 10, "y": 10, "width": 30, "height": 30, "rotation": 10, "rectanglelabels": ["cup"]}},
        {"id": "r3", "type": "ellipselabels", **size, "value": {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["cup"]}},
        {"id": "r4", "type": "brushlabels", **size, "value": {"format": "rle", "rle": brush_bits(block(5, 5, 25, 25)), "brushlabels": ["cup"]}},
    ]  # fmt: skip
    path = root / "export.json"
    path.write_text(
        json.dumps(
            [
                {
                    "id": 1,
                    "data": {"image": "a.png", "split": "train"},
                    "annotations": [{"result": results, "updated_at": "2026"}],
                }
            ]
        )
    )
    return path, [path]


_ROWS = [
    {"image": "a.png", "expression": "the red mug", "x1": 5, "y1": 5, "x2": 25, "y2": 25, "split": "train", "mask": "m.png", "category": "mug"},
    {"image": "a.png", "expression": "the left mug, green", "x1": 30, "y1": 5, "x2": 50, "y2": 25, "split": "val", "mask": [[30, 5, 50, 5, 40, 25]]},
    {"image": "a.png", "expression": "one", "x1": 1.5, "y1": 2, "x2": 9, "y2": 9, "split": "", "mask": "m.json"},
]  # fmt: skip


def _table(ending: str) -> Callable[[Path], tuple[Path, list[Path]]]:
    def write(root: Path) -> tuple[Path, list[Path]]:
        picture(root / "a.png")
        assert cv2.imwrite(str(root / "m.png"), block(5, 5, 25, 25).astype(np.uint8) * 255)
        (root / "m.json").write_text(json.dumps({"segmentation": [[1, 2, 9, 2, 9, 9]]}))
        path = root / f"t{ending}"
        if ending == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in _ROWS))
        elif ending == ".json":
            path.write_text(json.dumps(_ROWS))
        else:
            names = list(_ROWS[0])
            cell = [
                [json.dumps(v) if isinstance(v := row.get(n, ""), list) else str(v) for n in names]
                for row in _ROWS
            ]
            path.write_text(
                "\n".join(",".join('"' + c.replace('"', '""') + '"' for c in line) for line in [names, *cell])
            )
        return path, [path]

    return write


def odd_table(data: bytes, path: Path, rng: Random) -> bytes:
    if path.suffix == ".json":
        return json_text(json.loads(data), rng)
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if path.suffix == ".jsonl":
        lines[at] = json_text(json.loads(lines[at] or b"{}"), rng)
        return b"\n".join(lines)
    if rng.random() < 0.3:
        return damaged_bytes(data, rng)
    cells = lines[at].split(b",")
    odd = (b"", b"-1", b"nan", b"inf", b"1e999", b"1" * 5000, b'"', b"\0", b"../../etc/passwd", b"/dev/zero", b"\xff\xfe", b"=1+1",
           b"[[[[[[", b'"{""size"":[9,9]}"', b"a.png#2", b"," * 3000, b"x" * 200_000, b"t.csv", b'"[[0,0,1e5,1e9,-1e9,3]]"')  # fmt: skip
    cells[rng.randrange(len(cells))] = rng.choice(odd)
    lines[at] = b",".join(cells)
    return b"\n".join(lines)


def _masks(root: Path) -> tuple[Path, list[Path]]:
    picture(root / "a.png")
    assert cv2.imwrite(str(root / "m.png"), block(5, 5, 25, 25).astype(np.uint8) * 255)
    assert cv2.imwrite(str(root / "m.jpg"), block(5, 5, 25, 25).astype(np.uint8) * 255)
    (root / "m.json").write_text(json.dumps({"size": [40, 60], "counts": [100, 50, 2250]}))
    rows = "".join(
        f"a.png,thing {k},5,5,25,25,{name}\n" for k, name in enumerate(("m.png", "m.jpg", "m.json"))
    )
    (root / "t.csv").write_text("image,expression,x1,y1,x2,y2,mask\n" + rows)
    return root / "t.csv", [root / "m.png", root / "m.jpg", root / "m.json", root / "a.png"]


def _odd_mask(data: bytes, path: Path, rng: Random) -> bytes:
    if path.suffix == ".json":
        return json_text(json.loads(data), rng)
    return damaged_bytes(data, rng)


def targets() -> Iterator[Target]:
    yield Annotations("refer", _refer_pickle, _odd_pickle, "refer-pickle")
    yield Annotations("refer", _refer, odd_json, "refer-json")
    yield Annotations("grefcoco", _grefcoco, odd_json)
    yield Annotations("seqtr", _seqtr, odd_json)
    yield Annotations("mdetr", _mdetr, odd_json)
    yield Annotations("coco", _coco, odd_json)
    yield Annotations("labelme", _labelme, odd_json)
    yield Annotations("labelstudio", _label_studio, odd_json)
    yield Annotations("table", _table(".csv"), odd_table, "table-csv")
    yield Annotations("table", _table(".jsonl"), odd_table, "table-jsonl")
    yield Annotations("table", _table(".json"), odd_table, "table-json")
    yield Annotations("table", _masks, _odd_mask, "mask-files")
