"""Reading HDF5 files that a stranger may have made: the only module that touches h5py's file structure.

HDF5 can point at other files (external links, external storage, virtual datasets), at itself (hard
link cycles), at code (dynamically loaded filters), and can claim sizes that it does not hold. All of
these are refused, so an artifact stays data.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stages.artifacts.text_heap import DamagedText, texts
from stages.errors import ArtifactError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 8
MAX_ATTRIBUTE_BYTES = 64 << 10
DEFLATE_LIMIT = 1040  # deflate cannot expand a byte to more than 1032
# What is larger than this has never been found to shrink to a hundredth: it would be zeros, made to fill the memory.
_LARGE_BYTES, _LARGE_LIMIT = 64 << 20, 100
_LARGEST_CHUNK = 16 << 20  # bytes unpacked; the writer's have 4 MiB, or are one row
_SIMPLE_CLASSES = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.STRING}
_KNOWN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


@dataclass(frozen=True)
class Entry:
    """One dataset of a file. `dtype` is numpy's string such as "<f4", "|b1", or "text"."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    stored_bytes: int

    @property
    def is_text(self) -> bool:
        return self.dtype == "text"


@contextlib.contextmanager
def damage_as_error(path: Path, doing: str = "reading") -> Iterator[None]:
    """Turn whatever h5py raises on damaged bytes into an ArtifactError that names the file."""
    try:
        yield
    except ArtifactError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError) as error:
        fact = str(error).strip("'\"").splitlines()[0][:200] if str(error) else type(error).__name__
        raise ArtifactError(
            f"{path} is damaged: {doing} failed", facts=[fact], hint="make the file again, or copy it again"
        ) from error


def open_file(path: Path) -> h5py.File:
    """Open for reading without locks: artifacts never change in place, they are replaced as a whole."""
    with damage_as_error(path, "opening"):
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=1 << 20)
        if file.userblock_size or file.id.get_create_plist().get_sizes() != (8, 8):
            raise _refused(path, "it begins with a block that is no HDF5, or counts in other than 8 bytes")
        return file


def entries(file: h5py.File, path: Path) -> dict[str, Entry]:
    """Every dataset by its path, in sorted order, without reading any data.

    Raises:
        ArtifactError: a link out of the file, a cycle, a filter or type that artifacts do not use, or a
            size that the file cannot hold.
    """
    found: dict[str, Entry] = {}
    with damage_as_error(path, "reading its tree"):
        root = h5py.h5g.open(file.id, b"/")
        _walk(root, "", {h5py.h5o.get_info(root).addr}, found, path)
    total = path.stat().st_size
    stored = sum(entry.stored_bytes for entry in found.values())
    if stored > total:
        raise _refused(path, f"its datasets claim {stored} bytes in a file of {total}")
    return dict(sorted(found.items()))


def _walk(group: h5py.h5g.GroupID, prefix: str, seen: set[int], found: dict[str, Entry], path: Path) -> None:
    """In h5py's low-level calls: models have hundreds of datasets, and every stage walks through its inputs."""
    if prefix.count("/") > MAX_DEPTH:
        raise _refused(path, f"{prefix} is nested too deeply")
    for name in group:
        here = prefix + name.decode("utf-8")
        if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise _refused(path, f"{here} is a link")
        item = h5py.h5o.open(group, name)
        address = h5py.h5o.get_info(item).addr
        if address in seen:
            raise _refused(path, f"{here} is reached twice")
        seen.add(address)
        if isinstance(item, h5py.h5g.GroupID):
            _walk(item, f"{here}/", seen, found, path)
        elif isinstance(item, h5py.h5d.DatasetID):
            found[here] = _entry(item, here, path)
        else:
            raise _refused(path, f"{here} is neither a group nor a dataset")


def _entry(dataset: h5py.h5d.DatasetID, name: str, path: Path) -> Entry:
    creation = dataset.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        raise _refused(path, f"{name} is stored in another file")
    filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
    kind = dataset.get_type()
    in_heap = kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
    if in_heap and (creation.get_layout() != h5py.h5d.CONTIGUOUS or filters):
        raise _refused(path, f"{name} is text in chunks")
    if set(filters) - _KNOWN_FILTERS or filters.count(h5py.h5z.FILTER_DEFLATE) > 1:
        raise _refused(path, f"{name} uses filters {filters}")
    if dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        raise _refused(path, f"{name} holds nothing")
    shape, stored = dataset.shape, dataset.get_storage_size()
    logical = kind.get_size() * math.prod(shape)
    limit = DEFLATE_LIMIT if logical <= _LARGE_BYTES else _LARGE_LIMIT
    if logical > stored * (limit if filters else 1):
        raise _refused(path, f"{name} claims {logical} bytes but {stored} are stored")
    if creation.get_layout() == h5py.h5d.CHUNKED:
        chunk = kind.get_size() * math.prod(creation.get_chunk())
        if chunk > max(_LARGEST_CHUNK, logical):
            raise _refused(path, f"{name} claims chunks of {chunk} bytes for {logical}")
    return Entry(name, _dtype_name(dataset, name, path), shape, stored)


