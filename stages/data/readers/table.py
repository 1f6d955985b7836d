"""A practitioner's own photographs: one table (CSV, TSV or JSON lines) with a phrase and a box a line.

    image,phrase,x1,y1,x2,y2,split,mask
    kitchen/001.jpg,the red mug,120,80,210,190,train,masks/001-mug.png

`image` is relative to --images or to the table's folder. `x1, y1, x2, y2` are pixels, right and lower edge exclusive.
`split` (default: train) and `mask` may be missing or empty; a mask is the path, relative to the table, of a PNG of the
picture's size (any non-zero pixel belongs to the object) or of a JSON file with a COCO segmentation (polygons or RLE);
in JSON lines it may also be the segmentation itself. Lines that agree in image, box and split are phrases of one object.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.data.images import decode_size, find_image_root, header_size, path_below
from stages.data.readers.records import (
    LARGEST_SIDE,
    Findings,
    Invalid,
    Picture,
    Record,
    build_tables,
    check_file_size,
    checked_box,
    checked_split,
    clean_text,
    load_json,
    mask_bytes,
)
from stages.data.readers.tables import ReferringTables
from stages.errors import ArtifactError, UsageError, did_you_mean
from stages.geometry.rasterise import mask_to_rle

REQUIRED = ("image", "phrase", "x1", "y1", "x2", "y2")
OPTIONAL = ("split", "mask", "category")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_LONGEST_FIELD = 16 << 20  # characters; a run-length mask written into a line


@dataclass(frozen=True, eq=False)
class Table:
    """The parsed lines, before any picture or mask has been opened."""

    path: Path
    name: str
    by: str
    lines: list[tuple[int, Mapping[str, Any]]]  # (line number, counted from 1; column -> value)

    def mask_files(self) -> tuple[Path, ...]:
        """The mask files that exist, each once: their content decides the result, too."""
        names = {m.strip() for _, row in self.lines if isinstance(m := row.get("mask"), str)} - {""}
        paths = (path_below(self.path.parent, name) for name in sorted(names))
        return tuple(path for path in paths if path.is_file())


def open_table(
    path: Path, name: str | None = None, by: str | None = None, *, required: Sequence[str] = REQUIRED
) -> Table:
    """Parse a table that has at least the columns `required`.

    Raises:
        UsageError: the file has another ending.
        ArtifactError: the file is missing, too large, no text, has no such column, or a line that cannot be parsed.
    """
    kinds = [*_DELIMITERS, *_JSON_LINES]
    if path.is_dir() or path.suffix.lower() not in kinds:
        raise UsageError(f"{path} is no table", hint=f"give a file that ends with {', '.join(kinds)}")
    check_file_size(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            read = _json_lines if path.suffix.lower() in _JSON_LINES else _delimited
            lines = list(read(path, stream, required))
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is not UTF-8 text", facts=[str(error)[:120]]) from error
    if not lines:
        raise ArtifactError(f"{path} has no line with an object")
    return Table(path, name or path.stem, by or "table", lines)


def _delimited(path: Path, stream: Any, required: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        reader = csv.reader(stream, delimiter=_DELIMITERS[path.suffix.lower()], strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        _check_columns(path, header, required)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise ArtifactError(
                    f"{path} line {reader.line_num}: {len(cells)} values for {len(header)} columns",
                    hint='put phrases that hold the delimiter in quotes: "the mug, left"',
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise ArtifactError(f"{path} line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _json_lines(path: Path, stream: Any, required: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} line {number}: no valid JSON", facts=[str(error)[:120]]) from error
        if not isinstance(row, dict):
            raise ArtifactError(
                f"{path} line {number}: not an object", hint='{"image": "a.jpg", "phrase": …}'
            )
        if number == 1:
            _check_columns(path, list(row), required)
        yield number, row


def _check_columns(path: Path, header: list[str], required: Sequence[str]) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        near = did_you_mean(missing[0], [c for c in header if c not in (*REQUIRED, *OPTIONAL)])
        raise ArtifactError(
            f"{path} has no column {', '.join(missing)}",
            facts=[f"its columns: {', '.join(header)[:200] or 'none'}"],
            hint=f"rename {near!r} to {missing[0]!r}" if near else f"columns: {', '.join(required)}",
        )
    if len(set(header)) != len(header):
        raise ArtifactError(f"{path} has two columns of one name", facts=[", ".join(header)[:200]])


def read_table(table: Table, images: Path | None, *, skip_invalid: bool = False) -> ReferringTables:
    """The tables, with `image_root`. Missing pictures are kept in them, for the caller to find and list.

    Raises:
        ArtifactError: no folder of pictures, a name that leaves its folder, or invalid lines (listed by number) and
        `skip_invalid` is not set.
    """
    names = [n for _, row in table.lines if isinstance(n := row.get("image"), str) and n.strip()]
    base = table.path.resolve().parent
    root = find_image_root([base], [name.strip() for name in names], images) if names else images or base
    findings = Findings()
    reader = _Reader(table, root, findings)
    for number, row in table.lines:
        try:
            reader.add(number, row)
        except Invalid as error:
            findings.leave_out(f"line {number}", error)
    findings.finish(table.path, skip_invalid)
    built = build_tables(
        name=table.name,
        by=table.by,
        source=table.path,
        records=list(reader.records.values()),
        categories=[(k, name) for name, k in reader.categories.items()],
        findings=findings,
    )
    return replace(built, image_root=root)


class _Reader:
    """Turns lines into referents."""

    def __init__(self, table: Table, root: Path, findings: Findings) -> None:
        self.table, self.root, self.findings = table, root, findings
        self.records: dict[tuple[Any, ...], Record] = {}
        self.categories: dict[str, int] = {}
        self._masks: dict[tuple[Any, ...], str] = {}  # referent -> the mask that its first line names
        self._pictures: dict[str, tuple[Picture, bool]] = {}

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        phrase = clean_text(row.get("phrase"))
        if not phrase:
            raise Invalid("empty phrase")
        name = row.get("image")
        if not isinstance(name, str) or not name.strip():
            raise Invalid("no image")
        corners = [_number(row.get(key), key) for key in REQUIRED[2:]]
        split = checked_split(str(row.get("split") or "train").strip())
        key = (split, name.strip(), *corners)
        mask = row.get("mask")
        mask = mask.strip() or None if isinstance(mask, str) else mask or None
        named = json.dumps(mask, sort_keys=True)
        if key in self.records:
            if mask is not None and self._masks[key] != named:
                raise Invalid("another mask than on the first line of this object")
            self.records[key].sentences.append((number, phrase))
            return
        picture, readable = self._picture(name.strip(), corners)
        self.records[key] = Record(
            ref_id=number,
            ann_id=number,
            picture=picture,
            category_id=self._category(row.get("category")),
            split=split,
            box_xyxy=checked_box(corners, picture.size_hw, self.findings, "xyxy"),
            is_crowd=False,
            rle=self._mask(mask, picture.size_hw) if readable else b"",
            sentences=[(number, phrase)],
        )
        self._masks[key] = named

    def _category(self, name: Any) -> int:
        label = clean_text(name)
        return self.categories.setdefault(label, len(self.categories)) if label else -1

    def _picture(self, name: str, corners: list[float]) -> tuple[Picture, bool]:
        """The picture, and whether it can be read. One that cannot gets a size that holds the boxes: it is reported
        (or left out) when the pictures are checked, so that all such pictures are listed at once."""
        if name not in self._pictures:
            size = _picture_size(path_below(self.root, name))
            height, width = size or (LARGEST_SIDE, LARGEST_SIDE)
            self._pictures[name] = (Picture(len(self._pictures), name, height, width), size is not None)
        return self._pictures[name]

    def _mask(self, mask: Any, size_hw: tuple[int, int]) -> bytes:
        if mask is None:
            return b""
        if not isinstance(mask, str):
            return mask_bytes(mask, size_hw, "mask", self.findings)
        path = path_below(self.table.path.resolve().parent, mask)
        if path.suffix.lower() == ".png":
            return mask_bytes(_png_mask(path, mask, size_hw), size_hw, f"mask {mask}", self.findings)
        if path.suffix.lower() != ".json":
            raise Invalid(f"mask {mask} is neither a PNG nor a JSON file")
        try:
            content = load_json(path)
        except ArtifactError as error:
            raise Invalid(error.message) from None
        if isinstance(content, dict) and "segmentation" in content:
            content = content["segmentation"]
        return mask_bytes(content, size_hw, f"mask {mask}", self.findings)


def _number(value: Any, column: str) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise Invalid(f"{column} is {value!r}, not a number") from None


def _picture_size(path: Path) -> tuple[int, int] | None:
    """(height, width), or None when the file is missing or no picture."""
    try:
        with open(path, "rb") as stream:
            size = header_size(stream)
        return size if size is not None else decode_size(path)
    except OSError:
        return None


def _png_mask(path: Path, name: str, size_hw: tuple[int, int]) -> dict[str, Any]:
    """The size is looked at before anything is decoded: a small file may unpack to gigabytes."""
    try:
        with open(path, "rb") as stream:
            size = header_size(stream)
    except OSError as error:
        raise Invalid(f"mask {name}: {(error.strerror or 'error').lower()}") from None
    if size is None:
        raise Invalid(f"mask {name} is no PNG")
    if size != size_hw:
        raise Invalid(
            f"mask {name} is {size[1]}x{size[0]}, its picture {size_hw[1]}x{size_hw[0]} (width x height)"
        )
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise Invalid(f"mask {name} cannot be decoded")
    if pixels.ndim == 3:  # colour: any channel counts, an alpha channel alone does not
        pixels = pixels[..., :3].max(axis=2)
    return mask_to_rle(pixels > 0)
