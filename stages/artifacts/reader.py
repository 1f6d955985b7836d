"""Opening an artifact: cheap checks in a fixed order, then lazy reads that are safe in worker processes."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stages.artifacts import hdf5, schema
from stages.artifacts.digest import NOTES, PROVENANCE, RESERVED_ATTRIBUTES
from stages.artifacts.hdf5 import SIGNATURE, Entry
from stages.artifacts.ragged import Ragged, offsets_problem
from stages.errors import ArtifactError
from stages.file_kinds import what_it_is
from stages.nearest import file_hint
from stages.untrusted import parse_json, require_regular, shown

_GAP_ROWS = 256  # rows read and thrown away rather than starting another read


class Artifact:
    """A read-only view of one artifact. Nothing is read before it is asked for.

    Pickling drops the file handle, and a forked worker opens its own, so a view can be handed to any
    process. When the file was replaced in between, the next read raises ArtifactError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        # of `_file`; opening one takes longer than reading a picture
        self._opened: dict[str, h5py.Dataset] = {}
        self._pid = os.getpid()
        self._read_head()

    def _read_head(self) -> None:
        file = hdf5.open_file(self.path)
        self._file = file
        root = hdf5.attributes(file, self.path)
        self._reserved = {name: root.pop(name, None) for name in RESERVED_ATTRIBUTES}
        self.semantic_attrs: dict[str, Any] = root
        self.notes: dict[str, Any] = {}
        with hdf5.damage_as_error(self.path, "reading its notes"):
            if isinstance(file.get(NOTES, getlink=True), hdf5.h5py.HardLink):
                self.notes = hdf5.attributes(file[NOTES], self.path)
        self.kind = str(self._reserved["seqres_kind"])
        version = self._reserved["schema_version"]
        self.schema_version = version if isinstance(version, int) else 0
        self.digest = str(self._reserved["content_digest"])
        self.fingerprint = str(self._reserved["fingerprint"])
        self.created_by = str(self._reserved["created_by"])
        self._entries: dict[str, Entry] | None = None

    @property
    def attrs(self) -> dict[str, Any]:
        """Semantic attributes and notes (image_root …) together, as Python values."""
        return {**self.semantic_attrs, **self.notes}

    @property
    def entries(self) -> dict[str, Entry]:
        """Every dataset: path -> Entry(dtype, shape, stored bytes), sorted; the first call walks the tree."""
        if self._entries is None:
            self._entries = hdf5.entries(self._handle(), self.path)
        return self._entries

    @property
    def provenance(self) -> dict[str, Any]:
        """How, from what and when the file was made, as far as it can be told; see provenance.py."""
        from stages.artifacts import json_forms

        return json_forms.tidy_record(self._parsed(PROVENANCE)) if PROVENANCE in self.entries else {}

    def __contains__(self, name: str) -> bool:
        return name in self.entries or f"{name}/values" in self.entries

    def names(self, prefix: str = "") -> list[str]:
        """Paths of all datasets that start with `prefix`, sorted."""
        return [name for name in self.entries if name.startswith(prefix)]

    def dataset(self, name: str) -> h5py.Dataset:
        """The h5py dataset itself, valid as long as this view is open in this process."""
        if name not in self.entries:
            raise ArtifactError(f"{self.path} has no {name}", hint=f"seqres inspect {self.path}")
        file = self._handle()
        if name not in self._opened:
            with hdf5.damage_as_error(self.path, f"opening {name}"):
                self._opened[name] = file[name]
        return self._opened[name]

    def __getitem__(self, name: str) -> np.ndarray:
        """A whole number column in memory."""
        values = self._numbers(name, slice(None))
        n = schema.owned_by(self.kind, name, self.entries)
        problem = None if n is None else offsets_problem(values, n)
        if problem is not None:
            raise self._damaged(f"{name}: {problem}")
        return values

    def rows(self, name: str, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Only these rows of a number column: a slice, a bool mask or indices in any order."""
        if isinstance(rows, slice):
            return self._numbers(name, rows)
        index = np.asarray(rows)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        n = self.dataset(name).shape[0]
        if index.size and (index.min() < -n or index.max() >= n):
            raise IndexError(
                f"row {index.max() if index.max() >= n else index.min()} of {name}, which has {n}"
            )
        wanted, back = np.unique(index.astype(np.int64) % max(n, 1), return_inverse=True)
        if not len(wanted):
            return self._numbers(name, slice(0, 0))
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > _GAP_ROWS) + 1)
        parts = [self._numbers(name, slice(run[0], run[-1] + 1))[run - run[0]] for run in runs]
        return np.concatenate(parts)[back]

    def referent_sizes_hw(self) -> np.ndarray:
        """Of a dataset: (R, 2) int64, height and width of each referent's picture."""
        sizes = np.stack([self["images/height"], self["images/width"]], axis=1)
        return np.asarray(sizes[self["referents/image_index"]], np.int64)

    def ragged(self, name: str) -> Ragged:
        """Rows of different lengths; only the offsets are read now."""
        offsets = self[f"{name}/offsets"].astype(np.int64, copy=False)
        problem = offsets_problem(offsets, self.dataset(f"{name}/values").shape[0])
        if problem:
            raise self._damaged(f"{name}: {problem}")
        return Ragged(offsets, functools.partial(self._span, f"{name}/values"), name)

    def strings(self, name: str) -> list[str]:
        dataset = self.dataset(name)
        if not self.entries[name].is_text:
            raise ArtifactError(f"{name} of {self.path} holds numbers, not text")
        with hdf5.damage_as_error(self.path, f"reading {name}"):
            return hdf5.read_text(dataset, self.path)

    def json(self, name: str) -> Any:
        """A JSON text as plain Python values, of the form that its readers rely on (json_forms.py)."""
        from stages.artifacts import json_forms

        value = self._parsed(name)
        if (problem := json_forms.problem(self.kind, name, value)) is not None:
            raise self._damaged(problem)
        return value

    def _parsed(self, name: str) -> Any:
        try:
            return parse_json(self.strings(name)[0])
        except (ValueError, IndexError) as error:
            raise self._damaged(f"{name} is no valid JSON: {error}") from error

    def note_json(self, name: str) -> Any:
        """What `note_json` of the writer stored, None when there is no such note."""
        return self.json(f"{NOTES}/{name}") if f"{NOTES}/{name}" in self.entries else None

    def whole_attr(self, name: str, default: int, *, low: int = 0, high: int = 2**53) -> int:
        """A whole number among the attributes, `default` where it is absent or none at all."""
        value = self.attrs.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._damaged(f"attribute {name} is {shown(value)}, expected a whole number from {low} on")
        return value

    def require_rows_of(self, dataset: Artifact) -> None:
        """ArtifactError unless every column that names rows of this dataset stays within it."""
        for name, n_rows in schema.rows_elsewhere(self.kind, dataset.entries):
            if name not in self.entries:
                continue
            values = self[name]
            if values.size and int(values.max()) >= n_rows:
                what = (
                    "referent" if name.endswith("referent_index") or name.startswith("held") else "expression"
                )
                raise ArtifactError(
                    f"{self.path} names {what} {int(values.max())}, the dataset has {n_rows}",
                    facts=[f"{name} must be rows of {dataset.path}"],
                    hint=f"seqres verify {self.path}",
                )
        for letter, n_rows in schema.shared_sizes(self.kind, dataset.entries):
            n = schema.dimension_size(self.kind, self.entries, letter)
            if n is not None and n != n_rows:
                raise self._damaged(f"{n} rows, but {dataset.path} has {n_rows}")

    def close(self) -> None:
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._file, self._opened = None, {}

    def __enter__(self) -> Artifact:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_opened": {}}

    def __repr__(self) -> str:
        return f"Artifact({str(self.path)!r}, kind={self.kind!r}, digest={self.digest[:12]})"

    def _span(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._numbers(name, slice(start, stop))

    def _numbers(self, name: str, rows: slice) -> np.ndarray:
        values = self.as_stored(name, rows)
        if (problem := schema.value_problem(self, name, values, rows.start or 0)) is not None:
            raise self._damaged(problem)
        return values

    def as_stored(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """A number column whose values are not held against the schema: for `verify`."""
        dataset = self.dataset(name)
        if self.entries[name].is_text:
            raise ArtifactError(f"{name} of {self.path} holds text, not numbers")
        with hdf5.damage_as_error(self.path, f"reading {name}"):
            return np.asarray(dataset[()] if dataset.shape == () else dataset[rows])

    def _handle(self) -> h5py.File:
        """The open file of this process; after a fork or unpickling a new one on the same content."""
        if self._file is not None and self._pid == os.getpid():
            return self._file
        if not self.path.exists():
            raise ArtifactError(f"{self.path} was removed while it was in use")
        file = hdf5.open_file(self.path)
        if hdf5.attributes(file, self.path).get("content_digest") != self.digest:
            file.close()
            raise ArtifactError(f"{self.path} was replaced while it was in use", hint="run the command again")
        self._file, self._pid, self._opened = file, os.getpid(), {}
        return file

    def _damaged(self, fact: str) -> ArtifactError:
        return ArtifactError(f"{self.path} is damaged", facts=[fact], hint=f"seqres verify {self.path}")


def open_artifact(
    path: Path | str, kind: str | Sequence[str] | None = None, *, check: bool = True
) -> Artifact:
    """Open an artifact for reading, after checks that read no columns.

    Checked in this order, each with its own message: the file exists, is HDF5, was written by seqres,
    is of the wanted kind, has a schema version this program knows, has the required paths, types and
    lengths, and its offsets begin at 0 and end at the number of values. `check=False` stops after
    the version.

    Raises:
        ArtifactError: the first of these that fails (all differences from the schema as facts).
    """
    path = Path(path)
    wanted = (kind,) if isinstance(kind, str) else tuple(kind or ())
    _require_hdf5(path, wanted)
    artifact = Artifact(path)
    try:
        _require_kind(artifact, wanted)
        _require_version(artifact)
        if check:
            findings = list(schema.problems(artifact.kind, artifact.entries, artifact.semantic_attrs))
            findings = findings or _offset_ends(artifact)
            if findings:
                raise ArtifactError(
                    f"{path} does not hold what {schema.named(artifact.kind)} must",
                    facts=findings[:20],
                    hint=f"seqres verify {path}",
                )
    except BaseException:
        artifact.close()
        raise
    return artifact


def _require_hdf5(path: Path, wanted: tuple[str, ...]) -> None:
    try:
        if path.is_dir():
            raise ArtifactError(f"{path} is a folder, not an artifact", hint="give the .h5 file itself")
        require_regular(path, what="artifact")
        with open(path, "rb") as stream:
            head = stream.read(4096)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"no such file: {path}", hint=file_hint(path) or _make_hint(wanted, path)
        ) from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    if head[: len(SIGNATURE)] != SIGNATURE:
        kind = what_it_is(head)
        what = "is empty" if not head else f"is {kind}" if kind else "is not an HDF5 file"
        raise ArtifactError(f"{path} {what}", hint=_make_hint(wanted, path))


def _require_kind(artifact: Artifact, wanted: tuple[str, ...]) -> None:
    path, kind = artifact.path, artifact.kind
    if artifact._reserved["seqres_kind"] is None:
        raise ArtifactError(
            f"{path} is an HDF5 file, but not one written by seqres", hint=_make_hint(wanted, path)
        )
    if wanted and kind not in wanted:
        a_part = kind == "pseudo_shard" and "pseudo_points" in wanted
        raise ArtifactError(
            f"{path} is {schema.named(kind)}, expected {' or '.join(wanted)}",
            hint="join it with the other shards: seqres merge … --out FILE.h5"
            if a_part
            else _make_hint(wanted, None),
        )
    if kind not in schema.KINDS:
        raise ArtifactError(
            f"{path} is of the unknown kind {shown(kind)}",
            facts=[f"written by {artifact.created_by}"],
            hint="update seqres: the file may come from a newer release",
        )


def _require_version(artifact: Artifact) -> None:
    version, newest = artifact._reserved["schema_version"], schema.KINDS[artifact.kind]
    if not isinstance(version, int) or version < 1:
        raise ArtifactError(
            f"{artifact.path} has the schema version {shown(version)}", hint="make the file again"
        )
    if version > newest:
        raise ArtifactError(
            f"{artifact.path} has {artifact.kind} schema version {version}; this seqres reads up to {newest}",
            facts=[f"written by {artifact.created_by}"],
            hint="update seqres, or make the file again with this release",
        )


def _offset_ends(artifact: Artifact) -> list[str]:
    """The first and last entry of every offsets column: two reads each, whatever the size."""
    findings = []
    for path, n_values in schema.offset_columns(artifact.kind, artifact.entries):
        n = artifact.entries[path].shape[0]
        first, last = (
            (int(artifact.rows(path, slice(i, i + 1))[0]) for i in (0, n - 1)) if n else (0, n_values)
        )
        if first != 0:
            findings.append(f"{path} starts at {first}, not 0")
        if last != n_values:
            findings.append(f"{path} ends at {last}, but there are {n_values} values")
    return findings


def _make_hint(wanted: tuple[str, ...], path: Path | None) -> str:
    if not wanted:
        return "give the path of an artifact that seqres wrote"
    producers = " or ".join(f"seqres {schema.PRODUCERS[k]}" for k in wanted if k in schema.PRODUCERS)
    target = f" --out {path}" if path and producers.count("seqres") == 1 else ""
    return f"make it with: {producers}{target}" if producers else f"give a {' or '.join(wanted)} artifact"
