"""Label Studio's export "JSON": a list of tasks, each with its picture, its annotations and their regions.

    [{"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [
      {"id": "r1", "type": "polygonlabels", "original_width": 640, "original_height": 480,
       "value": {"points": [[x, y], …], "polygonlabels": ["mug"]}},                        coordinates in percent
      {"id": "r1", "type": "textarea", "value": {"text": ["the red mug"]}}]}]}, …]

The phrases of a region are its texts, else its choices, else its label, which is the category as well. A text for the
whole task is the phrase of its only region. Polygons, ellipses and the brush make masks; a rectangle is a box (one that
is turned: the box round it). Of several annotations of a task the ground truth is taken, else the newest.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.readers.export_names import place_pictures
from stages.data.readers.records import Findings, Invalid, checked_size, clean_text, load_json
from stages.data.readers.table import read_table
from stages.data.readers.table_file import Line, Table
from stages.data.readers.tables import ReferringTables
from stages.data.readers.values import label_of
from stages.errors import ArtifactError
from stages.geometry.brush_runs import decode_brush
from stages.geometry.rasterise import mask_to_rle, polygon_to_rle
from stages.geometry.segmentations import polygon_rings
from stages.nearest import PICTURE_SUFFIXES
from stages.untrusted import float_of, plain

_HINT = 'in Label Studio, choose Export and the format "JSON"'
_TASK_PHRASES = ("phrase", "expression", "caption")
_ELLIPSE_POINTS = 360
_CORNERS = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


def read_label_studio(
    path: Path,
    name: str | None,
    by: str | None,
    images: Path | None,
    bases: Sequence[Path],
    *,
    skip_invalid: bool = False,
) -> ReferringTables:
    """Read an export into tables, with `image_root`.

    Raises:
        ArtifactError: the file is damaged or another export, or regions are invalid (listed by their place in it) and
        `skip_invalid` is not set.
    """
    findings = Findings()
    tasks = list(_tasks(path, load_json(path), findings))
    root, names = place_pictures([picture for _, _, picture in tasks], bases, images)
    lines: list[Line] = []
    for (where, task, _), picture in zip(tasks, names, strict=True):
        chosen = _annotation(where, task, findings)
        if chosen is not None:
            lines += _lines(*chosen, task, picture, findings)
    table = Table(path, name or path.stem, by or "labelstudio", lines)
    return read_table(table, root, skip_invalid=skip_invalid, findings=findings)


def _tasks(path: Path, content: Any, findings: Findings) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(place, task, what it calls its picture)."""
    tasks = (
        [content] if isinstance(content, dict) and "annotations" in content and "data" in content else content
    )
    if not isinstance(tasks, list) or not tasks:
        raise ArtifactError(f"{path} is no export of Label Studio", hint=_HINT)
    if all(isinstance(t, Mapping) and "data" not in t and "annotation_id" in t for t in tasks):
        raise ArtifactError(
            f'{path} is an export "JSON-MIN", which leaves out which text belongs to which region', hint=_HINT
        )
    if not any(isinstance(t, Mapping) and isinstance(t.get("data"), Mapping) for t in tasks):
        raise ArtifactError(f"{path} is no export of Label Studio", facts=["no entry has data"], hint=_HINT)
    for number, task in enumerate(tasks):
        where = f"[{number}]" if content is tasks else "task"
        data = task.get("data") if isinstance(task, Mapping) else None
        picture = _picture(data) if isinstance(data, Mapping) else None
        if picture is None:
            findings.leave_out(where, "no picture in data")
        else:
            yield where, task, picture


def _picture(data: Mapping[str, Any]) -> str | None:
    texts = {key: v.strip() for key, v in data.items() if isinstance(v, str) and v.strip()}
    pictures = [v for v in texts.values() if v.split("?fileuri")[0].lower().endswith(PICTURE_SUFFIXES)]
    return texts.get("image") or next(iter(pictures), None)


def _annotation(where: str, task: Mapping[str, Any], findings: Findings) -> tuple[str, Sequence[Any]] | None:
    """(place, results) of the annotation that counts."""
    key = "annotations" if isinstance(task.get("annotations"), list) else "completions"  # up to version 1.0
    entries = [
        (number, entry)
        for number, entry in enumerate(task.get(key) or [])
        if isinstance(entry, Mapping)
        and not entry.get("was_cancelled")
        and isinstance(entry.get("result"), list)
    ]
    if not entries:
        findings.note("tasks without an annotation left out", where)
        return None
    if len(entries) > 1:
        findings.note("tasks with several annotations, of which the ground truth or the newest counts", where)

    def age(item: tuple[int, Mapping[str, Any]]) -> tuple[bool, str, int]:
        number, entry = item
        return (
            bool(entry.get("ground_truth")),
            str(entry.get("updated_at") or entry.get("created_at") or ""),
            number,
        )

    number, entry = max(entries, key=age)
    return f"{where}.{key}[{number}]", entry["result"]


