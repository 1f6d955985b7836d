"""Keep the pseudo labels that agree with their box and put uniform points on their contours (METHOD.md
section 3, RPP).

In: a dataset (boxes and image sizes only, never a mask) and the pseudo points of its box-only referents,
one row a (referent, sentence). Out: at most one contour a referent, the reason for every referent kept or
dropped, and a histogram of scores. Why: a model trained on few masks predicts many wrong contours; comparing
the projections of a contour with those of the known box finds most of them without any mask. What a person decided
about them (decisions.json of the review page) counts more than the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.artifacts.whole_file import require_plain_file
from stages.config import StageConfig, option
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from stages.artifacts import Artifact, ArtifactWriter
    from stages.metrics.decisions import Decision
    from stages.metrics.selection import Candidates

STAGE = "resample-points"
STAGE_VERSION = 1

KEPT = "kept"
NO_CONTOUR = "no contour"
LOW_CONFIDENCE = "low confidence"
ABOVE_THRESHOLD = "score above threshold"
REJECTED = "review: rejected"
BY_PERSON = ("accepted", "corrected")  # words of decisions that keep a contour
# A contour just below the threshold was kept, so it shall count for something.
SMALLEST_PROJECTION_WEIGHT = 0.05


@dataclass(frozen=True)
class Config(StageConfig):
    """How pseudo labels are chosen and resampled."""

    score_threshold: float = option(
        0.1, "keep a contour whose projection score is below this", min=0.0, max=2.0
    )
    points: int | None = option(
        None, "points of each contour; default: as many as the model predicts", min=3, flag="n-points"
    )
    min_confidence: float = option(
        0.0, "ignore expressions whose mean token probability is below this", min=0.0, max=1.0
    )
    fit: str = option(
        "none", "box: stretch each kept contour to its box, then resample", choices=("none", "box")
    )
    between: str = option(
        "straight", "what joins predicted points: straight edges, or a smooth curve, which does not cut bends",
        choices=("straight", "curve"), added=True,
    )  # fmt: skip
    weighting: str = option(
        "none",
        "training weight: 1, token confidence, 1 - score / --score-threshold (projection), or both multiplied",
        choices=("none", "confidence", "projection", "both"),
    )  # fmt: skip


def run(
    config: Config,
    *,
    dataset: Path,
    pseudo: Path,
    out: Path,
    decisions: Path | None = None,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Select and resample.

    Args:
        decisions: file of a person's decisions about these pseudo labels (metrics/decisions.py). Rejected ones are dropped,
            accepted ones kept whatever their score, edited contours replace the contour; both then weigh 1 in training.

    Raises:
        ArtifactError: an input cannot be used, or `pseudo` was not made from `dataset`, or the decisions are about
            something else.
        StaleOutputError: `out` exists and was made from something else.
    """
    require_plain_file(decisions)
    job = StageJob(
        STAGE, STAGE_VERSION, config, "resampled_points", out, options=options, external={"decisions": decisions},
        inputs={"dataset": (dataset, "dataset"), "pseudo": (pseudo, "pseudo_points")},
    )  # fmt: skip
    job.require_dataset("pseudo")
    if settled := job.settled():
        return settled

    from stages.metrics.selection import read_candidates

    data, pseudo_labels = job.artifact("dataset"), job.artifact("pseudo")
    decided: dict[int, Decision] = {}
    if decisions is not None:
        from stages.metrics.decisions import read_decisions

        decided = read_decisions(decisions, data, pseudo_labels)
    candidates = read_candidates(data, pseudo_labels, reporter)
    n = config.points or candidates.n_points
    rows, words = _choose(config, data, candidates, decisions, decided)
    reasons = decide(candidates, rows, config, words)
    kept = _keep(config, candidates, rows, words, reasons, decided, n, reporter)
    summary = summarise(candidates, rows, reasons, n, config)
    if decisions is not None:
        summary["dropped"][REJECTED] = int((reasons == REJECTED).sum())
        summary["review"] = {word: int((words == word).sum()) for word in (*BY_PERSON, "rejected", "unsure")}
    with job.writer() as w:
        w.attr("dataset_digest", data.digest)
        w.attr("pseudo_digest", pseudo_labels.digest)
        w.attr("n_points", n)
        _write(w, candidates, rows, reasons, kept, config)
        if decisions is not None:
            w.strings("decisions/review", words.tolist())
        w.json("summary", summary)
    return job.result(summary)


def _choose(
    config: Config,
    data: Artifact,
    candidates: Candidates,
    decisions: Path | None,
    decided: dict[int, Decision],
) -> tuple[Any, Any]:
    """(R,) the row that speaks for each referent, (R,) words of the person's decisions, "" where there is none."""
    from stages.metrics.selection import best_sentences

    rows = best_sentences(candidates, config.min_confidence)
    words = np.full(len(rows), "", dtype=object)
    if decisions is not None:
        from stages.metrics.review import apply_decisions

        rows, words[:] = apply_decisions(decisions, decided, candidates, rows, data)
    return rows, words


