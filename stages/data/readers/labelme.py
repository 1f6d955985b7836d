"""LabelMe: a JSON file a picture, in a folder and the folders below it (or one such file).

    {"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "shapes":
     [{"label": "mug", "description": "the red mug", "points": [[x, y], …], "shape_type": "polygon", "group_id": null}]}

The phrases are the lines of `description`, or else the label; the label is the category. Shapes of one label and
`group_id` are parts of one object. Polygons, circles and masks make its mask; a rectangle is its box, and without one
the box is the extent of the mask. Points and lines are left out and counted. A folder named train, val, test … on the
way to a file is its split.
"""

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.data.picture_files import JPEG, PNG, read_head
from stages.data.readers.export_names import place_pictures
from stages.data.readers.records import Findings, Invalid, checked_size, clean_text, id_of, load_json
from stages.data.readers.table import read_table
from stages.data.readers.table_file import Line, Table
from stages.data.readers.tables import SPLIT_ORDER, ReferringTables, SourceFiles
from stages.data.readers.values import label_of
from stages.errors import ArtifactError
from stages.geometry.rasterise import Rle, mask_to_rle, polygon_to_rle, union_rle
from stages.geometry.segmentations import polygon_rings

_NO_AREA = ("point", "points", "line", "linestrip")
_LARGEST_RADIUS = 1e6  # pixels
_CIRCLE_POINTS = 360


def find_labelme_files(root: Path, name: str | None, by: str | None) -> SourceFiles:
    """ArtifactError when there is no JSON file."""
    files = (root,) if root.is_file() else tuple(sorted(root.rglob("*.json")))
    if not files:
        raise ArtifactError(
            f"{root} holds no JSON file" if root.is_dir() else f"no such folder: {root}",
            hint="--root FOLDER holds the JSON files that LabelMe saves",
        )
    folder = root if root.is_dir() else root.parent
    return SourceFiles(name or root.resolve().stem, by or "labelme", folder, {"files": files})


def read_labelme(
    files: SourceFiles, images: Path | None, bases: Sequence[Path], *, skip_invalid: bool = False
) -> ReferringTables:
    """Read all files into tables, with `image_root`.

    Raises:
        ArtifactError: a file is damaged, or shapes are invalid (listed as file and shape) and `skip_invalid` is not set.
    """
    findings = Findings()
    opened: list[tuple[str, Path, Mapping[str, Any]]] = []
    paths = files.files["files"]
    assert isinstance(paths, tuple)
    for path in paths:
        where = path.relative_to(files.folder).as_posix()
        content = load_json(path)
        if not isinstance(content, Mapping) or not isinstance(content.get("shapes"), list):
            if len(paths) == 1:
                raise ArtifactError(
                    f"{path} is no file of LabelMe",
                    hint='it has {"imagePath": …, "shapes": [{"label": …}, …]}',
                )
            findings.note("JSON files that are not of LabelMe, left out", where)
        elif not isinstance(content.get("imagePath"), str) or not content["imagePath"].strip():
            findings.leave_out(where, "no imagePath")
        else:
            opened.append((where, path.parent, content))
    root, names = place_pictures(
        [str(c["imagePath"]) for _, _, c in opened], bases, images, [folder for _, folder, _ in opened]
    )
    lines: list[Line] = []
    for (where, _, content), name in zip(opened, names, strict=True):
        lines += _lines(where, name, content, findings)
    table = Table(files.folder, files.name, files.by, lines)
    return read_table(table, root, skip_invalid=skip_invalid, findings=findings)


def split_of(steps: Sequence[str]) -> str:
    """The split that a folder on the way names; train where none does."""
    return next((split for step in steps for split in SPLIT_ORDER if step.lower() == split.lower()), "train")


def _lines(where: str, picture: str, content: Mapping[str, Any], findings: Findings) -> list[Line]:
    """One line a phrase of each object of a file."""
    try:
        size = None
        if content.get("imageHeight") is not None or content.get("imageWidth") is not None:
            size = checked_size(content.get("imageWidth"), content.get("imageHeight"), where)
    except Invalid as error:
        findings.leave_out(where, error)
        return []
    objects: dict[Any, list[tuple[str, Mapping[str, Any]]]] = {}
    for number, shape in enumerate(content["shapes"]):
        at = f"{where} shapes[{number}]"
        if not isinstance(shape, Mapping):
            findings.leave_out(at, "not an object")
        elif shape.get("shape_type") in _NO_AREA:
            findings.note("shapes without an area (points, lines) left out", at)
        else:
            group = id_of(shape.get("group_id"))
            key = number if group is None else (label_of(shape.get("label")), group)
            objects.setdefault(key, []).append((at, shape))
    lines: list[Line] = []
    for parts in objects.values():
        at = parts[0][0]
        try:
            row = _row(picture, parts, size)
        except (Invalid, ArtifactError) as error:
            findings.leave_out(at, error.message if isinstance(error, ArtifactError) else error)
            continue
        row["split"] = _split(content) or split_of(where.split("/")[:-1])
        lines += [(at, {**row, "expression": phrase}) for phrase in _phrases(parts) or [""]]
    return lines