def _lines(
    where: str, results: Sequence[Any], task: Mapping[str, Any], picture: str, findings: Findings
) -> list[Line]:
    """One line a phrase of each region."""
    regions: dict[str, tuple[str, Mapping[str, Any]]] = {}
    texts: dict[str, dict[str, list[str]]] = {}
    for number, result in enumerate(results):
        at = f"{where}.result[{number}]"
        if not isinstance(result, Mapping) or result.get("type") == "relation":
            continue
        value, identity = result.get("value"), str(result.get("id", number))
        if not isinstance(value, Mapping):
            continue
        for kind, words in _said(result, value):
            texts.setdefault(identity, {}).setdefault(kind, []).extend(words)
        if _has_area(value):
            regions.setdefault(identity, (at, result))
        elif {"x", "y"} <= value.keys() and str(result.get("type", "")).startswith("keypoint"):
            findings.note("key points left out", at)
    of_task = [t for key, found in texts.items() if key not in regions for t in found.get("text", [])]
    data, meta = task["data"], task.get("meta")
    of_task += [clean_text(data.get(key)) for key in _TASK_PHRASES]
    of_task = list(dict.fromkeys(filter(None, of_task)))
    if of_task and len(regions) > 1:
        findings.note("texts of a whole task with several regions, which are not used", where)
        of_task = []
    split = label_of(data.get("split")) or (label_of(meta.get("split")) if isinstance(meta, Mapping) else "")
    lines: list[Line] = []
    for identity, (at, result) in regions.items():
        said = texts.get(identity, {})
        phrases = said.get("text") or of_task or said.get("choices") or said.get("label") or [""]
        try:
            row = {"image": picture, "split": split, "category": next(iter(said.get("label", [])), "")}
            row |= _shape(result)
        except (Invalid, ArtifactError) as error:
            findings.leave_out(at, error.message if isinstance(error, ArtifactError) else error)
            continue
        lines += [(at, {**row, "expression": phrase}) for phrase in dict.fromkeys(phrases)]
    return lines


def _said(result: Mapping[str, Any], value: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """(text, choices or label; what is said) in a result."""
    meta = result.get("meta")
    kinds = {"text": "text", "choices": "choices", "labels": "label"}
    for key, said in [*value.items(), *(meta.items() if isinstance(meta, Mapping) else ())]:
        kind = kinds.get(key) or ("label" if str(key).endswith("labels") else None)
        values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        texts = [text for v in values if isinstance(v, str) and (text := clean_text(v))]
        if kind and texts:
            yield kind, texts


def _has_area(value: Mapping[str, Any]) -> bool:
    return bool({"points", "rle", "radiusX"} & value.keys()) or {"x", "y", "width", "height"} <= value.keys()


def _shape(result: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a region: its size, and its box or its mask."""
    value = result["value"]
    size = checked_size(result.get("original_width"), result.get("original_height"), "the region")
    if result.get("image_rotation"):
        raise Invalid(f"made on the picture turned by {result['image_rotation']}°: store the picture turned")
    if "rle" in value:
        if value.get("format") not in (None, "rle"):
            raise Invalid(f"a mask of the format {str(value['format'])[:20]!r}, which is not read")
        return {"size": list(size), "mask": mask_to_rle(decode_brush(value["rle"], size))}
    scale = np.array([size[1], size[0]]) / 100
    if "points" in value:
        if value.get("closed") is False:
            raise Invalid("a polygon that is not closed")
        rings = [ring for ring in polygon_rings(value["points"]) if len(ring) >= 3]
        if len(rings) != 1:
            raise Invalid(f"a polygon with {len(value['points'])} points")
        return {"size": list(size), "mask": polygon_to_rle(rings[0] * scale, size)}
    if "radiusX" in value:
        centre, radii = _numbers(value, "x", "y"), _numbers(value, "radiusX", "radiusY")
        turn = np.linspace(0, 2 * math.pi, _ELLIPSE_POINTS, endpoint=False)
        points = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radii * scale
        return {"size": list(size), "mask": polygon_to_rle(centre * scale + points @ _turn(value), size)}
    corner, sides = _numbers(value, "x", "y"), _numbers(value, "width", "height")
    points = corner * scale + (_CORNERS * sides * scale) @ _turn(value)
    box = map(float, (*points.min(axis=0), *points.max(axis=0)))
    return {"size": list(size), **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}


def _numbers(value: Mapping[str, Any], *keys: str) -> Any:
    try:
        return np.array([float_of(value[key]) for key in keys])
    except (KeyError, ValueError) as error:
        found = ", ".join(plain(value.get(key)) for key in keys)
        raise Invalid(f"{' and '.join(keys)} are {found}, not numbers") from error


def _turn(value: Mapping[str, Any]) -> Any:
    """The matrix that turns row vectors clockwise on the screen by `rotation` degrees."""
    angle = math.radians(float(_numbers({"rotation": value.get("rotation") or 0}, "rotation")[0]))
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
