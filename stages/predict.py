"""predict: a model answers phrases about photographs of one's own with masks.

In: a rec_model or res_model artifact, and pictures with phrases (given one by one, or as a table), perhaps with a known
box. Out: one JSON document with box, contour and COCO mask of every phrase, and pictures if wanted. It exists so that
a model can be used where there is no data set: nothing but the model and the pictures is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.artifacts import RunOptions, StageJob, StageResult
from stages.artifacts.target import require_file_target, require_folder_target, require_writable
from stages.artifacts.whole_file import write_whole
from stages.config import check_ranges, in_panel, option
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.data.photographs import Photographs, Request
    from stages.inference.photograph_answers import Answers

STAGE = "predict"
STAGE_VERSION = 2
FORMAT, FORMAT_VERSION = "seqres-predictions", 1
COORDINATES = "xy, pixels of the picture as stored (EXIF orientation ignored), origin = outer corner of the top-left pixel"
_SHOWN = 20  # answers that the summary lists
_SHOWN_LETTERS = 48
_SHOWN_OF_NOTICE = 3
_running = in_panel("Run")


@dataclass(frozen=True)
class Config:
    """How the answers are made."""

    weights: Literal["best", "ema", "raw"] = option("best", "weights of the model to use")
    precision: Literal["fp32", "bf16"] = _running(
        "fp32", "bf16 is faster on a GPU and predicts other tokens", added=True
    )
    contour: Literal["decoder", "auxiliary"] = option(
        "decoder", "contours from the decoder's points, or traced around the auxiliary mask", added=True,
        formerly="outline", former_values={"decoder": "written", "auxiliary": "marked"},
    )  # fmt: skip
    batch_size: int = option(16, "pictures in a batch", min=1, semantic=False)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)

    def __post_init__(self) -> None:
        check_ranges(self)


def run(
    config: Config,
    *,
    model: Path,
    out: Path,
    image: Path | None = None,
    phrase: Sequence[str] = (),
    box: Sequence[str | Sequence[float]] = (),
    table: Path | None = None,
    images: Path | None = None,
    overlays: Path | None = None,
    reporter: Reporter | None = None,
    options: RunOptions | None = None,
) -> StageResult:
    """Answer `phrase`s about `image`, or the lines of `table`, and write `out` (JSON) and `overlays` (PNG).

    Args:
        box: known boxes x1, y1, x2, y2 in pixels, one a phrase: the model draws the contour of what is in the box.
        images: the folder that the picture names of `table` are relative to.

    Raises:
        UsageError: neither or both of image and table, an empty phrase, a box that is not four numbers.
        ArtifactError: the model cannot be used, a picture cannot be read, a box lies outside, a line is invalid.
        StaleOutputError: `out` exists and holds other answers, or none.
    """
    started = time.monotonic()
    reporter, options, out = reporter or SilentReporter(), options or RunOptions(), Path(out)
    require_file_target(out, example="masks.json")
    requests = _requests(image, phrase, box, table, images)

    from stages.data.photographs import Photographs

    photographs = Photographs.open(requests)
    job = StageJob(
        stage=STAGE, version=STAGE_VERSION, config=config, kind="predictions", out=out, options=options,
        inputs={"model": (model, ("rec_model", "res_model"))}, external={"pictures": photographs.image_paths},
    )  # fmt: skip
    fingerprint = _fingerprint(job.fingerprint, photographs)
    drawings = _drawing_paths(overlays, requests)
    for path in drawings:
        require_file_target(path, "--overlays", "pictures")
    old = _existing(out, fingerprint, job.artifact("model").digest, options.force)
    fresh = old is not None and not options.force
    if fresh and all(path.exists() for path in drawings):
        assert old is not None
        reasons = ("same model, pictures and expressions",)
        return StageResult(
            STAGE, "up-to-date", out, None, old["summary"], time.monotonic() - started, reasons
        )
    if not (fresh or options.force):
        _refuse_present(drawings)
    for path in [out, *drawings[:1]]:
        require_writable(path)
    if options.dry_run:
        reason = "--force was given" if out.exists() and options.force else f"{out} does not exist"
        reason = f"not all pictures are in {overlays}" if fresh else reason
        return StageResult(STAGE, "would-run", out, None, {}, time.monotonic() - started, (reason,))

    from stages.artifacts.provenance import plain_json
    from stages.inference.devices import choose_device
    from stages.inference.photograph_answers import answer, warn_of_words
    from stages.weights.model_file import load_model

    for notice, count in photographs.notices.items():
        reporter.warn(
            "\n  ".join([f"{count} {notice}", *photographs.examples.get(notice, [])[:_SHOWN_OF_NOTICE]])
        )
    loaded = load_model(
        model, choose_device(config.device), weights=config.weights, precision=config.precision
    )
    job.device = str(loaded.device)
    warn_of_words(loaded, photographs, reporter)
    answers = answer(
        loaded, photographs, outline=config.contour, batch_size=config.batch_size, reporter=reporter
    )
    rows = _rows(out, photographs, answers, drawings)
    if overlays is not None:
        _draw(photographs, answers, drawings, reporter)
    artifact = job.artifact("model")
    document = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "coordinates": COORDINATES,
        "model": {
            "path": str(model), "kind": artifact.kind, "digest": artifact.digest, "weights": config.weights,
        },
        "fingerprint": fingerprint,
        "provenance": job.provenance(),
        "summary": _summary(photographs, answers, rows, overlays),
        "images": [
            {"id": number, "file_name": str(path), "height": height, "width": width}
            for number, path, (height, width) in zip(
                _image_ids(photographs), photographs.image_paths, photographs.image_sizes_hw.tolist(), strict=True
            )
        ],
        "predictions": rows,
    }  # fmt: skip
    document = plain_json(document)
    write_whole(out, _document_text(document).encode("ascii"))
    return StageResult(STAGE, "written", out, None, document["summary"], time.monotonic() - started)


def _requests(
    image: Path | None, phrase: Sequence[str], box: Sequence[str | Sequence[float]], table: Path | None,
    images: Path | None,
) -> list[Request]:  # fmt: skip
    if (image is None) == (table is None):
        raise UsageError(
            "give a picture with --image, or a table with --table" + (", not both" if image else ""),
            hint='seqres predict --model res.h5 --image photo.jpg --expression "the red cup" --out masks.json',
        )

    from stages.data.photographs import requests_of_phrases, requests_of_table

    if table is None:
        if images is not None:
            raise UsageError("--images goes with --table", hint="with --image, give the whole path")
        assert image is not None
        return requests_of_phrases(image, [_as_utf8(text) for text in phrase], box)
    if phrase or box:
        raise UsageError(
            f"--{'expression' if phrase else 'box'} goes with --image",
            hint="with --table, write them into its columns expression and x1, y1, x2, y2",
        )
    return requests_of_table(table, images)


def _as_utf8(phrase: str) -> str:
    """Under an old locale (LC_ALL=C) Python keeps the bytes of a command line undecoded; phrases are UTF-8."""
    return phrase.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# ---------------------------------------------------------------- the document


def _rows(
    out: Path, photographs: Photographs, answers: Answers, drawings: Sequence[Path]
) -> list[dict[str, Any]]:
    import numpy as np

    from stages.geometry.boxes import xyxy_to_xywh
    from stages.geometry.rasterise import rle_area

    ids, rows = _image_ids(photographs), []
    for i, request in enumerate(photographs.requests):
        box = _inside(answers.boxes_xyxy[i], photographs.size_hw(i))
        height, width = photographs.size_hw(i)
        given = photographs.boxes_xyxy[i]
        rle = None if answers.rles is None else answers.rles[i]
        mask = None if rle is None else {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
        # pycocotools takes area and box from the mask where there is no bbox, so boxes alone have one
        coco_box = [0.0] * 4 if box is None else xyxy_to_xywh(box).round(3)
        rows.append(
            {
                "image": _name_beside(out, request),
                "phrase": request.phrase,
                "size": list(photographs.size_hw(i)),
                "given_box_xyxy": given if np.isfinite(given).all() else None,
                "box_prompt": bool(answers.prompted[i]),
                "box_xyxy": box,
                "points_xy": answers.points_xy[i].astype(np.float64).clip(0, (width, height)).round(3),
                "mask": mask,
                "area": None if rle is None else rle_area(rle),
                "confidence": round(float(answers.confidence[i]), 6),
                "overlay": str(drawings[i]) if drawings else None,
                # the entry of a COCO result file
                "image_id": ids[int(photographs.referent_image[i])],
                "category_id": 1,
                "score": round(float(answers.confidence[i]), 6),
                **({"segmentation": mask} if mask is not None else {"bbox": coco_box}),
            }
        )
    return rows


def _inside(box_xyxy: NDArray[np.floating[Any]], size_hw: tuple[int, int]) -> NDArray[np.float64] | None:
    """The part of a predicted box within the picture, at least the pixel that it lies in; None for no box."""
    import numpy as np

    from stages.geometry.boxes import clip_boxes

    box = clip_boxes(box_xyxy, size_hw).round(3)
    if not np.isfinite(box).all():
        return None
    for axis, length in enumerate((size_hw[1], size_hw[0])):
        if box[axis + 2] - box[axis] < 1:
            box[axis] = min(np.floor(box[axis]), length - 1)
            box[axis + 2] = max(np.ceil(box[axis + 2]), box[axis] + 1)
    return box


def _name_beside(out: Path, request: Request) -> str:
    """A picture's name as `prepare-data --source table` finds it when it reads `out`: relative to its folder.

    A table's names stay as they are; they are relative to the table, or to --images.
    """
    if not request.where.startswith("--expression"):
        return request.image
    path = Path(os.path.abspath(request.path))
    folder = Path(os.path.abspath(out.parent))
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _image_ids(photographs: Photographs) -> list[int]:
    """COCO's number where every picture is named after one (000000000009.jpg), else its place in the list, from 1."""
    numbers = [re.fullmatch(r"(?:COCO_\w+_)?(\d{12})", path.stem) for path in photographs.image_paths]
    found = [int(number[1]) for number in numbers if number]
    return found if len(set(found)) == len(numbers) else list(range(1, len(numbers) + 1))


