"""split-masks: choose which training referents may show their mask; all others are known by their box only.

In: a dataset artifact, for some strategies a comprehension model. Out: a split artifact with one bit a referent, and
if wanted the list of the chosen ones for an annotation tool. Why: "1 % masks" must be the same 1 % in every stage, and
a mask outside it must be impossible to read by accident. No mask is read here either: whose mask to show is decided as
if it were still to be drawn.

Each candidate has a rank, and a split shows the first ranks: so a smaller share is contained in a larger one of the
same seed. With the strategy `random` the rank follows from (seed, id) alone, and no library version can change it;
`diverse` and `uncertain` ask the model, and leave only ties and first draws to the seed.

With a person's decisions (decisions.json of the review page) and `--accepted-masks`, the pseudo masks that were accepted
count as seen, too: the split carries them, and training reads them. The true masks of these referents stay hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.artifacts.whole_file import require_plain_file
from stages.config import StageConfig, in_panel, option
from stages.errors import ArtifactError, UsageError, nearest_hint
from stages.metrics.ranks import ranks_by_seed
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from stages.artifacts import Artifact, ArtifactWriter

STAGE = "split-masks"
STAGE_VERSION = 1
_often = in_panel("Set most often")


@dataclass(frozen=True)
class Config(StageConfig):
    """How many masks may be seen, and which."""

    ratio: float | None = _often(
        None, "share of the masks that are visible, in (0, 1]", min=0, min_open=True, max=1
    )
    count: int | None = _often(
        None, "number of masks, or images with --unit image, instead of a ratio", min=1
    )
    import_list: str | None = option(
        None, "list of ref ids instead: text, JSON, CSV of --export-list, or instances_sample_*.json of the release",
    )  # fmt: skip
    split_name: str = option("train", "split whose masks are hidden")
    seed: int = _often(0, "seed of the choice", min=0)
    unit: Literal["referent", "image"] = option("referent", "what is chosen: referents, or whole images")
    strategy: Literal["random", "diverse", "uncertain"] = option(
        "random", "random; diverse: unlike each other to the --rec model; uncertain: where its boxes are least sure",
        added=True,
    )  # fmt: skip
    uncertainty: Literal["entropy", "disagreement"] = option(
        "entropy", "of the box's tokens, or disagreement between the expressions of a referent", added=True
    )
    candidates: Literal["masked", "all"] = option(
        "masked", "referents that have a mask, or all, to plan which masks to annotate", added=True
    )
    accepted_masks: bool = option(
        False,
        "pseudo masks that --decisions accepts count as seen masks, beside the chosen true ones",
        added=True,
    )
    batch_images: int = option(32, "images in a batch of the --rec model", semantic=False, min=1)
    device: str = option("auto", "of the --rec model: auto, cpu, cuda, cuda:1 or mps", semantic=False)


def run(
    config: Config,
    *,
    dataset: Path,
    out: Path,
    rec: Path | None = None,
    export_list: Path | None = None,
    decisions: Path | None = None,
    pseudo: Path | None = None,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Rank the candidates (referents of the split that have a mask) and show the first of them.

    Args:
        rec: the comprehension model that the strategies `diverse` and `uncertain` ask.
        export_list: also write the chosen referents there, as CSV (data/annotation_list.py).
        decisions: a person's decisions about pseudo masks (metrics/decisions.py). What was accepted or edited is no
            candidate where masks to draw are chosen (candidates="all"); with `accepted_masks` it counts as seen.
        pseudo: the pseudo masks that were decided about; accepted ones are taken from here.

    Raises:
        UsageError: not exactly one of ratio, count and import_list; a count above the candidates; unknown split; a
            strategy without its model, or a model that the strategy does not ask.
        ArtifactError: no referent of the split has a mask; the list has ids that are no candidates; `rec` was not
            made from `dataset`.
        StaleOutputError: `out` or `export_list` exists with other content.
    """
    _check_how(config, rec)
    _check_decisions(config, decisions, pseudo)
    require_plain_file(decisions)
    job = StageJob(
        STAGE, STAGE_VERSION, config, "split", out, options=options,
        inputs={"dataset": (dataset, "dataset"), "rec": (rec, "rec_model"), "pseudo": (pseudo, "pseudo_points")},
        external={"list": config.import_list, "decisions": decisions},
    )  # fmt: skip
    job.device = None if rec is None else config.device
    job.require_dataset("rec", "pseudo")
    if settled := job.settled():
        return settled if export_list is None else _export_of_existing(job, settled, Path(export_list))
    if export_list is not None:
        from stages.data.annotation_list import check_list, write_list

        check_list(Path(export_list), None, force=options.force)

    data = job.artifact("dataset")
    group = _group(job, dataset, decisions, config, reporter)
    choice = _choose(config, data, group.candidates, _listed(config, data, group), rec, reporter)
    chosen = (choice.rank >= 0) & (choice.rank < choice.count)
    visible = chosen & group.has_mask
    carried = {
        r: mask for r, mask in group.accepted.items() if config.accepted_masks and mask and not visible[r]
    }
    summary = _summarise(config, data, group, choice, chosen, carried)
    with job.writer() as w:
        w.attr("dataset_digest", data.digest)
        if rec is not None:
            w.attr("rec_digest", job.artifact("rec").digest)
        _write(w, config, data, choice, chosen, visible, carried)
        w.json("summary", summary)
    if export_list is not None:
        write_list(Path(export_list), data, choice.rank, int(chosen.sum()), force=options.force)
    return job.result(summary)


