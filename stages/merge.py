"""merge: join the shards that `pseudo-label --shard i/n` wrote into the file of one unsharded run.

In: all n shards of one run. Out: pseudo_points with the content, the digest and the fingerprint that the run without
shards has. It exists because more can be labelled than one job may take: shards need no connection between the machines,
and one that failed is repeated alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts import RunOptions, StageJob, StageResult
from stages.errors import ArtifactError, UsageError
from stages.reporter import Reporter
from stages.shards import Part, Shard, order_of

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
    reporter: Reporter | None = None,
    options: RunOptions | None = None,
) -> StageResult:
    """Write `out`, which then is as up to date as if the run without shards had written it.

    Raises:
        UsageError: no files.
        ArtifactError: shards of different runs, one that is missing or there twice, files that are no shards.
        StaleOutputError: `out` holds something else, and force is not set.
    """
    if not files:
        raise UsageError("nothing to merge", hint="seqres merge pseudo-*.h5 --out pseudo.h5")
    return _merge_pseudo_labels(config, files, out, options)


def _merge_pseudo_labels(
    config: Config, files: Sequence[Path], out: Path, options: RunOptions | None
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
    try:
        number = Shard.of(str(shard.attrs["shard"]))
    except UsageError as error:
        raise ArtifactError(
            f"{shard.path} is damaged",
            facts=["its attribute shard is not i/n"],
            hint=f"seqres verify {shard.path}",
        ) from error
    assert number is not None
    return Part(
        shard.path, number, str(shard.attrs["whole"]), shard.whole_attr("batch_images", 1, low=1), shard["rows"],
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
