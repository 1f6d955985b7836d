"""merge: join the shards that `pseudo-label` or `predict` wrote with `--shard i/n` into the file of one unsharded run.

In: all n shards of one run. Out: pseudo_points with the content, the digest and the fingerprint that the run without
shards has, or the document of predict with these answers. It exists because more can be labelled than one job may take: shards need no connection between the machines,
and one that failed is repeated alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.artifacts.target import require_file_target, require_writable
from stages.artifacts.whole_file import write_whole
from stages.errors import ArtifactError, UsageError
from stages.file_kinds import what_file_is
from stages.reporter import Reporter, SilentReporter
from stages.shards import Part, Shard, order_of
from stages.untrusted import shown

if TYPE_CHECKING:
    from stages.artifacts import Artifact

STAGE = "merge"
STAGE_VERSION = 1


@dataclass(frozen=True)
class Config:
    """There is nothing to choose: the shards say what they are parts of."""


def run(
    config: Config,
    *,
    files: Sequence[Path],
    out: Path,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Write `out`, which then is as up to date as if the run without shards had written it.

    Raises:
        UsageError: no files.
        ArtifactError: shards of different runs, one that is missing or there twice, files that are no shards.
        StaleOutputError: `out` holds something else, and force is not set.
    """
    if not files:
        raise UsageError("nothing to merge", hint="seqres merge pseudo-*.h5 --out pseudo.h5")
    if (what_file_is(files[0]) or "").startswith("a JSON"):
        return _merge_predictions(files, Path(out), options, time.monotonic())
    return _merge_pseudo_labels(config, files, out, options)


def _merge_pseudo_labels(
    config: Config, files: Sequence[Path], out: Path, options: RunOptions
) -> StageResult:
    job = _Joined(
        stage=STAGE, version=STAGE_VERSION, config=config, kind="pseudo_points", out=out, options=options,
        inputs={f"shard_{i}": (path, "pseudo_shard") for i, path in enumerate(files, 1)},
    )  # fmt: skip
    parts, shards = zip(
        *sorted(
            ((_part(shard), shard) for shard in job.inputs.values()), key=lambda pair: pair[0].shard.number
        ),
        strict=True,
    )
    order = order_of(parts, "seqres pseudo-label")
    job.is_run(shards[0].provenance, parts[0].whole)
    if settled := job.settled():
        return settled

    from stages.inference.pseudo_rows import PseudoRows

    labels = PseudoRows.join([PseudoRows.read(shard) for shard in shards], order)
    told = shards[0].json("summary")
    summary = labels.summary(
        held_out=told.get("held_out_referents", 0), weights_chosen_by=told.get("weights_chosen_by", ""),
        prompt=told.get("prompt", ""), audit=told.get("audit"),
    )  # fmt: skip
    with job.writer() as w:
        for name in ("dataset_digest", "model_digest", "prompt", "n_points"):
            w.attr(name, shards[0].attrs[name])
        labels.write(w)
        w.json("summary", summary)
    return job.result(summary)


def _part(shard: Artifact) -> Part:
    return Part(
        shard.path, _shard(shard.path, str(shard.attrs["shard"])), str(shard.attrs["whole"]), shard.whole_attr("batch_images", 1, low=1), shard["rows"],
        shard.whole_attr("n_rows", 0),
    )  # fmt: skip


class _Joined(StageJob):
    """The run of which the shards are parts: what is written says how that run would have made it."""

    def is_run(self, record: Mapping[str, Any], whole: str) -> None:
        """From the record of a shard, and the fingerprint of the whole."""
        self._record, self.fingerprint = record, whole

    def provenance(self) -> dict[str, Any]:
        """The shard's, without its number; the shards under `merged`."""
        mine, of = super().provenance(), self._record
        kept = {
            key: of[key]
            for key in ("stage", "stage_version", "seed", "inputs", "external", "device")
            if key in of
        }
        options = {name: setting for name, setting in of.get("config", {}).items() if name != "shard"}
        return {**mine, **kept, "config": options, "merged": mine["inputs"]}