def _summary(
    photographs: Photographs, answers: Answers, rows: Sequence[Mapping[str, Any]], overlays: Path | None
) -> dict[str, Any]:
    """Numbers, and the first answers as a table; phrases come from anywhere, so they are made fit for a terminal."""
    import numpy as np

    from stages.figures.layout import printable

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
    numbers = {
        "pictures": len(photographs.image_paths),
        "phrases": len(rows),
        "box_prompts": int(answers.prompted.sum()),
        "empty_masks": None if answers.rles is None else sum(row["area"] == 0 for row in rows),
        "confidence_mean": float(np.mean(answers.confidence)),
        "overlays": None if overlays is None else str(overlays),
    }
    return {**numbers, "answers" if len(shown) == len(rows) else f"first_{_SHOWN}_answers": shown}


def _document_text(document: Mapping[str, Any]) -> str:
    """JSON with one line an entry, and one a prediction: readable, and still small with long contours."""
    *head, (last, rows) = document.items()
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in head]
    body = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    return "{\n" + ",\n".join(lines) + f",\n{json.dumps(last)}: [\n{body}\n]\n}}\n"


# ---------------------------------------------------------------- pictures


def _drawing_paths(overlays: Path | None, requests: Sequence[Request]) -> list[Path]:
    """One PNG a request, numbered, because phrases of one picture are drawn apart."""
    if overlays is None:
        return []
    folder = Path(overlays)
    require_folder_target(folder, "--overlays")
    return [folder / f"{i:04d}-{_short_name(Path(r.image).stem)}.png" for i, r in enumerate(requests, 1)]


