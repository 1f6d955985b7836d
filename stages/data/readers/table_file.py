"""A table as it lies on disk: CSV, TSV, JSON lines or a JSON list -> (line number, column -> value).

What spreadsheets do to a file is undone: byte order marks, semicolons, columns without a name, lines whose last empty
cells were dropped. A line number is that of the line where the entry begins (in a JSON list, the place of the entry).
What `predict` writes is such a list; `box_xyxy` stands for x1, y1, x2, y2 there. A column may have its former name.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from stages.data.images import path_below
from stages.data.readers.records import check_file_size, open_text
from stages.data.readers.values import is_nothing
from stages.errors import ArtifactError, UsageError, did_you_mean
from stages.file_kinds import refuse_other_kinds
from stages.nearest import cannot_read

REQUIRED = ("image", "expression", "x1", "y1", "x2", "y2")
_OTHER_NAMES = {
    "image": ("file_name", "filename", "file", "image_path", "image_file", "img", "picture", "path"),
    "expression": ("caption", "sentence", "text", "query", "prompt", "description", "referring_expression"),
    "x1": ("xmin", "x_min", "left"),
    "y1": ("ymin", "y_min", "top"),
    "x2": ("xmax", "x_max", "right"),
    "y2": ("ymax", "y_max", "bottom"),
}
_SIZES = {"w", "h", "width", "height", "box_width_px", "box_height_px", "bbox", "box"}
_CORNERS = REQUIRED[2:]  # not needed where there is a column `mask`: the box is then the extent of the mask
OPTIONAL = ("split", "mask", "mask_value", "category")
_FORMER_NAMES = {"phrase": "expression"}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHER_DELIMITERS = (";", "\t", ",")  # of a CSV file from a spreadsheet in another language
_JSON_LINES, _JSON = (".jsonl", ".ndjson"), ".json"
_LONGEST_FIELD = 16 << 20  # characters; a run-length mask written into a line

# (line number, counted from 1, or the place in another file in words; column -> value)
Line = tuple[int | str, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Table:
    """The parsed lines, before any picture or mask has been opened."""

    path: Path
    name: str
    by: str
    lines: list[Line]

    @property
    def folders(self) -> list[Path]:
        """What names may be relative to: the folder where the table is seen, then that of the file it links to."""
        seen = Path(os.path.abspath(self.path)).parent
        return list(dict.fromkeys([seen, self.path.resolve().parent]))

    def mask_path(self, name: str) -> tuple[Path, str | None]:
        """The mask file that a cell names, and the value behind its last # (`ids.png#2`), if it has one.

        Raises:
            ArtifactError: the name leaves the folder of the table.
        """
        plain, mark, value = name.rpartition("#")
        splits = [(name, None), (plain.strip(), value.strip())] if mark and plain else [(name, None)]
        tried = [(path_below(folder, part), value) for part, value in splits for folder in self.folders]
        return next((found for found in tried if found[0].is_file()), tried[-len(self.folders)])

    def mask_files(self) -> tuple[Path, ...]:
        """The mask files that exist, each once: their content decides the result, too."""
        cells = (row.get("mask") for _, row in self.lines)
        names = {m.strip() for m in cells if isinstance(m, str) and not is_nothing(m) and not is_json(m)}
        paths = dict.fromkeys(self.mask_path(name)[0] for name in sorted(names))
        return tuple(path for path in paths if path.is_file())


def is_json(cell: str) -> bool:
    """Whether a cell of the mask column holds the segmentation itself."""
    return cell.lstrip()[:1] in ("[", "{")


def open_lines(lines: Iterable[str], *, required: Sequence[str] = REQUIRED) -> Table:
    """A table out of JSON lines that come from a pipe; names are relative to the working folder.

    Raises:
        ArtifactError: as `open_table`.
    """
    path = Path("standard input")
    try:
        rows = list(_json_lines(path, lines, required))
    except UnicodeError as error:
        raise ArtifactError(f"{path} is not UTF-8 text", facts=[str(error)[:120]]) from error
    if not rows:
        raise ArtifactError(
            f"{path} has no line with an object", hint='{"image": "a.jpg", "expression": "the mug"}'
        )
    return Table(path, "lines", "table", rows)


def open_table(
    path: Path, name: str | None = None, by: str | None = None, *, required: Sequence[str] = REQUIRED
) -> Table:
    """Parse a table that has at least the columns `required`.

    Raises:
        UsageError: the file has another ending.
        ArtifactError: the file is missing, too large, no text, has no such column, or a line that cannot be parsed.
    """
    kinds = [*_DELIMITERS, *_JSON_LINES, _JSON]
    if path.is_dir() or path.suffix.lower() not in kinds:
        raise UsageError(f"{path} is no table", hint=f"give a file that ends with {', '.join(kinds)}")
    check_file_size(path)
    refuse_other_kinds(path, but="JSON")
    try:
        with open_text(path) as stream:
            ending = path.suffix.lower()
            read = _json_lines if ending in _JSON_LINES else _json_list if ending == _JSON else _delimited
            lines = list(read(path, stream, required))
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeError as error:
        raise ArtifactError(
            f"{path} is not UTF-8 text",
            facts=[str(error)[:120]],
            hint='save it as UTF-8; in a spreadsheet as "CSV UTF-8"',
        ) from error
    if not lines:
        raise ArtifactError(f"{path} has no line with an object")
    return Table(path, name or path.stem, by or "table", lines)


def _delimited(path: Path, stream: TextIO, required: Sequence[str]) -> Iterator[Line]:
    limit = csv.field_size_limit(_LONGEST_FIELD)
    begin, before = 1, 0
    try:
        delimiter, before = _delimiter(path, stream, required)
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        header = _named([cell.strip() for cell in next(reader, [])])
        _check_columns(path, header, required)
        needed = 1 + max(header.index(column) for column in required if column in header)
        begin = before + reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) < needed or any(cell.strip() for cell in cells[len(header) :]):
                    raise ArtifactError(
                        f"{path} line {begin}: {len(cells)} values for {len(header)} columns",
                        hint='put expressions that hold the delimiter in quotes: "the mug, left"',
                    )
                cells += [""] * (len(header) - len(cells))
                yield begin, {key: cell for key, cell in zip(header, cells, strict=False) if key}
            begin = before + reader.line_num + 1
    except csv.Error as error:
        is_open = "unexpected end" in str(error)
        raise ArtifactError(
            f"{path} line {begin}: {'a quote is opened and never closed' if is_open else error}",
            facts=[f"read on to line {end}"] if (end := before + reader.line_num) > begin else [],
            hint="close it, or double the quotes inside of an expression in quotes"
            if is_open
            else 'in an expression that begins with a quote, double each: """stop"" sign"',
        ) from error
    finally:
        csv.field_size_limit(limit)


