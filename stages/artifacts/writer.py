"""Writing an artifact so that a reader sees the whole file or none.

temporary file in the same folder -> datasets, hashed as they are written -> schema check -> digest ->
close -> fsync -> os.replace -> fsync of the folder. The rename is the only commit mark. What a killed
writer leaves, the next one removes: see temporary.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import stages
from stages.artifacts import hdf5, schema
from stages.artifacts.digest import NOTES, PROVENANCE, RESERVED_ATTRIBUTES, ContentHash, combine, is_content
from stages.artifacts.hdf5 import fixed_text
from stages.artifacts.provenance import plain_json, storable
from stages.artifacts.ragged import offsets_of, offsets_problem
from stages.artifacts.sink import Sink
from stages.artifacts.target import require_file_target
from stages.artifacts.temporary import replace_file, temporary_file
from stages.errors import SeqresError

_COMPRESS_FROM_BYTES = 64 << 10
_CHUNK_BYTES = 256 << 10
# Larger than HDF5's chunk cache (1 MiB, see `hdf5.open_file`), so that one photograph is read without its whole chunk and
# nothing that was written stays in memory.
_STREAM_CHUNK_BYTES = 2 << 20
_TEXTS_AT_ONCE = 8192
_SAFE_NAME = re.compile(r"(?!.*(^|/)\.)[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*\Z")


@dataclass(frozen=True)
class _Written:
    """What the schema check and the digest need to know about a dataset."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str


