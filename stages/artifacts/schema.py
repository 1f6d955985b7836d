"""What each kind of artifact must hold; SCHEMA.md says the same in words.

schema.toml has a line a column: path = { type, dims, index … }. Dimensions are letters that must agree within a file
("R 4" = one row a referent, four columns; "R+1" = offsets); `index = "I"` says that the values point into the rows of
dimension I, `index = "dataset R"` into those of the dataset that the file was made from; both are checked whenever a
column is read, and by `verify`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal, Protocol

import numpy as np

LARGEST_SIDE = 100_000  # pixels of a picture
LARGEST_PICTURE = 1 << 28  # pixels; more than any camera makes, and 0.8 GB when decoded
COORDINATES = "xy, pixels, origin = outer corner of the top-left pixel"

ColumnType = Literal["int", "float", "bool", "uint8", "text", "json"]
_NUMPY_KINDS = {"int": "iu", "float": "f", "bool": "b", "uint8": "u", "text": "t", "json": "t"}


@dataclass(frozen=True)
class Column:
    """One dataset. `dims` are letters or numbers ("R 4"); "" is a scalar."""

    type: ColumnType
    dims: str = ""
    unit: str = ""
    index: str | None = None  # dimension whose rows the values point at; "dataset R": of the dataset
    lowest: int | None = None  # smallest and largest value
    largest: int | None = None
    absent: bool = False  # True: -1 means "none" and is allowed beside `index`
    required: bool = True


@dataclass(frozen=True)
class RaggedColumn:
    """A group with `values` (dims like "P 2"; the first letter is free) and `offsets` (rows+1)."""

    type: ColumnType
    rows: str
    tail: Sequence[int] = ()
    unit: str = ""
    required: bool = True


@dataclass(frozen=True)
class KindSchema:
    """Everything a kind must (required) and may (not required) hold. Other paths may be present as well."""

    columns: Mapping[str, Column | RaggedColumn]
    attributes: Sequence[str] = ()
    groups: Sequence[str] = ()  # groups that must hold at least one dataset
    # column -> the ragged group whose rows it offsets
    owners: Mapping[str, str] = field(default_factory=dict)


class FileLike(Protocol):
    """What the checks of values need to know of a file."""

    kind: str

    @property
    def entries(self) -> Mapping[str, EntryLike]: ...


class EntryLike(Protocol):
    """What the checks need to know of a dataset; `hdf5.Entry` and the writer's record both are."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


def _read_schemas() -> tuple[dict[str, int], dict[str, str], dict[str, KindSchema]]:
    """schema.toml; a kind that is `like` another has its columns, attributes and groups."""
    text = resources.files(__package__).joinpath("schema.toml").read_text("utf-8")
    tables: dict[str, dict[str, Any]] = tomllib.loads(text)
    versions = {kind: table.pop("version") for kind, table in tables.items()}
    producers = {kind: table.pop("made_by") for kind, table in tables.items()}
    schemas = {kind: _schema_of(**tables[table.get("like", kind)]) for kind, table in tables.items()}
    return versions, producers, schemas


def _schema_of(columns: Mapping[str, Mapping[str, Any]], **others: Any) -> KindSchema:
    made = {path: (RaggedColumn if "rows" in about else Column)(**about) for path, about in columns.items()}
    return KindSchema(made, **others)


# kind -> the schema version that this program writes, and the newest that it reads; the command that makes it
KINDS, PRODUCERS, SCHEMAS = _read_schemas()


def named(kind: str) -> str:
    """ "a split artifact", "an evaluation artifact"."""
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind} artifact"


def problems(kind: str, found: Mapping[str, EntryLike], attributes: Mapping[str, Any]) -> Iterator[str]:
    """Everything in which a file's tree differs from its schema, in words; reads no data."""
    schema = SCHEMAS[kind]
    sizes: dict[str, tuple[int, str]] = {}
    for name in schema.attributes:
        if name not in attributes:
            yield f"attribute {name} is missing"
    for name, value in attributes.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                yield f"attribute {name} is {one}, no finite number"
    for group in schema.groups:
        if not any(path.startswith(f"{group}/") for path in found):
            yield f"group {group} is missing or empty"
    for path, column in schema.columns.items():
        if isinstance(column, RaggedColumn):
            yield from _ragged_problems(path, column, found, sizes)
        elif path in found:
            yield from _column_problems(path, column, found[path], sizes)
        elif column.required:
            yield f"{path} is missing"


def _ragged_problems(
    path: str, column: RaggedColumn, found: Mapping[str, EntryLike], sizes: dict[str, tuple[int, str]]
) -> Iterator[str]:
    parts = [f"{path}/values", f"{path}/offsets"]
    present = [part in found for part in parts]
    if not any(present) and not column.required:
        return
    for part, there in zip(parts, present, strict=True):
        if not there:
            yield f"{part} is missing"
    if present[0]:
        dims = " ".join(["*", *map(str, column.tail)])
        yield from _column_problems(parts[0], Column(column.type, dims), found[parts[0]], sizes)
    if present[1]:
        yield from _column_problems(parts[1], Column("int", f"{column.rows}+1"), found[parts[1]], sizes)


