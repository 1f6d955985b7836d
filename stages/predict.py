"""predict: a model answers phrases about photographs of one's own with masks.

In: a rec_model or res_model artifact, and pictures with phrases (given one by one, or as a table), perhaps with a known
box. Out: one JSON document with box, contour and COCO mask of every phrase, and pictures if wanted. It exists so that
a model can be used where there is no data set: nothing but the model and the pictures is needed.

In a program, `predict` (or a `Predictor`, which keeps the model) takes and returns arrays:

    from stages.predict import predict
    [cup] = predict(picture, ["the red cup"], model="res.h5")     # picture: (H, W, 3) uint8 RGB
    picture[cup.mask]                                             # cup.mask: (H, W) bool
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.artifacts.target import require_file_target, require_writable
from stages.artifacts.temporary import remove_litter
from stages.artifacts.whole_file import refuse_present, write_whole
from stages.config import StageConfig, in_panel, option
from stages.errors import UsageError
from stages.inference.predictor import Prediction, Predictor, predict
from stages.reporter import Reporter, SilentReporter
from stages.shards import Shard

if TYPE_CHECKING:
    from stages.data.photographs import Photographs, Request
    from stages.figures.answer_files import Drawing
    from stages.inference.photograph_answers import Answers
    from stages.world import World

__all__ = ["Config", "Prediction", "Predictor", "predict", "run"]

STAGE = "predict"
STAGE_VERSION = 2
STREAM = "-"  # as --table and --out: JSON lines on standard input and output
_SHOWN_OF_NOTICE = 3
_STREAMED_AT_ONCE = 64  # expressions, before their lines are written
_running = in_panel("Run")


@dataclass(frozen=True)
class Config(StageConfig):
    """How the answers are made."""

    weights: Literal["best", "ema", "raw"] = option("best", "weights of the model to use")
    precision: Literal["fp32", "bf16"] = _running(
        "fp32", "bf16: for a GPU; tokens differ slightly", added=True
    )
    contour: Literal["decoder", "auxiliary"] = option(
        "decoder", "contours from the decoder's points, or traced around the auxiliary mask", added=True,
        formerly="outline", former_values={"decoder": "written", "auxiliary": "marked"},
    )  # fmt: skip
    segmenter: str | None = option(
        None,
        "refine each mask: grabcut, a folder or hub id of a promptable segmenter, or ENCODER.onnx,DECODER.onnx",
        added=True,
    )
    shard: str | None = _running(
        None,
        "answer only part i of n, such as 2/4, into a file that seqres merge joins with the others",
        added=True,
    )
    batch_size: int = option(16, "pictures in a batch", min=1, semantic=False)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        Shard.of(self.shard)


def run(
    config: Config,
    *,
    model: Path,
    out: Path,
    image: str | Path | Sequence[str | Path] = (),
    phrase: Sequence[str] = (),
    box: Sequence[str | Sequence[float]] = (),
    table: Path | None = None,
    images: Path | None = None,
    overlays: Path | None = None,
    overlay: Path | None = None,
    mask: Path | None = None,
    pictures: Sequence[str | Path] = (),
    lines: Iterable[str] | None = None,
    emit: Callable[[str], None] | None = None,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Answer `phrase`s about `image`s, or the lines of `table`, and write `out` (JSON) and pictures (PNG).

    Args:
        image: pictures, folders of pictures, or patterns (photos/*.jpg); every phrase is asked about each. `pictures`: more.
        box: known boxes x1, y1, x2, y2 in pixels, one a phrase: the model draws the contour of what is in the box.
        images: the folder that the picture names of `table` are relative to.
        overlays: a folder, for one PNG a request. `overlay`, `mask`: one PNG of a single picture.
        lines: JSON lines, the content of the table "-". `emit`: takes the JSON lines of the answers where `out` is "-".

    Raises:
        UsageError: neither or both of image and table, an empty phrase, a box that is not four numbers.
        ArtifactError: the model cannot be used, a picture cannot be read, a box lies outside, a line is invalid.
        StaleOutputError: `out` exists and holds other answers, or none.
    """
    started = time.monotonic()
    out = Path(out)
    streamed = str(out) == STREAM and emit is not None
    _check_target(config, out, streamed, options.world, overlay or mask)
    requests = _requests(image, pictures, phrase, box, table, images, lines)

    from stages.data.photographs import Photographs
    from stages.inference.picture_groups import rows_of_shard

    photographs = Photographs.open(requests)
    job = _job(config, model, Path.cwd() / STREAM if streamed else out, photographs, options)
    fingerprint = _fingerprint(job.fingerprint, photographs)
    rows = rows_of_shard(photographs.referent_image, config.batch_size, Shard.of(config.shard))
    asked = photographs.part(rows)
    drawings, per_request = _drawings(config, photographs, rows, overlays, overlay, mask)
    settle = _settled_stream if streamed else functools.partial(_settled, job, fingerprint)
    settled = job.decided(lambda: settle(out, drawings, options, started))
    if settled is not None:
        return settled

    from stages.inference.prediction_document import document_text
    from stages.inference.prediction_rows import rows_of

    predictor = _predictor(config, model, photographs, mask, reporter)
    job.device = predictor.device
    unknown = predictor.unknown_words(asked.texts, reporter)
    if streamed and emit is not None:
        _stream(out, photographs, predictor, drawings, per_request, unknown, emit, reporter)
        return StageResult(STAGE, "written", out, None, {}, time.monotonic() - started)
    answers = predictor.answers(asked, reporter, job.world)
    if not job.world.first:
        return job.wait()
    found = rows_of(out, asked, answers, per_request, unknown)
    _draw(asked, answers, drawings, reporter)
    document = _document(job, model, fingerprint, photographs, rows, answers, found, overlays)
    write_whole(out, document_text(document).encode("ascii"))
    return job.result(document["summary"])