def _delimiter(path: Path, stream: TextIO, required: Sequence[str]) -> tuple[str, int]:
    """What separates the columns: as the ending says, unless only another one gives the columns that are needed.
    And how many lines stand before the header."""
    usual = _DELIMITERS[path.suffix.lower()]
    head = stream.readline(_LONGEST_FIELD)
    if head[:4].lower() == "sep=" and len(head.strip()) == 5:  # a line for Excel
        return head[4], 1
    stream.seek(0)
    for delimiter in (usual, *_OTHER_DELIMITERS):
        names = set(_named([name.strip().strip('"') for name in head.split(delimiter)]))
        if names.issuperset(column for column in required if column not in _CORNERS or "mask" not in names):
            return delimiter, 0
    return usual, 0


def _json_lines(path: Path, stream: Iterable[str], required: Sequence[str]) -> Iterator[Line]:
    checked = False
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} line {number}: no valid JSON", facts=[str(error)[:120]]) from error
        if not isinstance(row, dict):
            raise ArtifactError(
                f"{path} line {number}: not an object", hint='{"image": "a.jpg", "expression": …}'
            )
        row = _with_corners(row)
        if not checked:
            _check_columns(path, list(row), required)
            checked = True
        yield number, row


def _json_list(path: Path, stream: TextIO, required: Sequence[str]) -> Iterator[Line]:
    """A list of rows, or what `predict` writes: a document with such a list under "predictions"."""
    try:
        content = json.load(stream)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: no valid JSON", facts=[str(error)[:120]]) from error
    entries = content.get("predictions") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ArtifactError(
            f"{path} is no table", hint='a JSON table is a list, [{"image": "a.jpg", "expression": …}, …]'
        )
    for number, entry in enumerate(entries, 1):
        row = _with_corners(entry)
        if number == 1:
            _check_columns(path, list(row), required)
        yield number, row


def _named(header: Sequence[str]) -> list[str]:
    """The columns under their present names; where both names occur, the present one means it."""
    return [_FORMER_NAMES.get(c, c) if _FORMER_NAMES.get(c) not in header else c for c in header]


def _with_corners(row: dict[str, Any]) -> dict[str, Any]:
    """Columns under their present names, and `box_xyxy` as four of them, where the row has no such columns."""
    row = dict(zip(_named(list(row)), row.values(), strict=True))
    if "box_xyxy" not in row or "x1" in row:
        return row
    box = row["box_xyxy"]
    corners = box if isinstance(box, list) and len(box) == 4 else [box] * 4
    return {**row, **dict(zip(_CORNERS, corners, strict=True))}


def _check_columns(path: Path, header: list[str], required: Sequence[str]) -> None:
    missing = [column for column in required if column not in header]
    if "mask" in header and set(missing) == set(_CORNERS):
        missing = []
    named = [column for column in header if column]
    if missing:
        raise ArtifactError(
            f"{path} has no column {', '.join(missing)}",
            facts=[f"its columns: {', '.join(named)[:200] or 'none'}"],
            hint=_how_to_rename(missing, [c for c in named if c not in (*REQUIRED, *OPTIONAL)])
            or f"columns: {', '.join(required)}",
        )
    if len(set(named)) != len(named):
        raise ArtifactError(f"{path} has two columns of one name", facts=[", ".join(named)[:200]])


def _how_to_rename(missing: Sequence[str], others: Sequence[str]) -> str | None:
    """Which of the columns that mean nothing here are probably the missing ones."""
    if {"x2", "y2"} & set(missing) and _SIZES & {c.casefold() for c in others}:
        return "give the box as corners: x1, y1, x2 = x1 + width, y2 = y1 + height"
    found = {}
    for name in missing:
        known = [c for c in others if c.casefold() in _OTHER_NAMES.get(name, ())]
        if near := (known[0] if known else did_you_mean(name, [c for c in others if c not in found])):
            found[near] = name
    return "rename " + ", ".join(f"{old!r} to {new!r}" for old, new in found.items()) if found else None