def _shard(path: Path, text: str) -> Shard:
    try:
        number = Shard.of(text)
    except UsageError as error:
        raise ArtifactError(f"{path} is damaged", facts=[f"its shard is {shown(text)}, not i/n"]) from error
    assert number is not None
    return number


# ---------------------------------------------------------------- documents of predict


def _merge_predictions(files: Sequence[Path], out: Path, options: RunOptions, started: float) -> StageResult:
    from stages.inference.prediction_document import document_text, existing_document

    require_file_target(out, example="masks.json")
    documents = {path: _document(path, out) for path in files}
    parts = sorted(
        (_part_of(path, document) for path, document in documents.items()), key=lambda p: p.shard.number
    )
    order = order_of(parts, "seqres predict")
    whole = parts[0].whole
    digest = str((documents[parts[0].path].get("model") or {}).get("digest"))
    old = existing_document(out, whole, digest, options.force)
    if old is not None and not options.force:
        reasons = ("same model, pictures and phrases",)
        return StageResult(
            "merge", "up-to-date", out, None, old["summary"], time.monotonic() - started, reasons
        )
    require_writable(out)
    if options.dry_run:
        reason = "--force was given" if out.exists() else f"{out} does not exist"
        return StageResult("merge", "would-run", out, None, {}, time.monotonic() - started, (reason,))
    document = _joined_document([documents[part.path] for part in parts], order, whole, files, options.argv)
    write_whole(out, document_text(document).encode("ascii"))
    return StageResult("merge", "written", out, None, document["summary"], time.monotonic() - started)


def _document(path: Path, out: Path) -> dict[str, Any]:
    """A shard of predict; ArtifactError for anything else, or where names in it do not hold for `out`."""
    from stages.artifacts.json_forms import problem_of_form
    from stages.data.readers.records import load_json
    from stages.inference.prediction_document import SHARD_FORMAT, ShardForm

    document = load_json(path, finite=True)
    if not isinstance(document, dict) or document.get("format") != SHARD_FORMAT:
        raise ArtifactError(f"{path} is no shard", hint="give what seqres predict --shard i/n wrote")
    found = problem_of_form(ShardForm, "document", document)
    if found is None and len(document["predictions"]) != len(document["shard"]["rows"]):
        found = f"{len(document['predictions'])} predictions for {len(document['shard']['rows'])} rows"
    if found is None and len(document["predictions"]) != len(document["shard"]["confidence"]):
        found = (
            f"{len(document['predictions'])} predictions with {len(document['shard']['confidence'])} numbers"
        )
    if found is not None:
        raise ArtifactError(f"{path} is damaged", facts=[found], hint="make it again")
    if os.path.realpath(path.parent) != os.path.realpath(out.parent):
        raise UsageError(
            f"{path} and --out {out} are in different folders",
            facts=["names of pictures are relative to the folder of the document"],
            hint=f"seqres merge … --out {path.parent / out.name}",
        )
    return document


def _part_of(path: Path, document: Mapping[str, Any]) -> Part:
    part = document["shard"]
    rows = np.array(part["rows"], np.int64)
    return Part(path, _shard(path, part["number"]), part["whole"], part["batch_size"], rows, part["total"])


def _joined_document(
    documents: Sequence[Mapping[str, Any]], order: NDArray[np.int64], whole: str, files: Sequence[Path],
    argv: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """The keys of the first, in their order, with what is of the whole."""
    from stages.inference.prediction_document import FORMAT, summary_of

    first = documents[0]
    rows = [row for document in documents for row in document["predictions"]]
    rows = [rows[i] for i in order.tolist()]
    confidence = np.concatenate([np.array(d["shard"]["confidence"], np.float32) for d in documents])[order]
    record = first["provenance"]
    options = record.get("config")
    if isinstance(options, dict):
        options = {name: setting for name, setting in options.items() if name != "shard"}
    merged = {"argv": list(argv), "config": options, "merged": [str(path) for path in files]}
    return {key: value for key, value in first.items() if key != "shard"} | {
        "format": FORMAT,
        "fingerprint": whole,
        "provenance": record | merged,
        "summary": summary_of(rows, confidence, len(first["images"]), first["summary"].get("overlays")),
        "predictions": rows,
    }