@dataclass(frozen=True)
class _Group:
    """Referents of the split: in_split, has_mask (R,) bool; candidates (K,) indices; accepted: referent -> mask."""

    in_split: np.ndarray
    has_mask: np.ndarray
    candidates: np.ndarray
    accepted: dict[int, Any]


def _group(
    job: StageJob, dataset: Path, decisions: Path | None, config: Config, reporter: Reporter
) -> _Group:
    """Whose masks can be chosen; ArtifactError when nobody's."""
    data = job.artifact("dataset")
    in_split = data["referents/split"] == _split_index(data, config.split_name)
    has_mask = data["referents/has_mask"].astype(bool)
    accepted = _accepted(job, decisions, in_split, config, reporter)
    candidates = np.flatnonzero(in_split & (has_mask | (config.candidates == "all")))
    if config.candidates == "all":  # what has an accepted mask needs none drawn
        candidates = candidates[~np.isin(candidates, list(accepted))]
    if not len(candidates):
        raise ArtifactError(
            f"no referent of split {config.split_name!r} in {dataset} has a mask",
            hint="--candidates all chooses among all of them, to plan which masks to annotate"
            if in_split.any()
            else None,
        )
    return _Group(in_split, has_mask, candidates, accepted)


def _listed(config: Config, data: Artifact, group: _Group) -> set[int]:
    """Ref ids of `--import-list`; none without."""
    if config.import_list is None:
        return set()
    from stages.data.ref_id_list import listed_ref_ids

    rows = group.in_split.nonzero()[0]
    return listed_ref_ids(Path(config.import_list), config.split_name, data, rows, group.candidates)


def _summarise(
    config: Config, data: Artifact, group: _Group, choice: _Choice, chosen: np.ndarray, carried: dict[int, Any]
) -> dict[str, Any]:  # fmt: skip
    visible = chosen & group.has_mask
    summary = {
        "split": config.split_name,
        "referents": int(group.in_split.sum()),
        "candidates": len(group.candidates),
        "masks_visible": int(visible.sum()),
        "images_with_visible_mask": len(np.unique(data["referents/image_index"][visible])),
        "share": round(float(visible.sum() / len(group.candidates)), 6),
        "box_only": int((group.in_split & ~visible).sum()),
        **choice.summary,
    }
    if config.candidates == "all":
        summary["chosen"], summary["masks_to_draw"] = int(chosen.sum()), int((chosen & ~group.has_mask).sum())
    if config.accepted_masks:
        summary["accepted_masks"], summary["masks_seen"] = len(carried), int(visible.sum()) + len(carried)
        summary["box_only"] -= len(carried)
    return summary