def _column_problems(
    path: str, column: Column, entry: EntryLike, sizes: dict[str, tuple[int, str]]
) -> Iterator[str]:
    if not has_type(entry.dtype, column.type):
        yield f"{path} has type {entry.dtype}, expected {column.type}"
    dims = column.dims.split()
    if len(entry.shape) != len(dims):
        yield f"{path} has shape {entry.shape}, expected {len(dims)} dimensions"
        return
    for dim, size in zip(dims, entry.shape, strict=True):
        if dim.isdigit():
            if size != int(dim):
                yield f"{path} has shape {entry.shape}, expected {dim} in the last place"
        elif dim != "*":
            letter, rows = dim.removesuffix("+1"), size - dim.endswith("+1")
            known, owner = sizes.setdefault(letter, (rows, path))
            if rows != known:
                yield f"{path} has {rows} rows, but {owner} has {known}"


def has_type(dtype: str, wanted: ColumnType) -> bool:
    """Whether a stored dtype ("<f4", "|b1", "text") is of the class that the schema asks for."""
    if dtype == "text":
        return wanted in ("text", "json")
    if wanted == "uint8":
        return dtype == "|u1"
    return dtype[1] in _NUMPY_KINDS[wanted]


def offset_columns(kind: str, found: Mapping[str, EntryLike]) -> Iterator[tuple[str, int]]:
    """(path of an offsets column, number of things that its last entry must equal).

    Covers the ragged groups of the schema and any other group in the file that is built like one.
    """
    for path in found:
        values = path.removesuffix("/offsets") + "/values"
        if path.endswith("/offsets") and values in found and found[values].shape:
            yield path, found[values].shape[0]
    for path in SCHEMAS[kind].owners:
        n = owned_by(kind, path, found)
        if path in found and n is not None:
            yield path, n


def owned_by(kind: str, path: str, found: Mapping[str, EntryLike]) -> int | None:
    """How many things the offsets `path` share out; None for any other column."""
    letter = SCHEMAS[kind].owners.get(path) if kind in SCHEMAS else None
    return None if letter is None else dimension_size(kind, found, letter)


def dimension_size(kind: str, found: Mapping[str, EntryLike], letter: str) -> int | None:
    """How many rows the dimension `letter` has in this file."""
    for path, column in SCHEMAS[kind].columns.items():
        if isinstance(column, Column) and column.dims.split()[:1] == [letter] and path in found:
            return found[path].shape[0]
    return None


def value_problem(file: FileLike, name: str, values: np.ndarray, first_row: int = 0) -> str | None:
    """The first value of a column (or of some rows of it) that points nowhere or cannot be, in words."""
    column = SCHEMAS[file.kind].columns.get(name.removesuffix("/values")) if file.kind in SCHEMAS else None
    if column is None:
        return None
    if not has_type(values.dtype.str, column.type):
        return f"{name} has type {values.dtype.str}, expected {column.type}"
    if not values.size:
        return None
    if column.type == "float" and column.unit == "px" and not np.isfinite(values).all():
        return f"{name} holds a number that is not finite"
    if not isinstance(column, Column) or values.dtype.kind not in "iu":
        return None
    low, high = column.lowest, column.largest
    if column.index is not None:
        low = -1 if column.absent else 0
        n = dimension_size(file.kind, file.entries, column.index)
        high = None if n is None else n - 1
    low = -(2**63) if low is None else low
    high = 2**63 - 1 if high is None else high
    if low <= int(values.min()) and int(values.max()) <= high:
        return None
    bad = np.flatnonzero((values < low) | (values > high))
    row = bad[0] // max(1, values.size // len(values)) if values.ndim else 0
    number = values.reshape(-1)[bad[0]]
    return f"{name}: row {first_row + row} is {number}, outside {low}..{high} ({len(bad)} rows)"


def rows_elsewhere(kind: str, dataset: Mapping[str, EntryLike]) -> Iterator[tuple[str, int]]:
    """Columns whose values are rows of the dataset that a file was made from, and how many rows there are."""
    for path, column in SCHEMAS[kind].columns.items():
        index = column.index if isinstance(column, Column) else None
        if index is not None and index.startswith("dataset "):
            n = dimension_size("dataset", dataset, index.removeprefix("dataset "))
            if n is not None:
                yield path, n


def shared_sizes(kind: str, dataset: Mapping[str, EntryLike]) -> Iterator[tuple[str, int]]:
    """Dimensions of a file that are dimensions of its dataset, and their size there: a split has a row a referent."""
    n = dimension_size("dataset", dataset, "R")
    if kind == "split" and n is not None:
        yield "R", n
