"""Files that name referents: ref ids as text, JSON or CSV, and the release's lists of labelled instances."""

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact
from stages.data.annotation_list import ListRow, rows_of_list, whole_id
from stages.data.readers.records import open_text
from stages.data.release_sample import match_sample
from stages.errors import ArtifactError, first_of, listed
from stages.file_kinds import refuse_other_kinds
from stages.nearest import cannot_read
from stages.untrusted import shown

_SAME_PX = 1.0  # spreadsheets round
_SHOWN = 10


def listed_ref_ids(
    path: Path, split_name: str, data: Artifact, rows: NDArray[np.int64], candidates: NDArray[np.int64]
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
    if _is_rows(content):
        return _found_again(path, content, data, rows)
    return _ref_ids(path, content)


def _found_again(path: Path, listed: list[ListRow], data: Artifact, rows: NDArray[np.int64]) -> set[int]:
    """The ref ids of the rows of a list, which must have the picture and the box that the row says.

    Among several referents of one picture and box, one in `rows` (the split) with the same sentences is taken.

    Raises:
        ArtifactError: rows that fit no referent, or several; the first ones are listed.
    """
    files = [posixpath.normpath(name) for name in data.strings("images/file_name")]
    known = _Known(
        data["referents/ref_id"],
        [files[i] for i in data["referents/image_index"].tolist()],
        data["referents/box_xyxy"].astype(np.float64),
        data.strings("sentences/text"),
        data["referents/sentence_offsets"].tolist(),
        set(rows.tolist()),
    )
    found, problems = set(), []
    for row in listed:
        try:
            found.add(known.find(row))
        except LookupError as error:
            problems.append(f"{row.where}: {error}")
    if problems:
        raise ArtifactError(
            f"{len(problems)} of the {len(listed)} rows of {path} do not fit the dataset",
            facts=first_of(problems, _SHOWN),
            hint="use the list with the dataset that it was exported from, or delete these rows",
        )
    return found


class _Known:
    """The referents of a dataset, to be found by id, or by picture and box. LookupError says why one is not."""

    def __init__(
        self,
        ref_ids: NDArray[np.int64],
        files: list[str],
        boxes_xyxy: NDArray[np.float64],
        texts: list[str],
        offsets: list[int],
        in_split: set[int],
    ) -> None:
        self.ref_ids, self.files, self.boxes = ref_ids.tolist(), files, boxes_xyxy
        self.texts, self.offsets, self.in_split = texts, offsets, in_split
        self.row_of = {ref_id: row for row, ref_id in enumerate(self.ref_ids)}
        self.rows_in: dict[str, list[int]] = {}
        for row, name in enumerate(files):
            self.rows_in.setdefault(name, []).append(row)

    def find(self, row: ListRow) -> int:
        """The ref id that a row means."""
        at = None if row.ref_id is None else self.row_of.get(row.ref_id)
        if at is None:
            return int(self.ref_ids[self._by_place(row)])
        if row.image_file is not None and row.image_file != self.files[at]:
            raise LookupError(f"ref {row.ref_id} is in {self.files[at]}, the list says {row.image_file}")
        if row.box_xyxy is not None and not self._same_box(at, row):
            raise LookupError(
                f"ref {row.ref_id} has the box {_box_text(self.boxes[at])}, the list says {_box_text(row.box_xyxy)}"
            )
        return int(self.ref_ids[at])

    def _by_place(self, row: ListRow) -> int:
        name = f"ref {row.id_text}"
        if row.image_file is None or row.box_xyxy is None:
            raise LookupError(f"{name} is not in the dataset")
        if row.image_file not in self.rows_in:
            raise LookupError(f"{name} is not in the dataset, nor is its picture {row.image_file}")
        same = [at for at in self.rows_in[row.image_file] if self._same_box(at, row)]
        if not same:
            raise LookupError(
                f"{name} is not in the dataset, nor has {row.image_file} the box {_box_text(row.box_xyxy)}"
            )
        for fits in (self.in_split.__contains__, lambda at: self._said(at) == row.sentences):
            same = [at for at in same if fits(at)] or same
        if len(same) > 1:
            raise LookupError(
                f"{name} is not in the dataset, and {len(same)} objects of {row.image_file} have its box"
            )
        return same[0]

    def _said(self, at: int) -> frozenset[str]:
        return frozenset(self.texts[self.offsets[at] : self.offsets[at + 1]])

    def _same_box(self, at: int, row: ListRow) -> bool:
        return bool(np.abs(self.boxes[at] - np.array(row.box_xyxy)).max() <= _SAME_PX)


def _box_text(box_xyxy: Sequence[float] | NDArray[np.float64]) -> str:
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    return f"x {x1:g} y {y1:g} width {x2 - x1:g} height {y2 - y1:g}"


def _is_rows(content: Any) -> TypeGuard[list[ListRow]]:
    return isinstance(content, list) and bool(content) and isinstance(content[0], ListRow)


def _is_entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _listed(
    path: Path, wanted: set[int], ref_ids: NDArray[np.int64], candidates: NDArray[np.int64], split_name: str
) -> set[int]:
    """The wanted ref ids, all of them candidates."""
    if not wanted:
        raise ArtifactError(f"{path} lists no ref id")
    able, known = set(ref_ids[candidates].tolist()), set(ref_ids.tolist())
    wrong = {
        "not in the dataset": sorted(wanted - known),
        f"without a mask, or not in split {split_name!r}": sorted((wanted & known) - able),
    }
    facts = [f"{why}: {listed(ids, _SHOWN)}" for why, ids in wrong.items() if ids]
    if facts:
        raise ArtifactError(f"{path} lists {len(wanted - able)} ref ids that cannot be shown", facts=facts)
    return wanted


def _read_list(path: Path) -> Any:
    """The JSON content of the file, the rows of a table with a column `ref_id`, or the words of a text file (between them
    blanks, commas or lines; # starts a comment)."""
    try:
        with open_text(path) as stream:
            text = stream.read()
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeError as error:
        refuse_other_kinds(path)
        raise ArtifactError(f"{path} is not UTF-8 text", facts=[str(error)[:120]]) from error
    refuse_other_kinds(path, but="JSON")
    if text.lstrip()[:1] not in ("[", "{"):
        if (rows := rows_of_list(text, path)) is not None:
            return rows
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
        return {_whole(v) for v in values}
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} holds something that is no ref id", facts=[str(error)]) from error


def _whole(value: Any) -> int:
    number = whole_id(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number // 1:
        raise TypeError(f"{shown(value)} is no whole number")
    return int(number)