def _write(
    w: ArtifactWriter, config: Config, data: Artifact, choice: _Choice, chosen: np.ndarray, visible: np.ndarray,
    carried: dict[int, Any],
) -> None:  # fmt: skip
    """How it was chosen, one row a referent, and the accepted masks that the split carries."""
    w.attr("split_name", config.split_name)
    w.attr("strategy", _strategy_name(config))
    w.attr("seed", config.seed)
    w.attr("unit", config.unit)
    if config.ratio is not None:
        w.attr("ratio", config.ratio)
    if config.count is not None:
        w.attr("count", config.count)
    if config.candidates == "all":
        w.attr("n_chosen", int(chosen.sum()))
    w.column("visible", visible)
    w.column("rank", choice.rank)
    w.column("labelled_ref_id", data["referents/ref_id"][visible])
    if choice.uncertainty is not None:
        w.column("uncertainty", choice.uncertainty)
    if config.accepted_masks:
        from stages.geometry.runs import pack_rles

        w.column("accepted/referent_index", np.array(list(carried), np.int64))
        w.ragged("accepted/rle", *pack_rles(list(carried.values())))


def _check_how(config: Config, rec: Path | None) -> None:
    """UsageError unless the options say one way to choose."""
    given = [key for key in ("ratio", "count", "import_list") if getattr(config, key) is not None]
    if len(given) != 1:
        flags = [f"--{key.replace('_', '-')}" for key in given]
        raise UsageError(
            f"{' and '.join(flags)} exclude each other" if given else "how many masks may be seen?",
            hint="give one of --ratio, --count and --import-list",
        )
    if config.strategy == "random":
        if rec is not None:
            raise UsageError(
                "--rec is not asked by the strategy 'random'", hint="add --strategy diverse or uncertain"
            )
        return
    if config.import_list is not None:
        raise UsageError(f"--import-list and --strategy {config.strategy} exclude each other")
    if rec is None:
        raise UsageError(
            f"the strategy {config.strategy!r} needs a comprehension model",
            hint="train one on the boxes, which needs no split: seqres train-rec --dataset data.h5 --out rec.h5",
        )


def _check_decisions(config: Config, decisions: Path | None, pseudo: Path | None) -> None:
    """UsageError where decisions are missing, or would change nothing."""
    if decisions is None:
        if config.accepted_masks or pseudo is not None:
            flag = "--accepted-masks" if config.accepted_masks else "--pseudo"
            raise UsageError(
                f"{flag} needs --decisions", hint="review the pseudo masks first: seqres report --help"
            )
        return
    if not config.accepted_masks and config.candidates != "all":
        raise UsageError(
            "--decisions would change nothing",
            facts=["accepted pseudo masks count as seen masks only if asked for"],
            hint="add --accepted-masks --pseudo PSEUDO.h5, or --candidates all to list whose masks are still to be made",
        )


def _accepted(
    job: StageJob, decisions: Path | None, in_split: np.ndarray, config: Config, reporter: Reporter
) -> dict[int, Any]:
    """Referent -> its accepted or edited mask (None where only --pseudo would tell it); nothing without decisions."""
    if decisions is None:
        return {}
    from stages.metrics.decisions import read_decisions, require_known

    data, pseudo = job.artifact("dataset"), job.inputs.get("pseudo")
    decided = read_decisions(decisions, data, pseudo)
    require_known(decisions, decided, np.flatnonzero(in_split), f"in split {config.split_name!r}", data)
    accepted = {r: d for r, d in decided.items() if d.verdict == "accept"}
    if pseudo is None:
        if config.accepted_masks and any(d.mask is None for d in accepted.values()):
            raise UsageError(
                "--accepted-masks needs the pseudo masks that were accepted",
                hint="add --pseudo PSEUDO.h5, the file that was reviewed",
            )
        return {r: d.mask for r, d in accepted.items()}
    from stages.metrics.review import accepted_masks, apply_decisions
    from stages.metrics.selection import best_sentences, read_candidates

    candidates = read_candidates(data, pseudo, reporter)
    rows, _ = apply_decisions(decisions, decided, candidates, best_sentences(candidates), data)
    return dict(accepted_masks(accepted, candidates, rows))


def _strategy_name(config: Config) -> str:
    """As it stands in the artifact; "nested" has meant the random choice since before there were others."""
    if config.import_list is not None:
        return "list"
    return {"random": "nested", "diverse": "diverse", "uncertain": f"uncertain ({config.uncertainty})"}[
        config.strategy
    ]


def _export_of_existing(job: StageJob, settled: StageResult, path: Path) -> StageResult:
    """The list of a split that is up to date (or, in a dry run, whether it would be written)."""
    if settled.status == "up-to-date":
        from stages.artifacts import open_artifact
        from stages.data.annotation_list import write_list

        with open_artifact(job.out, kind="split") as split:
            count = split.whole_attr("n_chosen", int(split["visible"].sum()))
            rank = split["rank"]
        if not job.options.dry_run:
            write_list(path, job.artifact("dataset"), rank, count, force=False)
        elif not path.exists():
            return replace(settled, status="would-run", reasons=(f"{path} does not exist",))
    return settled


