"""The JSON document of predict, whole or in shards: its formats, its summary, its text. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.artifacts.json_forms import Count, Form, Number, Object
from stages.errors import ArtifactError, StaleOutputError
from stages.untrusted import parse_json, printable

FORMAT, FORMAT_VERSION = "seqres-predictions", 1
SHARD_FORMAT = "seqres-predictions-shard"
COORDINATES = "xy, pixels of the picture as stored (EXIF orientation ignored), origin = outer corner of the top-left pixel"
_SHOWN = 20  # answers that the summary lists
_SHOWN_LETTERS = 48
Row = Mapping[str, Any]


class RowForm(Form):
    """What the summary needs of an answer."""

    image: str
    phrase: str
    box_prompt: bool
    box_xyxy: Annotated[list[Number], Field(min_length=4, max_length=4)] | None
    area: Count | None
    confidence: Number


class PartForm(Form):
    number: str
    whole: str
    batch_size: Annotated[int, Field(ge=1, lt=2**53)]
    total: Count
    rows: list[Count]
    confidence: list[Annotated[float, Field(ge=-1e6, le=1e6)]]


class ShardForm(Form):
    """What `merge` needs of the document that `predict --shard` wrote."""

    format: Literal["seqres-predictions-shard"]
    version: Literal[1]
    fingerprint: str
    model: Object
    shard: PartForm
    provenance: Object
    summary: Object
    images: list[Object]
    predictions: list[RowForm]


def summary_of(
    rows: Sequence[Row], confidence: NDArray[np.float32], pictures: int, overlays: Path | str | None
) -> dict[str, Any]:
    """Numbers, and the first answers as a table; phrases come from anywhere, so they are made fit for a terminal.

    confidence: (N,), which `rows` have rounded.
    """

    def short(text: str) -> str:
        words = printable(text)
        return words if len(words) <= _SHOWN_LETTERS else words[: _SHOWN_LETTERS - 2] + " …"

    shown = [
        {
            "image": short(Path(row["image"]).name),
            "phrase": short(row["phrase"]),
            "box": None if row["box_xyxy"] is None else " ".join(f"{v:.0f}" for v in row["box_xyxy"]),
            "mask_pixels": row["area"],
            "confidence": row["confidence"],
        }
        for row in rows[:_SHOWN]
    ]
    boxes_only = all(row["area"] is None for row in rows)
    numbers = {
        "pictures": pictures,
        "phrases": len(rows),
        "box_prompts": sum(row["box_prompt"] for row in rows),
        "empty_masks": None if boxes_only else sum(row["area"] == 0 for row in rows),
        "confidence_mean": float(np.mean(confidence)) if len(confidence) else None,
        "overlays": None if overlays is None else str(overlays),
    }
    return {**numbers, "answers" if len(shown) == len(rows) else f"first_{_SHOWN}_answers": shown}


def document_text(document: Mapping[str, Any]) -> str:
    """JSON with one line an entry, and one a prediction: readable, and still small with long contours."""
    *head, (last, rows) = document.items()
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in head]
    body = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    return "{\n" + ",\n".join(lines) + f",\n{json.dumps(last)}: [\n{body}\n]\n}}\n"


def existing_document(out: Path, fingerprint: str, model_digest: str, force: bool) -> dict[str, Any] | None:
    """The document in `out` when it holds just these answers (with `force`: any document of ours), None without a file.

    Raises:
        StaleOutputError: `out` holds other answers and `force` is not set, or is somebody else's file.
    """
    if not out.exists():
        return None
    if out.stat().st_size == 0:
        if force:
            return None
        raise StaleOutputError(
            f"{out} exists and is empty",
            facts=["a file is not replaced unless that is asked for, not even one that mktemp made"],
            hint="replace it with --force, or choose another --out",
        )
    try:
        document = parse_json(out.read_bytes())
    except ValueError:
        document = None
    except OSError as error:
        raise ArtifactError(f"cannot read {out}: {(error.strerror or 'error').lower()}") from error
    if not isinstance(document, dict) or document.get("format") not in (FORMAT, SHARD_FORMAT):
        raise StaleOutputError(
            f"{out} exists and holds no predictions",
            facts=["it was not written by seqres predict, so it is left alone even with --force"],
            hint="choose another --out, or remove the file",
        )
    if force or (document.get("fingerprint") == fingerprint and isinstance(document.get("summary"), dict)):
        return document
    was = document.get("model")
    old_digest = str(was.get("digest")) if isinstance(was, dict) else "unknown"
    other = old_digest != model_digest
    raise StaleOutputError(
        f"{out} exists and was made from something else",
        facts=[f"model: {old_digest[:12]} -> {model_digest[:12]}"]
        if other
        else ["the same model, but other pictures, expressions, boxes or weights"],
        hint="make it again with --force, or choose another --out",
    )
