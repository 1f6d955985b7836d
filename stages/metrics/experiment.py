"""The numbers of an experiment: what each run scored, mean and spread over seeds, gains and shares of full
supervision.

Comparisons are made seed by seed and averaged then, so that what only depends on the seed drops out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.artifacts import open_artifact
from stages.errors import ArtifactError
from stages.metrics.budget import budget_of
from stages.metrics.experiment_rows import Row, RunFiles
from stages.metrics.hidden_truth import cached_audit
from stages.metrics.spread import Spread, spread
from stages.metrics.tables import BOX_METRICS, MASK_METRICS, MODEL_ROW, scores_of

Numbers = dict[str, float | None]

# rows of an evaluation whose mIoU stands beside the model's
TRIVIAL = ("filled_box", "ellipse", "true_filled_box", "true_ellipse", "upper_bound")


def measure_row(row: Row, split: str, dataset: Path, audits: Path) -> dict[str, Any]:
    """{"name", "label", "ratio", "printed", "seeds": {seed: numbers}, "missing": [seeds], "rounds": {seed: [...]},
    "curves": {seed: [(steps, mIoU)]}, "spread": {}}; `missing` are seeds whose evaluation is not there."""
    seeds: dict[int, Numbers] = {}
    rounds: dict[int, list[dict[str, Any]]] = {}
    missing = []
    for run in row.runs:
        if not run.evaluation.is_file():
            missing.append(run.seed)
            continue
        seeds[run.seed], rounds[run.seed] = _measure_run(run, split, dataset, audits)
    return {
        "name": row.name,
        "label": row.label,
        "ratio": row.ratio,
        "printed": dict(row.printed),
        "seeds": seeds,
        "missing": missing,
        "rounds": {seed: found for seed, found in rounds.items() if found},
        "curves": {
            run.seed: budget.curve for run in row.runs if (budget := budget_of(run.trainings)) is not None
        },
        "spread": {},
    }


def with_comparisons(
    measured: Mapping[str, dict[str, Any]], relations: Mapping[str, tuple[str | None, str | None]]
) -> None:
    """Add `gain` and `percent_of_full` to each run, then `spread` to each row, in place.

    Args:
        relations: row -> (the row it adds one thing to, the row that is 100 %); a row that was not measured counts
            as None.
    """
    for name, row in measured.items():
        basis, reference = (measured[o]["seeds"] if o and o in measured else {} for o in relations[name])
        for seed, numbers in row["seeds"].items():
            score = numbers.get("miou")
            before, full = basis.get(seed, {}).get("miou"), reference.get(seed, {}).get("miou")
            numbers["gain"] = None if score is None or before is None else score - before
            numbers["percent_of_full"] = None if score is None or not full else 100 * score / full
    for row in measured.values():
        keys = dict.fromkeys(key for numbers in row["seeds"].values() for key in numbers)
        spreads = {key: spread([n.get(key) for n in row["seeds"].values()]) for key in keys}
        row["spread"] = {key: found for key, found in spreads.items() if found is not None}


def spread_of(row: Mapping[str, Any], key: str) -> Spread | None:
    """A number of a measured row over its seeds."""
    found: Spread | None = row["spread"].get(key)
    return found


def _measure_run(
    run: RunFiles, split: str, dataset: Path, audits: Path
) -> tuple[Numbers, list[dict[str, Any]]]:
    """Numbers of one seed, and its rounds of pseudo labels or of SiRi."""
    numbers = _scores(run.evaluation, split)
    for column, evaluation in run.beside:
        if evaluation.is_file():
            numbers[column] = _scores(evaluation, split)["miou"]
    rounds: list[dict[str, Any]] = []
    if run.model is not None and run.model.is_file():
        with open_artifact(run.model, ("rec_model", "res_model")) as model:
            summary = model.json("summary") if "summary" in model else {}
        numbers["masks"] = summary.get("contours_from_masks")
        numbers["pseudo"] = summary.get("contours_from_pseudo_points")
        for one in summary.get("rounds", []):  # of SiRi
            best = one.get("best") or one.get("final", {})
            scores = {key: best[key] for key in ("val_box_acc50", "val_box_iou") if key in best}
            rounds.append({"round": one["round"], **scores})
    if run.attention is not None and run.attention.is_file():
        numbers |= _attention(run.attention)
    budget = budget_of(run.trainings)
    if budget is not None:
        numbers |= {
            "steps": budget.steps, "pictures": budget.pictures, "minutes": budget.minutes,
            "last_quarter": budget.last_quarter,
        }  # fmt: skip
    for pseudo, points in run.labels:
        if pseudo.is_file() and points.is_file():
            audit = cached_audit(dataset, pseudo, points, audits)
            rounds.append({"round": len(rounds) + 1, **audit})
            numbers |= {f"pseudo_{key}": value for key, value in audit.items()}
    return numbers, rounds


def _attention(path: Path) -> Numbers:
    """Means over the split, of the one model that was measured."""
    with open_artifact(path, "attention") as artifact:
        (means,) = artifact.json("summary")["attention"].values()
    names = ("in_mask", "in_box", "distance", "mask_share", "box_share")
    return {f"attention_{name}": means[name] for name in names}


def _scores(path: Path, split: str) -> Numbers:
    """Box and mask numbers of the model, and mIoU of its trivial rows; None where not measured."""
    with open_artifact(path, "evaluation") as artifact:
        splits = scores_of(artifact)["splits"]
    if split not in splits:
        raise ArtifactError(
            f"{path} has no scores of split {split!r}", facts=[f"it has: {', '.join(splits)}"]
        )
    part = splits[split]
    boxes, masks = part["rec"] or {}, part.get("res") or {}
    model = masks.get(MODEL_ROW, {})
    numbers: Numbers = {key: boxes.get(key) for key in BOX_METRICS}
    numbers |= {key: model.get(key) for key in MASK_METRICS}
    numbers |= {key: masks.get(key, {}).get("miou") for key in TRIVIAL}
    trivial = [v for v in (numbers["filled_box"], numbers["ellipse"]) if v is not None]
    score = numbers["miou"]
    numbers["above_trivial"] = None if score is None or not trivial else score - max(trivial)
    numbers["n_sentences"], numbers["n_referents"] = part["n_sentences"], part["n_referents"]
    return numbers
