"""Files that name referents: ref ids as text, JSON or CSV, and the release's lists of labelled instances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact
from stages.data.annotation_list import ids_of_list
from stages.data.release_sample import match_sample
from stages.errors import ArtifactError

_SHOWN = 10


def listed_ref_ids(
    path: Path,
    split_name: str,
    data: Artifact,
    rows: NDArray[np.int64],
    candidates: NDArray[np.int64],
) -> set[int]:
    """The ref ids that the file names, all of them candidates.

    Args:
        rows, candidates: referents of the split, and those of them that can be chosen.

    Raises:
        ArtifactError: the file cannot be read, lists nothing, or something that is no candidate.
    """
    ref_ids = data["referents/ref_id"]
    return _listed(path, _wanted(path, split_name, data, rows), ref_ids, candidates, split_name)


def _wanted(path: Path, split_name: str, data: Artifact, rows: NDArray[np.int64]) -> set[int]:
    """The ref ids that the file names; of a list of the release, those of the referents (`rows`) that it means."""
    content = _read_list(path)
    entries = content.get(split_name) if isinstance(content, dict) else None
    if isinstance(content, dict) and "ref_ids" not in content and any(map(_is_entries, content.values())):
        if not _is_entries(entries):
            raise ArtifactError(
                f"{path} lists no entries under {split_name!r}",
                facts=[f"it has: {', '.join(map(str, content))[:200]}"],
            )
        texts, offsets = data.strings("sentences/text"), data["referents/sentence_offsets"].tolist()
        matched = match_sample(
            entries or [],
            where=split_name,
            rows=rows,
            image_ids=data["images/id"][data["referents/image_index"][rows]],
            boxes_xyxy=data["referents/box_xyxy"][rows],
            texts=[texts[offsets[r] : offsets[r + 1]] for r in rows.tolist()],
        )
        return set(data["referents/ref_id"][matched].tolist())
    return _ref_ids(path, content)


def _is_entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _listed(
    path: Path,
    listed: set[int],
    ref_ids: NDArray[np.int64],
    candidates: NDArray[np.int64],
    split_name: str,
) -> set[int]:
    """The wanted ref ids, all of them candidates."""
    if not listed:
        raise ArtifactError(f"{path} lists no ref id")
    able, known = set(ref_ids[candidates].tolist()), set(ref_ids.tolist())
    facts = []
    for wrong, why in (
        (sorted(listed - known), "not in the dataset"),
        (sorted((listed & known) - able), f"without a mask, or not in split {split_name!r}"),
    ):
        if wrong:
            shown = ", ".join(map(str, wrong[:_SHOWN]))
            facts.append(
                f"{why}: {shown}" + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
            )
    if facts:
        raise ArtifactError(f"{path} lists {len(listed - able)} ref ids that cannot be shown", facts=facts)
    return listed


def read_ref_ids(path: Path) -> set[int]:
    """Ref ids from a text file (separated by space, comma or line; # starts a comment), a JSON list, or the column
    `ref_id` of a CSV file such as `--export-list` writes.

    Raises:
        ArtifactError: the file cannot be read or holds anything but whole numbers.
    """
    return _ref_ids(path, _read_list(path))


def _read_list(path: Path) -> Any:
    """The JSON content of the file, the ref ids of a table, or the words of a text file."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"cannot read {path}: {error}") from error
    if text.lstrip()[:1] not in ("[", "{"):
        if (ids := ids_of_list(text, path)) is not None:
            return ids
        return " ".join(line.split("#")[0] for line in text.splitlines()).replace(",", " ").split()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is no valid JSON", facts=[str(error)[:120]]) from error


def _ref_ids(path: Path, content: Any) -> set[int]:
    values = content.get("ref_ids") if isinstance(content, dict) else content
    if not isinstance(values, list):
        raise ArtifactError(
            f"{path} holds no list of ref ids", hint='write [12, 17] or {"ref_ids": [12, 17]}'
        )
    try:
        return {int(v) if isinstance(v, str) else _whole(v) for v in values}
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} holds something that is no ref id", facts=[str(error)]) from error


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value
