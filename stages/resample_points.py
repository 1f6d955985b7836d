"""Keep the pseudo labels that agree with their box and put uniform points on their outlines (METHOD.md
section 3, RPP).

In: a dataset (boxes and image sizes only, never a mask) and the pseudo points of its box-only referents,
one row a (referent, sentence). Out: at most one outline a referent, the reason for every referent kept or
dropped, and a histogram of scores. Why: a model trained on few masks draws many wrong contours; comparing
the projections of a contour with those of the known box finds most of them without any mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.config import check_ranges, option
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from stages.metrics.selection import Candidates

STAGE = "resample-points"
STAGE_VERSION = 1

KEPT = "kept"
NO_CONTOUR = "no contour"
LOW_CONFIDENCE = "low confidence"
ABOVE_THRESHOLD = "score above threshold"
# An outline just below the threshold was kept, so it shall count for something.
SMALLEST_PROJECTION_WEIGHT = 0.05


@dataclass(frozen=True)
class Config:
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

    def __post_init__(self) -> None:
        check_ranges(self)


def run(
    config: Config,
    *,
    dataset: Path,
    pseudo: Path,
    out: Path,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Select and resample.

    Raises:
        ArtifactError: an input cannot be used, or `pseudo` was not made from `dataset`.
        StaleOutputError: `out` exists and was made from something else.
    """
    job = StageJob(
        stage=STAGE,
        version=STAGE_VERSION,
        config=config,
        kind="resampled_points",
        out=out,
        inputs={"dataset": (dataset, "dataset"), "pseudo": (pseudo, "pseudo_points")},
        options=options,
    )
    job.require_same("dataset_digest", "pseudo", "dataset")
    settled = job.settled()
    if settled is not None:
        return settled

    import numpy as np

    from stages.metrics.selection import best_sentences, read_candidates, resample_rows

    candidates = read_candidates(job.artifact("dataset"), job.artifact("pseudo"), reporter)
    n = config.points or candidates.n_points
    rows = best_sentences(candidates, config.min_confidence)
    reasons = decide(candidates, rows, config)
    wanted = np.flatnonzero(reasons == KEPT)
    points, found = resample_rows(
        candidates,
        rows[wanted],
        n,
        fit=config.fit == "box",
        curve=config.between == "curve",
        reporter=reporter,
    )
    reasons[wanted[~found]] = NO_CONTOUR
    kept, points = rows[wanted[found]], points[found]
    summary = summarise(candidates, rows, reasons, n, config)

    score, confidence = candidates.score[kept], candidates.confidence[kept]
    with job.writer() as w:
        w.attr("dataset_digest", job.artifact("dataset").digest)
        w.attr("pseudo_digest", job.artifact("pseudo").digest)
        w.attr("n_points", n)
        w.column("referent_index", candidates.referent[kept])
        w.column("sentence_index", candidates.sentence[kept])
        w.column("points_xy", points)
        w.column("score", score.astype(np.float32))
        w.column("confidence", confidence)
        w.column("weight", training_weight(score, confidence, config))
        w.column("decisions/referent_index", candidates.referent[rows])
        w.strings("decisions/reason", reasons.tolist())
        w.column("decisions/score", candidates.score[rows].astype(np.float32))
        w.column("decisions/sentence_index", candidates.sentence[rows])
        w.json("summary", summary)
    return job.result(summary)


def decide(candidates: Candidates, rows: Any, config: Config) -> Any:
    """The reason (an object array of words) for the chosen row of each referent."""
    import numpy as np

    reasons = np.full(len(rows), ABOVE_THRESHOLD, dtype=object)
    reasons[candidates.score[rows] < config.score_threshold] = KEPT
    reasons[candidates.confidence[rows] < config.min_confidence] = LOW_CONFIDENCE
    reasons[~candidates.drawn[rows]] = NO_CONTOUR
    return reasons


def training_weight(score: Any, confidence: Any, config: Config) -> Any:
    """(K,) projection scores and (K,) confidences of kept outlines -> (K,) float32 weights in the loss.

    none: 1. confidence: c. projection: max(0.05, 1 - score / threshold). both: their product.
    """
    import numpy as np

    weight = np.ones(len(score))
    if config.weighting in ("projection", "both") and config.score_threshold:  # nothing is kept below 0
        weight = np.clip(1 - score / config.score_threshold, SMALLEST_PROJECTION_WEIGHT, 1.0)
    if config.weighting in ("confidence", "both"):
        weight = weight * confidence
    return weight.astype(np.float32)


def summarise(candidates: Candidates, rows: Any, reasons: Any, n: int, config: Config) -> dict[str, Any]:
    """Counts by reason and the histogram of the referents' best scores (fixed bins, the last one closed)."""
    import numpy as np

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