def _split(content: Mapping[str, Any]) -> str | None:
    """The flag of the picture that bears the name of a split, if one is set."""
    flags = content.get("flags")
    return next((s for s in SPLIT_ORDER if isinstance(flags, Mapping) and flags.get(s) is True), None)


def _phrases(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    said = [
        clean_text(line) for _, shape in parts for line in str(shape.get("description") or "").splitlines()
    ]
    labels = [label_of(shape.get("label")) for _, shape in parts]
    return list(dict.fromkeys(filter(None, said))) or list(dict.fromkeys(filter(None, labels)))


def _row(
    picture: str, parts: Sequence[tuple[str, Mapping[str, Any]]], size_hw: tuple[int, int] | None
) -> dict[str, Any]:
    boxes: list[Any] = []
    masks: list[Rle] = []
    for at, shape in parts:
        kind = shape.get("shape_type") or "polygon"
        points = [ring for ring in polygon_rings(shape.get("points") or []) if len(ring)]
        points_xy = np.concatenate(points) if points else np.zeros((0, 2))
        if kind == "rectangle":
            if len(points_xy) not in (2, 4):
                raise Invalid(f"a rectangle with {len(points_xy)} points")
            boxes.append(np.concatenate([points_xy.min(axis=0), points_xy.max(axis=0)]))
            continue
        if size_hw is None:
            raise Invalid(f"{at} needs imageHeight and imageWidth")
        masks.append(_mask(kind, points_xy, shape, size_hw))
    row: dict[str, Any] = {"image": picture, "category": label_of(parts[0][1].get("label"))}
    if size_hw is not None:
        row["size"] = list(size_hw)
    if masks:
        assert size_hw is not None
        row["mask"] = union_rle(masks, size_hw)
    if boxes:
        corners = np.array(boxes)
        hull = [*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)]
        row |= dict(zip(("x1", "y1", "x2", "y2"), map(float, hull), strict=True))
    return row


def _mask(kind: Any, points_xy: Any, shape: Mapping[str, Any], size_hw: tuple[int, int]) -> Rle:
    if kind == "polygon":
        if len(points_xy) < 3:
            raise Invalid(f"a polygon with {len(points_xy)} points")
        return polygon_to_rle(points_xy, size_hw)
    if kind == "circle":
        if len(points_xy) != 2:
            raise Invalid(f"a circle with {len(points_xy)} points, not its centre and one on it")
        radius = math.dist(*points_xy.tolist())
        if radius > _LARGEST_RADIUS:
            raise Invalid(f"a circle with a radius of {radius:g} px")
        turn = np.linspace(0, 2 * math.pi, _CIRCLE_POINTS, endpoint=False)
        return polygon_to_rle(points_xy[0] + radius * np.stack([np.cos(turn), np.sin(turn)], 1), size_hw)
    if kind == "mask":
        return mask_to_rle(_pasted(shape.get("mask"), points_xy, size_hw))
    raise Invalid(f"a shape of the type {str(kind)[:40]!r}, which is not read")


def _pasted(text: Any, points_xy: Any, size_hw: tuple[int, int]) -> Any:
    """A shape of the type mask: a PNG in base64, and the corners of the window that it fills, both included."""
    try:
        data = base64.b64decode(text, validate=True)
        head = read_head(io.BytesIO(data))  # looked at first: a small file may unpack to gigabytes
    except (TypeError, ValueError, binascii.Error):
        head = None
    size = head.size_hw if head is not None and head.kind in (JPEG, PNG) and not head.is_cut else None
    if size is None or len(points_xy) < 1:
        raise Invalid("a mask that is no PNG in base64 with its corner")
    (x, y), (height, width) = (int(v) for v in np.rint(points_xy.min(axis=0))), size
    if x < 0 or y < 0 or y + height > size_hw[0] or x + width > size_hw[1]:
        raise Invalid(
            f"a mask of {width}x{height} at ({x}, {y}) leaves its {size_hw[1]}x{size_hw[0]} picture"
        )
    bits = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if bits is None or bits.shape != size:
        raise Invalid("a mask that cannot be decoded")
    whole = np.zeros(size_hw, np.bool_)
    whole[y : y + height, x : x + width] = bits > 0
    return whole