def _check_target(config: Config, out: Path, streamed: bool, world: World, of_one: Path | None) -> None:
    """of_one: a picture of a single photograph that is wanted."""
    if config.shard and of_one is not None:
        raise UsageError(
            f"--shard: {of_one} is of one picture, which has no parts", hint="--overlays FOLDER draws many"
        )
    if not streamed:
        require_file_target(out, example="masks.json")
    elif world.size > 1 or config.shard:
        raise UsageError(
            f"--out - is for one process{' and no shard' if config.shard else ''}",
            hint="give the name of a file: --out masks.json",
        )


def _drawings(
    config: Config, photographs: Photographs, rows: NDArray[np.int64], overlays: Path | None, overlay: Path | None,
    mask: Path | None,
) -> tuple[dict[Path, Drawing], list[Path]]:  # fmt: skip
    """What is to be drawn about these rows, and each row's own overlay, if there are any."""
    from stages.figures.answer_files import drawings_of, some_of

    drawings = drawings_of(photographs, overlays, overlay, mask)
    per_request = [path for path in drawings if overlays is not None and path not in (overlay, mask)]
    if config.shard:
        drawings = some_of(drawings, per_request, rows)
        per_request = list(drawings)
    return drawings, per_request


def _job(config: Config, model: Path, out: Path, photographs: Photographs, options: RunOptions) -> StageJob:
    from stages.refinement.load import segmenter_files

    return StageJob(
        STAGE, STAGE_VERSION, config, "predictions", out, options=options,
        inputs={"model": (model, ("rec_model", "res_model"))},
        external={
            "pictures": photographs.image_paths,
            "segmenter": None if config.segmenter is None else segmenter_files(config.segmenter),
        },
    )  # fmt: skip


def _predictor(
    config: Config, model: Path, photographs: Photographs, mask: Path | None, reporter: Reporter
) -> Predictor:
    """The model, after warnings about the photographs; UsageError where it draws no mask and one is wanted."""
    for notice, count in photographs.notices.items():
        reporter.warn(
            "\n  ".join([f"{count} {notice}", *photographs.examples.get(notice, [])[:_SHOWN_OF_NOTICE]])
        )
    predictor = Predictor(
        model, weights=config.weights, precision=config.precision, device=config.device,
        segmenter=config.segmenter, contour=config.contour, batch_size=config.batch_size,
    )  # fmt: skip
    if mask is not None and not (predictor.answers_masks or config.segmenter):
        raise UsageError("--mask: the model answers with boxes only", hint="add --segmenter")
    return predictor


def _stream(
    out: Path, photographs: Photographs, predictor: Predictor, drawings: Mapping[Path, Drawing],
    per_request: Sequence[Path], unknown: Sequence[Any], emit: Callable[[str], None], reporter: Reporter,
) -> None:  # fmt: skip
    """Emit one JSON line an expression, some at a time."""
    from stages.artifacts.provenance import plain_json
    from stages.figures.answer_files import some_of
    from stages.inference.prediction_rows import rows_of

    for first in range(0, len(photographs.requests), _STREAMED_AT_ONCE):
        rows = slice(first, first + _STREAMED_AT_ONCE)
        part = photographs.part(rows)
        answers = predictor.answers(part, reporter)
        for row in plain_json(rows_of(out, part, answers, per_request[rows], unknown[rows])):
            emit(json.dumps(row, allow_nan=False))
        _draw(part, answers, some_of(drawings, per_request, rows), reporter)


def _settled_stream(
    out: Path, drawings: Mapping[Path, Drawing], options: RunOptions, started: float
) -> StageResult | None:
    """The result of a dry run to standard output, else None."""
    if not options.force:
        refuse_present(drawings)
    if not options.dry_run:
        return None
    return StageResult(STAGE, "would-run", out, None, {}, time.monotonic() - started, ("to standard output",))