class ArtifactWriter:
    """Adds datasets to an artifact that is being written; see `write_artifact`."""

    def __init__(self, file: h5py.File, path: Path, sink: Sink) -> None:
        self._file = file
        self._sink = sink
        self._path = path
        self._written: dict[str, _Written] = {}
        self._attributes: dict[str, Any] = {}
        self.digest = ""

    def column(self, name: str, array: np.ndarray | Sequence[Any], *, compress: bool | None = None) -> None:
        """A number or bool column of any rank. `compress=None` packs what is large; pass False for bytes
        that are packed already (JPEG, RLE)."""
        array = _numbers(name, array)
        content = ContentHash()
        content.numbers(array)
        packed = compress if compress is not None else array.nbytes >= _COMPRESS_FROM_BYTES
        layout: dict[str, Any] = {}
        if packed and array.ndim and array.size:
            row_bytes = max(1, array.nbytes // array.shape[0])
            layout = {
                "chunks": (min(len(array), max(1, _CHUNK_BYTES // row_bytes)), *array.shape[1:]),
                "compression": "gzip",
                "compression_opts": 1,  # higher levels cost three times the time for a few per cent
                "shuffle": True,
            }
        self._create(name, data=array, **layout)
        self._record(name, array.dtype.str, array.shape, content)

    def ragged(
        self,
        name: str,
        values: np.ndarray,
        offsets: np.ndarray | Sequence[int],
        *,
        compress: bool | None = None,
    ) -> None:
        """Rows of different lengths: row i is values[offsets[i]:offsets[i+1]]; offsets (N+1,) int64."""
        values, offsets = np.asarray(values), np.asarray(offsets, dtype=np.int64)
        problem = offsets_problem(offsets, len(values))
        if problem:
            raise ValueError(f"{name}: {problem}")
        if compress is None and values.dtype == np.uint8:
            compress = False  # bytes of JPEG, PNG or RLE
        self.column(f"{name}/values", values, compress=compress)
        self.column(f"{name}/offsets", offsets)

    def ragged_stream(
        self,
        name: str,
        rows: Iterable[np.ndarray | bytes],
        dtype: np.dtype | type = np.uint8,
        tail: tuple[int, ...] = (),
    ) -> int:
        """Like `ragged`, from an iterable of rows (k, *tail) in bounded memory; returns N."""
        stream = _Stream(self, f"{name}/values", np.dtype(dtype), tail)
        lengths = array("q")
        for row in rows:
            values = np.frombuffer(row, np.uint8) if isinstance(row, bytes) else np.asarray(row, dtype=dtype)
            values = values.reshape(-1, *tail)
            lengths.append(len(values))
            stream.append(values)
        stream.finish()
        self.column(f"{name}/offsets", offsets_of(np.array(lengths, np.int64)))
        return len(lengths)

    def strings(self, name: str, texts: Sequence[str]) -> None:
        """A text column, one UTF-8 string a row."""
        content = ContentHash()
        dataset = self._create(name, shape=(len(texts),), dtype=h5py.string_dtype("utf-8"))
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            block = [str(text) for text in texts[start : start + _TEXTS_AT_ONCE]]
            _require_storable(name, block)
            content.texts(block)
            with _disk_errors(self._path, self._sink):
                dataset[start : start + len(block)] = np.array(block, dtype=object)
        if is_content(name):
            self._record(name, "text", (len(texts),), content)

    def json(self, name: str, value: Any) -> None:
        """A JSON text; NaN and infinities become null. Part of the digest: put timings into `note_json`."""
        self._single_text(name, json.dumps(plain_json(value), ensure_ascii=False, allow_nan=False))

    def attr(self, name: str, value: Any) -> None:
        """A root attribute that belongs to the content: str, number, bool, None or a flat list of these."""
        if name in RESERVED_ATTRIBUTES:
            raise ValueError(f"attribute {name!r} is set by the writer itself")
        value = _storable(value)
        with _disk_errors(self._path, self._sink):
            hdf5.store_attribute(self._file.attrs, name, value)
            # what a reader will see is what is hashed
            self._attributes[name] = hdf5.plain_attribute(self._file.attrs[name])

    def note_attr(self, name: str, value: Any) -> None:
        """An attribute that is not part of the content, such as the folder that the images were in."""
        value = _storable(value)

        with _disk_errors(self._path, self._sink):
            hdf5.store_attribute(self._file.require_group(NOTES).attrs, name, value)

    def note_json(self, name: str, value: Any) -> None:
        """A JSON text under `notes/` that is not part of the content: durations, dates, free remarks."""
        self.json(f"{NOTES}/{name}", value)

    def _single_text(self, name: str, text: str) -> None:
        _require_storable(name, [text])
        content = ContentHash()
        content.texts([text])
        data = text.encode("utf-8")
        self._create(name, data=np.array(data, dtype=fixed_text(len(data))), dtype=fixed_text(len(data)))
        if is_content(name):
            self._record(name, "text", (), content)

    def _create(self, name: str, **arguments: Any) -> h5py.Dataset:
        if not _SAFE_NAME.match(name):
            raise ValueError(f"dataset name {name!r} is not made of letters, digits, '_', '-' and inner '.'")
        with _disk_errors(self._path, self._sink):
            return self._file.create_dataset(name, **arguments)

    def _record(self, name: str, dtype: str, shape: tuple[int, ...], content: ContentHash) -> None:
        self._written[name] = _Written(dtype, tuple(shape), content.hexdigest())

    def _finish(self, kind: str, fingerprint: str, provenance: Mapping[str, Any]) -> None:
        """Check against the schema and write what is known only at the end."""
        findings = list(schema.problems(kind, self._written, self._attributes))
        if findings:
            raise ValueError(f"{schema.named(kind)} cannot be written like this: " + "; ".join(findings))
        version = schema.KINDS[kind]
        hashes = {name: (w.dtype, w.shape, w.sha256) for name, w in self._written.items()}
        self.digest = combine(kind, version, self._attributes, hashes)
        self._json_of_record(provenance)
        reserved = {
            "seqres_kind": kind,
            "schema_version": version,
            "content_digest": self.digest,
            "fingerprint": fingerprint,
            "created_by": f"seqres {stages.__version__}",
            "coordinates": schema.COORDINATES,
        }
        with _disk_errors(self._path, self._sink):
            for name, value in reserved.items():
                hdf5.store_attribute(self._file.attrs, name, value)

    def _json_of_record(self, provenance: Mapping[str, Any]) -> None:
        """What cannot be stored of the record never costs the result; a full disk does."""
        try:
            json.dumps(plain_json(provenance), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            told = {key: provenance.get(key) for key in ("stage", "stage_version", "seed")}
            provenance = {**told, "incomplete": f"{type(error).__name__}: {error}"}
        self.json(PROVENANCE, provenance)


class _Stream:
    """Collects rows into pieces of 2 MiB; one that never fills a piece is stored contiguously."""

    def __init__(self, writer: ArtifactWriter, name: str, dtype: np.dtype, tail: tuple[int, ...]) -> None:
        self._writer, self._name, self._dtype, self._tail = writer, name, dtype, tail
        row_bytes = dtype.itemsize * int(np.prod(tail, dtype=np.int64))
        self._rows = max(1, _STREAM_CHUNK_BYTES // max(1, row_bytes))
        self._buffer = np.empty((self._rows, *tail), dtype)
        self._filled = self._total = 0
        self._content = ContentHash()
        self._dataset: h5py.Dataset | None = None

    def append(self, array: np.ndarray) -> None:
        while len(array):
            n = min(len(array), self._rows - self._filled)
            self._buffer[self._filled : self._filled + n] = array[:n]
            self._filled += n
            array = array[n:]
            if self._filled == self._rows:
                self._flush()

    def finish(self) -> None:
        if self._dataset is None:
            self._writer.column(self._name, self._buffer[: self._filled], compress=False)
            return
        self._flush()
        self._writer._record(self._name, self._dtype.str, (self._total, *self._tail), self._content)

    def _flush(self) -> None:
        piece = self._buffer[: self._filled]
        self._content.numbers(piece)
        if self._dataset is None:
            self._dataset = self._writer._create(
                self._name,
                shape=(0, *self._tail),
                maxshape=(None, *self._tail),
                chunks=(self._rows, *self._tail),
                dtype=self._dtype,
            )
        with _disk_errors(self._writer._path, self._writer._sink):
            self._dataset.resize(self._total + len(piece), axis=0)
            self._dataset[self._total :] = piece
        self._total += len(piece)
        self._filled = 0


@contextlib.contextmanager
def write_artifact(
    path: Path | str, kind: str, *, fingerprint: str, provenance: Mapping[str, Any]
) -> Iterator[ArtifactWriter]:
    """Write an artifact of `kind` to `path` as a whole, or not at all.

    `provenance` is read when the block ends, so it may be filled in meanwhile. An exception inside
    the block (a kill as well) leaves whatever was at `path` before.

    Raises:
        ValueError: what was written does not fit the kind's schema.
        UsageError: something that is no regular file has the name.
        SeqresError: the disk is full, or the folder cannot be written.
    """
    if kind not in schema.KINDS:
        raise ValueError(f"unknown kind {kind!r}")
    require_file_target(Path(path))
    target = Path(os.path.realpath(path))
    with _temporary(target) as (descriptor, temporary):
        sink = Sink(descriptor)
        file: h5py.File | None = None
        try:
            with _disk_errors(target, sink):
                file = h5py.File(sink, "w", rdcc_nbytes=1 << 20)
            writer = ArtifactWriter(file, target, sink)
            yield writer
            writer._finish(kind, fingerprint, provenance)
            with _disk_errors(target, sink):
                file.close()
                file = None
                sink.raise_error()
                os.fsync(descriptor)
                replace_file(temporary, target)
        finally:
            if file is not None:
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    file.close()


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[tuple[int, Path]]:
    with contextlib.ExitStack() as stack:
        with _disk_errors(target):
            made = stack.enter_context(temporary_file(target))
        yield made


@contextlib.contextmanager
def _disk_errors(path: Path, sink: Sink | None = None) -> Iterator[None]:
    """What the system refused, in one line; `sink` holds what it refused behind HDF5's back."""
    try:
        try:
            yield
        finally:
            if sink is not None:
                sink.raise_error()
    except OSError as error:
        number = error.errno
        reason = os.strerror(number).lower() if number else str(error).splitlines()[0]
        raise SeqresError(
            f"cannot write {path}: {reason}",
            facts=["nothing was written; a file that was there before is unchanged"],
            hint=f"{'df -h' if number in (28, 122) else 'ls -ld'} {shlex.quote(str(path.parent))}",
        ) from error


def _numbers(name: str, array: np.ndarray | Sequence[Any]) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: a column of type {array.dtype} is not allowed; text goes through strings()")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _storable(value: Any) -> Any:
    """An attribute whose texts are UTF-8: a data set is named after its file."""
    if isinstance(value, list | tuple):
        return [_storable(v) for v in value]
    return storable(value) if isinstance(value, str) else value


def _require_storable(name: str, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            valid = b"\0" not in text.encode("utf-8")
        except UnicodeEncodeError:
            valid = False
        if not valid:
            raise SeqresError(f"{name} cannot hold the text {text[:60]!r}: it is no valid UTF-8 without NUL")
