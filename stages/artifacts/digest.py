"""The content digest: sha256 over what an artifact *says*, not over how HDF5 stores it.

digest = sha256(header line, then one line a dataset in sorted order), each line canonical JSON:
    header   ["seqres-digest-1", kind, schema version, {semantic attribute: value}]
    dataset  [path, dtype, shape, sha256 of the bytes]
The bytes of a number column are its little-endian values in C order; of a text column, for each
string, its length as 8 little-endian bytes and its UTF-8. Chunking, compression, `provenance` and
`notes` are left out. The writer hashes while it writes; `verify.recompute_digest` reads everything again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.untrusted import require_regular

RESERVED_ATTRIBUTES = frozenset(
    {"seqres_kind", "schema_version", "content_digest", "fingerprint", "created_by", "coordinates"}
)
PROVENANCE = "provenance"
NOTES = "notes"


class ContentHash:
    """sha256 of one dataset's bytes, fed piece by piece."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def numbers(self, array: np.ndarray) -> None:
        """Feed an array; its bytes are taken little-endian and in C order."""
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        if little.size:
            self._hash.update(little.reshape(-1).view(np.uint8).data)

    def texts(self, texts: Iterable[str]) -> None:
        for text in texts:
            data = text.encode("utf-8")
            self._hash.update(len(data).to_bytes(8, "little"))
            self._hash.update(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def is_content(path: str) -> bool:
    """Whether a dataset counts for the digest."""
    return path != PROVENANCE and not path.startswith(f"{NOTES}/")


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def combine(
    kind: str,
    schema_version: int,
    attributes: Mapping[str, Any],
    hashes: Mapping[str, tuple[str, tuple[int, ...], str]],
) -> str:
    """The digest from the parts; `hashes` is path -> (dtype, shape, sha256 of the bytes)."""
    lines = [canonical_json(["seqres-digest-1", kind, schema_version, dict(attributes)])]
    for path in sorted(hashes):
        dtype, shape, digest = hashes[path]
        lines.append(canonical_json([path, dtype, list(shape), digest]))
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file; of a folder, over the relative names and contents of all files in it, sorted.

    Raises:
        ArtifactError: it is a pipe or a device, which would be waited for, or read for ever.
        OSError: it cannot be read.
    """
    if not path.is_dir():
        require_regular(path)
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    whole = hashlib.sha256()
    for item in sorted(p for p in path.rglob("*") if p.is_file()):
        whole.update(canonical_json([item.relative_to(path).as_posix(), file_sha256(item)]).encode("utf-8"))
    return whole.hexdigest()
