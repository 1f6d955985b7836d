"""The list of referents that a person takes to an annotation tool: CSV with one row a referent, in the order of choice.

    ref_id, ann_id, image_id         as in the source of the dataset
    image_file                       relative to the folder of the pictures
    box_x_px, box_y_px, box_width_px, box_height_px    x and y of the top-left corner, pixels of the original image
    category, has_mask (yes or no), sentences (all of them, joined by " | ")

Read back, a row is found by its id, and must have the picture and the box of that referent; a row whose id is unknown
is found by picture and box. Columns that are missing are not asked. Rows may be deleted or sorted and columns added.
"""

import csv
import io
import math
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact
from stages.artifacts.target import require_file_target, require_writable
from stages.artifacts.whole_file import write_whole
from stages.errors import ArtifactError, StaleOutputError
from stages.nearest import cannot_read

ID_COLUMN = "ref_id"
BOX_COLUMNS = ("box_x_px", "box_y_px", "box_width_px", "box_height_px")
COLUMNS = (
    ID_COLUMN, "ann_id", "image_id", "image_file", *BOX_COLUMNS,
    "category", "has_mask", "sentences",
)  # fmt: skip
BETWEEN_SENTENCES = " | "
_DELIMITERS = ",;\t"


def list_text(dataset: Artifact, referents: NDArray[np.integer]) -> str:
    """The list of the given rows of a dataset, in their order. Masks are not read."""
    images = dataset["referents/image_index"][referents]
    files, categories = dataset.strings("images/file_name"), dataset.strings("categories/name")
    texts, offsets = dataset.strings("sentences/text"), dataset["referents/sentence_offsets"].tolist()
    boxes_xywh = dataset["referents/box_xyxy"][referents].astype(np.float64)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    columns = zip(
        dataset["referents/ref_id"][referents].tolist(),
        dataset["referents/ann_id"][referents].tolist(),
        dataset["images/id"][images].tolist(),
        [files[i] for i in images.tolist()],
        *([_number(v) for v in column] for column in boxes_xywh.T.tolist()),
        [categories[c] if c >= 0 else "" for c in dataset["referents/category_index"][referents].tolist()],
        ["yes" if m else "no" for m in dataset["referents/has_mask"][referents].tolist()],
        [BETWEEN_SENTENCES.join(texts[offsets[r] : offsets[r + 1]]) for r in np.asarray(referents).tolist()],
        strict=True,
    )
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(columns)
    return stream.getvalue()


@dataclass(frozen=True)
class ListRow:
    """One row of a list that comes back; what a cell does not say is None (or no sentence)."""

    where: str  # "line 12"
    ref_id: int | None
    id_text: str
    image_file: str | None
    box_xyxy: tuple[float, float, float, float] | None
    sentences: frozenset[str]


def rows_of_list(text: str, where: Path) -> list[ListRow] | None:
    """The rows of a CSV text (separated by comma, semicolon or tab) with a column `ref_id`; None when it has none.

    Raises:
        ArtifactError: a row that says neither an id nor a picture and a box, or a cell that the CSV reader cannot take.
    """
    lines = text.splitlines(keepends=True)
    before = 1 if lines and lines[0].lower().startswith("sep=") else 0  # a line for Excel
    head, text = "".join(lines[before : before + 1]), "".join(lines[before:])
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"') for name in head.split(delimiter)]
        if ID_COLUMN in names:
            break
    else:
        return None
    rows, begin = [], before + 1
    try:
        for cells in (reader := csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)):
            if begin > before + 1 and any(cell.strip() for cell in cells):
                row = _row(f"line {begin}", dict(zip(names, cells, strict=False)))
                if row.ref_id is None and (row.image_file is None or row.box_xyxy is None):
                    wrong = f": {row.id_text!r}" if row.id_text else ""
                    raise ArtifactError(f"{where}, line {begin}: no {ID_COLUMN}{wrong}")
                rows.append(row)
            begin = before + reader.line_num + 1
    except csv.Error as error:
        raise ArtifactError(
            f"{where} is no CSV file that can be read", facts=[f"line {begin}: {error}"]
        ) from error
    return rows


def _row(where: str, cells: Mapping[str, str]) -> ListRow:
    corner_and_size = [_decimal(cells.get(column, "")) for column in BOX_COLUMNS]
    box = None
    if None not in corner_and_size:
        x, y, w, h = (v for v in corner_and_size if v is not None)
        box = (x, y, x + w, y + h)
    said = cells.get("sentences", "").split(BETWEEN_SENTENCES)
    image = cells.get("image_file", "").strip().replace("\\", "/")
    return ListRow(
        where,
        whole_id(cells.get(ID_COLUMN, "")),
        cells.get(ID_COLUMN, "").strip(),
        posixpath.normpath(image) if image else None,
        box,
        frozenset(text.strip() for text in said if text.strip()),
    )


def whole_id(value: str) -> int | None:
    """An id as text, perhaps with a point that says nothing (48.0); None for anything else."""
    match = re.fullmatch(r"\s*([+-]?\d+)([.,]0*)?\s*", value)
    return int(match[1]) if match else None


def _decimal(cell: str) -> float | None:
    """A number as a spreadsheet of any language writes it, None for anything else. It is only compared."""
    try:
        number = float(cell.strip().replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def check_list(path: Path, text: str | None, *, force: bool) -> bool:
    """Whether the list is still to be written; `text` is None where its content is not known yet.

    Raises:
        UsageError: `path` is no place for a file.
        StaleOutputError: a file with other content is there, perhaps with somebody's work in it, and not `force`.
    """
    require_file_target(path, "--export-list", "todo.csv")
    try:
        present = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise cannot_read(path, error) from error
    if text is not None and present == text.encode("utf-8"):
        return False
    if present is not None and not force:
        raise StaleOutputError(
            f"{path} exists and {'holds another list' if present else 'is empty'}",
            hint="replace it with --force, or choose another --export-list",
        )
    require_writable(path)
    return True


def write_list(
    path: Path, dataset: Artifact, rank: NDArray[np.integer], count: int, *, force: bool
) -> None:  # fmt: skip
    """Write the referents of the first `count` ranks, best first; nothing is done where the file holds just them.

    rank: (R,) of all referents, -1 = not to be listed.

    Raises:
        StaleOutputError: a file with other content is there, and not `force`.
    """
    order = np.argsort(np.where(rank < 0, len(rank), rank), kind="stable")
    text = list_text(dataset, order[:count])
    if check_list(path, text, force=force):
        write_whole(path, text.encode("utf-8"))


def _number(value: float) -> str:
    """At most three decimals, none that say nothing: 12, 0.5."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