def _settled(
    job: StageJob, fingerprint: str, out: Path, drawings: Mapping[Path, Drawing], options: RunOptions, started: float
) -> StageResult | None:  # fmt: skip
    """The result when nothing is to be done (up to date, or a dry run), else None."""
    from stages.inference.prediction_document import existing_document

    old = existing_document(out, fingerprint, job.artifact("model").digest, options.force)
    fresh = old is not None and not options.force
    if fresh and all(path.exists() for path in drawings):
        assert old is not None
        reasons = ("same model, pictures and phrases",)
        return StageResult(
            STAGE, "up-to-date", out, None, old["summary"], time.monotonic() - started, reasons
        )
    if not (fresh or options.force):
        refuse_present(drawings)
    for path in [out, *list(drawings)[:1]]:
        require_writable(path)
    if not options.dry_run:
        return None
    reason = "--force was given" if out.exists() and options.force else f"{out} does not exist"
    gone = next((path for path in drawings if not path.exists()), None)
    reason = f"not all pictures are in {gone.parent}" if fresh and gone is not None else reason
    return StageResult(STAGE, "would-run", out, None, {}, time.monotonic() - started, (reason,))


def _requests(
    image: str | Path | Sequence[str | Path], pictures: Sequence[str | Path], phrase: Sequence[str],
    box: Sequence[str | Sequence[float]], table: Path | None, images: Path | None, lines: Iterable[str] | None,
) -> list[Request]:  # fmt: skip
    image = [*([image] if isinstance(image, str | Path) else image), *pictures]
    if bool(image) == (table is not None):
        raise UsageError(
            "give a picture with --image, or a table with --table" + (", not both" if image else ""),
            hint='seqres predict --model res.h5 --image photo.jpg --expression "the red cup" --out masks.json',
        )

    from stages.data.photographs import pictures_of, requests_of_phrases, requests_of_table

    if table is None:
        if images is not None:
            raise UsageError("--images goes with --table", hint="with --image, give the whole path")
        paths = pictures_of(image)
        if box and len(paths) > 1:
            raise UsageError(
                f"--box is for one picture, got {len(paths)}", hint="write pictures and boxes into a --table"
            )
        # under an old locale (LC_ALL=C) Python keeps the bytes of a command line undecoded; phrases are UTF-8
        texts = [text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in phrase]
        return [request for path in paths for request in requests_of_phrases(path, texts, box)]
    if phrase or box:
        raise UsageError(
            f"--{'expression' if phrase else 'box'} goes with --image",
            hint="with --table, write them into its columns expression and x1, y1, x2, y2",
        )
    return requests_of_table(table, images, lines if str(table) == STREAM else None)


# ---------------------------------------------------------------- the document


def _document(
    job: StageJob, model: Path, fingerprint: str, photographs: Photographs, rows: NDArray[np.int64], answers: Answers,
    found: Sequence[Mapping[str, Any]], overlays: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """rows: which of the photographs' requests have these answers, all or those of a shard."""
    from stages.artifacts.provenance import plain_json
    from stages.inference.prediction_document import (
        COORDINATES,
        FORMAT,
        FORMAT_VERSION,
        SHARD_FORMAT,
        summary_of,
    )
    from stages.inference.prediction_rows import image_entries

    artifact, weights = job.artifact("model"), job.config.weights
    part = _part(job, photographs, rows, answers) if job.config.shard else None
    document: dict[str, Any] = plain_json({
        "format": SHARD_FORMAT if part else FORMAT,
        "version": FORMAT_VERSION,
        "coordinates": COORDINATES,
        "model": {"path": str(model), "kind": artifact.kind, "digest": artifact.digest, "weights": weights},
        "fingerprint": fingerprint,
        **({"shard": part} if part else {}),
        "provenance": job.provenance(),
        "summary": summary_of(found, answers.confidence, len(photographs.image_paths), overlays),
        "images": image_entries(photographs),
        "predictions": found,
    })  # fmt: skip
    return document


def _part(
    job: StageJob, photographs: Photographs, rows: NDArray[np.int64], answers: Answers
) -> dict[str, Any]:
    """What merge needs to know: the places of these answers among all, and what their rounded numbers were."""
    return {
        "number": job.config.shard,
        "whole": _fingerprint(job.fingerprint_with(shard=None), photographs),
        "batch_size": job.config.batch_size,
        "total": len(photographs.requests),
        "rows": rows.tolist(),
        "confidence": answers.confidence.tolist(),
    }


# ---------------------------------------------------------------- files


def _draw(
    photographs: Photographs, answers: Answers, drawings: Mapping[Path, Drawing], reporter: Reporter
) -> None:
    if not drawings:
        return
    remove_litter(*drawings)
    with reporter.progress("draw", len(drawings), unit="picture") as task:
        for path, draw in drawings.items():
            write_whole(path, draw(photographs, answers), tidy=False)
            task.advance()


def _fingerprint(job_fingerprint: str, photographs: Photographs) -> str:
    """Of the model, the configuration, the pictures' content, and what is asked about which of them."""
    asked = [
        [r.image, os.path.relpath(photographs.image_paths[i], photographs.image_paths[0].parent), r.phrase, r.box_xyxy]
        for r, i in zip(photographs.requests, photographs.referent_image, strict=True)
    ]  # fmt: skip
    text = json.dumps([job_fingerprint, asked])
    return hashlib.sha256(text.encode("ascii")).hexdigest()
