"""Reading a whole artifact to tell everything that is wrong with it (`seqres verify`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from stages.artifacts import hdf5, schema
from stages.artifacts.digest import ContentHash, combine, is_content
from stages.artifacts.hdf5 import read_text
from stages.artifacts.ragged import offsets_problem
from stages.artifacts.reader import Artifact, open_artifact
from stages.errors import ArtifactError

_BLOCK_BYTES = 8 << 20


def verify_artifact(path: Path | str) -> list[str]:
    """Everything that is wrong with one artifact, in words; empty when it is sound.

    Checked: structure by schema, offsets (start, rise, end), values that point into a table of the
    same file, box order, JSON texts, and the content digest, for which all data are read.

    Raises:
        ArtifactError: the file is missing, no artifact, or too damaged to be opened.
    """
    path = Path(path)
    with open_artifact(path, check=False) as artifact:
        findings = list(schema.problems(artifact.kind, artifact.entries, artifact.semantic_attrs))
        # what a column holds is only asked where the columns are those of the schema
        sound = (_offsets, _values, _boxes, _referent_order) if not findings else ()
        for check in (*sound, _json_texts):
            findings += _run(check(artifact))
        findings += _run(_digest(artifact))
    return findings


def _run(check: Iterator[str]) -> list[str]:
    found: list[str] = []
    try:
        for finding in check:
            found.append(finding)
    except ArtifactError as error:
        found.append("; ".join([error.message, *error.facts]))
    return found


def _offsets(artifact: Artifact) -> Iterator[str]:
    for path, n_values in schema.offset_columns(artifact.kind, artifact.entries):
        problem = offsets_problem(artifact[path], n_values)
        if problem:
            yield f"{path}: {problem}"


def _values(artifact: Artifact) -> Iterator[str]:
    for path, column in schema.SCHEMAS[artifact.kind].columns.items():
        if not isinstance(column, schema.Column) or column.type != "int" or path not in artifact.entries:
            continue
        if (problem := schema.value_problem(artifact, path, artifact.as_stored(path))) is not None:
            yield problem


def _boxes(artifact: Artifact) -> Iterator[str]:
    for path, entry in artifact.entries.items():
        if not path.endswith("box_xyxy") or len(entry.shape) != 2 or entry.shape[1] != 4:
            continue
        boxes = artifact[path]
        bad_rows = np.isinf(boxes).any(axis=1)
        if "predicted" not in path:  # with release semantics a model's corners stay as it wrote them
            bad_rows |= (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
        bad = np.flatnonzero(bad_rows)
        if len(bad):
            yield f"{path}: row {bad[0]} is {boxes[bad[0]].tolist()}, not x1 y1 x2 y2 ({len(bad)} rows)"


def _json_texts(artifact: Artifact) -> Iterator[str]:
    for path, entry in artifact.entries.items():
        if entry.is_text and entry.shape == ():
            try:
                artifact.json(path)
            except ArtifactError as error:
                yield f"{path}: {'; '.join(error.facts)}"


def _referent_order(artifact: Artifact) -> Iterator[str]:
    """A dataset's two ways to say whose sentence it is must agree."""
    if artifact.kind != "dataset" or "sentences/referent_index" not in artifact:
        return
    owners, offsets = (
        artifact.as_stored(name) for name in ("sentences/referent_index", "referents/sentence_offsets")
    )
    if offsets_problem(offsets, len(owners)) is None:
        expected = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        bad = np.flatnonzero(owners != expected)
        if len(bad):
            i = bad[0]
            yield f"sentences/referent_index: row {i} is {owners[i]}, the offsets say {expected[i]}"


def _digest(artifact: Artifact) -> Iterator[str]:
    actual = recompute_digest(artifact.path)
    if actual != artifact.digest:
        yield f"content digest is {actual[:12]}…, the file says {artifact.digest[:12]}…: data were changed"


def recompute_digest(path: Path | str) -> str:
    """Read a whole artifact in bounded memory and return the digest of its content.

    Raises:
        ArtifactError: the file is missing, no artifact, or damaged.
    """
    path = Path(path)
    with open_artifact(path, check=False) as artifact, hdf5.damage_as_error(path):
        hashes = {}
        for name, entry in artifact.entries.items():
            if not is_content(name):
                continue
            hashes[name] = (
                entry.dtype,
                entry.shape,
                _hash_dataset(artifact.dataset(name), entry.is_text, path),
            )
        return combine(artifact.kind, artifact.schema_version, artifact.semantic_attrs, hashes)


def _hash_dataset(dataset: h5py.Dataset, is_text: bool, path: Path) -> str:
    content = ContentHash()
    if is_text:
        content.texts(read_text(dataset, path))
    elif dataset.shape == () or dataset.size == 0:
        content.numbers(np.asarray(dataset[()]))
    else:
        row_bytes = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64)))
        step = max(1, _BLOCK_BYTES // row_bytes)
        if dataset.chunks:  # whole chunks only, so that none is unpacked twice
            step = max(1, step // dataset.chunks[0]) * dataset.chunks[0]
        for start in range(0, dataset.shape[0], step):
            content.numbers(dataset[start : start + step])
    return content.hexdigest()