@dataclass(frozen=True)
class _Kept:
    """K contours: rows (K,) of the candidates, points (K, n, 2) xy in pixels, by_person (K,) bool."""

    rows: Any
    points: Any
    by_person: Any


def _keep(
    config: Config, candidates: Candidates, rows: Any, words: Any, reasons: Any, decided: dict[int, Decision],
    n: int, reporter: Reporter,
) -> _Kept:  # fmt: skip
    """Resample what is to be kept; `reasons` learns what turns out to have no contour."""
    from stages.metrics.selection import resample_rows

    wanted = np.flatnonzero(reasons == KEPT)
    points, found = resample_rows(
        candidates, rows[wanted], n, fit=config.fit == "box", curve=config.between == "curve", reporter=reporter
    )  # fmt: skip
    for i in np.flatnonzero(words[wanted] == "corrected"):
        from stages.metrics.review import contour_points

        points[i], found[i] = contour_points(decided[int(candidates.referent[rows[wanted[i]]])], n), True
    reasons[wanted[~found]] = NO_CONTOUR
    return _Kept(rows[wanted[found]], points[found], np.isin(words[wanted[found]], BY_PERSON))


def _write(
    w: ArtifactWriter, candidates: Candidates, rows: Any, reasons: Any, kept: _Kept, config: Config
) -> None:
    """The contours, and what was decided about every referent."""
    score, confidence = candidates.score[kept.rows], candidates.confidence[kept.rows]
    weight = np.where(kept.by_person, np.float32(1), training_weight(score, confidence, config))
    w.column("referent_index", candidates.referent[kept.rows])
    w.column("sentence_index", candidates.sentence[kept.rows])
    w.column("points_xy", kept.points)
    w.column("score", score.astype(np.float32))
    w.column("confidence", confidence)
    w.column("weight", weight)
    w.column("decisions/referent_index", candidates.referent[rows])
    w.strings("decisions/reason", reasons.tolist())
    w.column("decisions/score", candidates.score[rows].astype(np.float32))
    w.column("decisions/sentence_index", candidates.sentence[rows])


def decide(candidates: Candidates, rows: Any, config: Config, words: Any) -> Any:
    """The reason (an object array of words) for the chosen row of each referent; `words` are a person's decisions."""
    reasons = np.full(len(rows), ABOVE_THRESHOLD, dtype=object)
    reasons[candidates.score[rows] < config.score_threshold] = KEPT
    reasons[candidates.confidence[rows] < config.min_confidence] = LOW_CONFIDENCE
    reasons[np.isin(words, BY_PERSON)] = KEPT
    reasons[~candidates.drawn[rows]] = NO_CONTOUR
    reasons[words == "rejected"] = REJECTED
    return reasons


def training_weight(score: Any, confidence: Any, config: Config) -> Any:
    """(K,) projection scores and (K,) confidences of kept contours -> (K,) float32 weights in the loss.

    none: 1. confidence: c. projection: max(0.05, 1 - score / threshold). both: their product.
    """
    weight = np.ones(len(score))
    if config.weighting in ("projection", "both") and config.score_threshold:  # nothing is kept below 0
        weight = np.clip(1 - score / config.score_threshold, SMALLEST_PROJECTION_WEIGHT, 1.0)
    if config.weighting in ("confidence", "both"):
        weight = weight * confidence
    return weight.astype(np.float32)


def summarise(candidates: Candidates, rows: Any, reasons: Any, n: int, config: Config) -> dict[str, Any]:
    """Counts by reason and the histogram of the referents' best scores (fixed bins, the last one closed)."""
    from stages.metrics.selection import SCORE_BINS

    score = candidates.score[rows]
    counts = {
        reason: int((reasons == reason).sum()) for reason in (NO_CONTOUR, LOW_CONFIDENCE, ABOVE_THRESHOLD)
    }
    kept = reasons == KEPT
    return {
        "referents": len(rows),
        "sentences": len(candidates.referent),
        "kept": int(kept.sum()),
        "kept_share": float(kept.mean()) if len(rows) else 0.0,
        "dropped": counts,
        "n_points": n,
        "score_threshold": config.score_threshold,
        "fit": config.fit,
        "mean_score_kept": float(score[kept].mean()) if kept.any() else None,
        "histogram": {
            "edges": list(SCORE_BINS),
            "counts": np.histogram(score[candidates.drawn[rows]], bins=SCORE_BINS)[0].tolist(),
        },
    }