def _dtype_name(dataset: h5py.h5d.DatasetID, name: str, path: Path) -> str:
    if dataset.get_type().get_class() not in _SIMPLE_CLASSES:
        raise _refused(path, f"{name} has a type that is no number, bool or text")
    dtype = dataset.dtype
    text = h5py.check_string_dtype(dtype)
    if text is not None and text.encoding == "utf-8" and (text.length is None or dataset.shape == ()):
        return "text"
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise _refused(path, f"{name} has type {dtype}")
    return dtype.str


def _refused(path: Path, fact: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is not built like a seqres artifact",
        facts=[fact],
        hint="take the file only from a source you trust, or make it again",
    )


def read_text(dataset: h5py.Dataset, path: Path) -> list[str]:
    """All strings of a text dataset (any shape, flattened), each checked before it is read (text_heap.py)."""
    if h5py.check_string_dtype(dataset.dtype).length is not None:
        return [str(plain_attribute(value)) for value in np.ravel(dataset[()]).tolist()]
    if not dataset.size:
        return []
    offset = dataset.id.get_offset()
    if offset is None:
        raise _refused(path, f"{dataset.name} stores nothing")
    try:
        return texts(dataset.file.id.get_vfd_handle(), offset, dataset.size)
    except DamagedText as error:
        raise ArtifactError(
            f"{path} is damaged: reading {dataset.name.removeprefix('/')} failed",
            facts=[str(error)],
            hint="make the file again, or copy it again",
        ) from error


def plain_attribute(value: Any) -> Any:
    """An HDF5 attribute as Python: str, int, float, bool, None, or a list of these."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray):
        return [plain_attribute(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, str | bool | int | float):
        raise TypeError(f"an attribute of type {type(value).__name__}")
    return value


def attributes(item: h5py.Group, path: Path) -> dict[str, Any]:
    """All attributes of one group as Python values."""
    with damage_as_error(path, "reading its attributes"):
        found = {}
        for name in sorted(item.attrs):
            _require_simple_attribute(h5py.h5a.open(item.id, name.encode("utf-8")), name, path)
            found[name] = plain_attribute(item.attrs[name])
        return found


def _require_simple_attribute(attribute: h5py.h5a.AttrID, name: str, path: Path) -> None:
    """Variable-length types crash HDF5 when the file is damaged, so they are refused before reading."""
    kind = attribute.get_type()
    size = kind.get_size() * int(np.prod(attribute.shape or (), dtype=object))
    simple = kind.get_class() in _SIMPLE_CLASSES and size <= MAX_ATTRIBUTE_BYTES
    if not simple or (kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()):
        raise _refused(path, f"attribute {name} is no plain number, bool or fixed-length text")
    # HDF5 cannot be asked for the stored size of what stores nothing (no value, an empty list).
    if attribute.shape is not None and size and attribute.get_storage_size() != size:
        raise _refused(path, f"attribute {name} does not store the {size} bytes that it claims")


def fixed_text(n_bytes: int) -> np.dtype:
    """The type of a single text. Not variable-length, because HDF5 keeps those in a heap apart, and a
    damaged heap can keep it busy for ever: the head of a file must always be readable or refused."""
    return h5py.string_dtype("utf-8", max(1, n_bytes))


def store_attribute(owner: h5py.AttributeManager, name: str, value: Any) -> None:
    """Write what `plain_attribute` reads back; TypeError for anything else."""
    if value is None:
        owner[name] = h5py.Empty("f4")
    elif isinstance(value, list | tuple):
        if all(isinstance(v, str) for v in value):
            texts = [v.encode("utf-8") for v in value]
            kind = fixed_text(max(map(len, texts), default=0))
            owner.create(name, np.array(texts, dtype=kind), shape=(len(texts),), dtype=kind)
        else:
            owner[name] = np.asarray(value)
    elif isinstance(value, str):
        kind = fixed_text(len(value.encode("utf-8")))
        owner.create(name, np.array(value.encode("utf-8"), dtype=kind), dtype=kind)
    elif isinstance(value, bool | int | float | np.generic):
        owner[name] = value
    else:
        raise TypeError(f"attribute {name!r} cannot hold {type(value).__name__}; use json() for it")