def _short_name(stem: str) -> str:
    """At most 80 letters, and fewer where they take several bytes: a file name ends at 255."""
    stem = stem[:80]
    while len(raw := stem.encode("utf-8", "surrogateescape")) > 200:
        stem = stem[:-1]
    return os.fsdecode(raw)


def _draw(photographs: Photographs, answers: Answers, drawings: Sequence[Path], reporter: Reporter) -> None:
    from stages.figures.overlays import png_bytes
    from stages.figures.predictions import prediction_figure
    from stages.geometry.rasterise import rle_to_mask

    with reporter.progress("overlays", len(drawings), unit="picture") as task:
        for i, path in enumerate(drawings):
            picture = prediction_figure(
                photographs.image(int(photographs.referent_image[i])),
                f"{photographs.texts[i]} ({answers.confidence[i]:.2f})",
                mask=None if answers.rles is None else rle_to_mask(answers.rles[i]),
                points_xy=answers.points_xy[i],
                box_xyxy=answers.boxes_xyxy[i],
                given_box_xyxy=photographs.boxes_xyxy[i],
            )
            write_whole(path, png_bytes(picture))
            task.advance()


# ---------------------------------------------------------------- files


def _fingerprint(job_fingerprint: str, photographs: Photographs) -> str:
    """Of the model, the configuration, the pictures' content, and what is asked about which of them."""
    asked = [
        [r.image, os.path.relpath(photographs.image_paths[i], photographs.image_paths[0].parent), r.phrase, r.box_xyxy]
        for r, i in zip(photographs.requests, photographs.referent_image, strict=True)
    ]  # fmt: skip
    text = json.dumps([job_fingerprint, asked])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _existing(out: Path, fingerprint: str, model_digest: str, force: bool) -> dict[str, Any] | None:
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
        document = json.loads(out.read_bytes())
    except (ValueError, RecursionError):
        document = None
    except OSError as error:
        raise ArtifactError(f"cannot read {out}: {(error.strerror or 'error').lower()}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
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


def _refuse_present(drawings: Sequence[Path]) -> None:
    present = [path for path in drawings if path.exists()]
    if present:
        raise StaleOutputError(
            f"{present[0]} exists",
            facts=[f"and {len(present) - 1} more of the overlays"] if len(present) > 1 else [],
            hint="replace them with --force, or choose another folder with --overlays",
        )
