"""The list of referents that a person takes to an annotation tool: CSV with one row a referent, in the order of choice.

    ref_id, ann_id, image_id         as in the source of the dataset
    image_file                       relative to the folder of the pictures
    box_x_px, box_y_px, box_width_px, box_height_px    x and y of the top-left corner, pixels of the original image
    category, has_mask (yes or no), sentences (all of them, joined by " | ")

Read back, only the column `ref_id` counts: rows may be deleted or sorted and columns added on the way.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact
from stages.errors import ArtifactError, StaleOutputError

ID_COLUMN = "ref_id"
COLUMNS = (
    ID_COLUMN, "ann_id", "image_id", "image_file", "box_x_px", "box_y_px", "box_width_px", "box_height_px",
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


def ids_of_list(text: str, where: Path) -> list[str] | None:
    """The cells of the column `ref_id` of a CSV text (separated by comma, semicolon or tab); None when it has none.

    Raises:
        ArtifactError: a row without a ref id, or a cell that the CSV reader cannot take.
    """
    head, *_ = text.split("\n", 1)
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"') for name in head.split(delimiter)]
        if ID_COLUMN in names:
            break
    else:
        return None
    at, ids = names.index(ID_COLUMN), []
    try:
        for row in (reader := csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)):
            if reader.line_num == 1 or not any(cell.strip() for cell in row):
                continue
            if len(row) <= at or not row[at].strip():
                raise ArtifactError(f"{where}, line {reader.line_num}: no {ID_COLUMN}")
            ids.append(row[at].strip())
    except csv.Error as error:
        raise ArtifactError(f"{where} is no CSV file that can be read", facts=[str(error)]) from error
    return ids


def check_list(path: Path, text: str | None, *, force: bool) -> bool:
    """Whether the list is still to be written; `text` is None where its content is not known yet.

    Raises:
        StaleOutputError: a file with other content is there, perhaps with somebody's work in it, and not `force`.
    """
    try:
        present = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from error
    if text is not None and present == text.encode("utf-8"):
        return False
    if present is not None and not force:
        raise StaleOutputError(
            f"{path} exists and holds another list",
            hint="replace it with --force, or choose another --export-list",
        )
    return True


def _number(value: float) -> str:
    """At most three decimals, none that say nothing: 12, 0.5."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