def _split_index(data: Artifact, name: str) -> int:
    from stages.data.dataset import split_names_of

    names = split_names_of(data)
    if name not in names:
        raise UsageError(
            f"unknown split {name!r}",
            facts=[f"{data.path} has: {', '.join(names)}"],
            hint=nearest_hint(name, names, "'{}'"),
        )
    return names.index(name)


@dataclass(frozen=True)
class _Choice:
    """rank (R,) int64, -1 = no candidate; the first `count` ranks are chosen."""

    rank: np.ndarray
    count: int
    uncertainty: np.ndarray | None  # (R,) float32, NaN = no candidate
    summary: dict[str, Any]


def _choose(
    config: Config,
    data: Artifact,
    candidates: np.ndarray,
    listed: set[int],
    rec: Path | None,
    reporter: Reporter,
) -> _Choice:
    """By a list, by chance, or as the model says; within an image by chance."""
    ref_ids = data["referents/ref_id"]
    rank = np.full(len(ref_ids), -1, np.int64)
    ids = ref_ids[candidates]
    if config.import_list is not None:
        rank[candidates] = ranks_by_seed(ids, config.seed, first=[r not in listed for r in ids.tolist()])
        return _Choice(rank, len(listed), None, {})
    of, unit, what = ids, np.arange(len(ids)), "masks"
    if config.unit == "image":
        of, unit = np.unique(
            data["images/id"][data["referents/image_index"][candidates]], return_inverse=True
        )
        what = "images with a mask"
    count, place = _how_many(config, len(of), what), ranks_by_seed(of, config.seed)
    uncertainty: np.ndarray | None = None
    summary: dict[str, Any] = {}
    if rec is not None:
        place, values, summary = _ask_model(config, data.path, rec, candidates, unit, place, count, reporter)
        if values is not None:
            uncertainty = np.full(len(rank), np.nan, np.float32)
            uncertainty[candidates] = values
    rank[candidates] = ranks_by_seed(ids, config.seed, first=place[unit].tolist())
    return _Choice(rank, int((place[unit] < count).sum()), uncertainty, summary)


def _ask_model(
    config: Config,
    dataset: Path,
    rec: Path,
    candidates: np.ndarray,
    unit: np.ndarray,
    by_seed: np.ndarray,
    count: int,
    reporter: Reporter,
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Places (U,) of the units with the first `count` chosen by the model, uncertainty (K,) of the candidates if asked
    for, further lines of the summary. `unit` (K,): the unit of each candidate; `by_seed` (U,): their places by chance.
    """
    from stages.data.dataset import ReferringDataset
    from stages.inference.annotation import box_disagreement, box_entropy, box_features
    from stages.inference.devices import choose_device
    from stages.metrics.coverage import most_first, spread_first
    from stages.weights.model_file import load_model

    loaded, view = load_model(rec, choose_device(config.device)), ReferringDataset.open(dataset, masks="none")
    if config.strategy == "uncertain":
        ask = box_entropy if config.uncertainty == "entropy" else box_disagreement
        values = ask(loaded, view, candidates, batch_images=config.batch_images, reporter=reporter)
        place = most_first(values, unit, by_seed)
        means = {"mean": float(values.mean()), "mean_chosen": float(values[place[unit] < count].mean())}
        return place, values, {"uncertainty": {"of": config.uncertainty, **means}}
    features = box_features(loaded, view, candidates, batch_images=config.batch_images, reporter=reporter)
    place, distance = spread_first(features, unit, by_seed, count, seed=config.seed, reporter=reporter)
    return place, None, {"mean_distance_to_chosen": distance}


def _how_many(config: Config, available: int, what: str) -> int:
    """Units to show; a ratio is rounded to the nearest whole number, but never below one."""
    if config.count is not None:
        if config.count > available:
            raise UsageError(
                f"count must be at most {available}, got {config.count}",
                facts=[f"split {config.split_name!r} has {available} {what}"],
            )
        return config.count
    assert config.ratio is not None
    return min(available, max(1, int(config.ratio * available + 0.5)))
