"""Numbers of a run that its files hold, arranged as the rows of tables: scores, budgets, sizes, masks seen, settings."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from stages.artifacts import Artifact
from stages.artifacts.json_forms import Scores, problem_of_form
from stages.metrics.budget import Cost, cost_of, masks_seen
from stages.metrics.tables import BOX_METRICS, MASK_METRICS, comparison

Row = dict[str, object]
SIZE_EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # of a box, as a share of the picture's area
SCORE_EDGES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
CONFIDENCE_EDGES = tuple(i / 10 for i in range(11))


def names_of(artifacts: Sequence[Artifact]) -> dict[str, str]:
    """Digest -> a short name; the folder is told where two files of one stem are there."""
    stems = [a.path.stem for a in artifacts]
    return {
        a.digest: a.path.stem if stems.count(a.path.stem) == 1 else f"{a.path.parent.name}/{a.path.stem}"
        for a in artifacts
    }


def has_scores(evaluation: Artifact) -> bool:
    """Whether its summary has a table row a split; a file made by hand may have none."""
    return problem_of_form(Scores, "summary", evaluation.json("summary")) is None


def comparable(evaluations: Sequence[Artifact]) -> list[list[Artifact]]:
    """Groups whose scores may stand in one table: the same frame and, split by split, the same number of sentences."""
    groups: dict[tuple[object, ...], list[Artifact]] = {}
    for e in evaluations:
        s = e.json("summary")
        counted = tuple((name, part.get("n_sentences")) for name, part in s["splits"].items())
        groups.setdefault((s.get("frame"), counted), []).append(e)
    return list(groups.values())


def score_rows(evaluations: Sequence[Artifact], files: Sequence[Artifact]) -> list[Row]:
    """One row a split and method, trivial rows included, with the masks seen and the training budget of each model.

    `files`: all of the run; models, and what lies between the trainings of one row, are taken from them.
    """
    models = [f for f in files if f.kind in ("rec_model", "res_model")]
    by_digest = {m.digest: m for m in models}
    costs = {m.digest: cost_of(m, {f.digest: f for f in files}) for m in models}
    model_of = {e.path.stem: by_digest.get(str(e.attrs["model_digest"])) for e in evaluations}
    rows: list[Row] = []
    for row in comparison([Path(e.path) for e in evaluations]):
        model = model_of.get(str(row["name"]))
        rows.append(
            {
                "name": row["name"],
                "split": row["split"],
                "weights": row.get("weights"),
                "masks seen": None if model is None else masks_seen(model),
                **_cost_columns(None if model is None else costs[model.digest]),
                **{key: row.get(key) for key in (*MASK_METRICS, *BOX_METRICS)},
                "sentences": row["n_sentences"],
                "pixels of": row["frame"],
            }
        )
    return _without_empty(rows)


def _cost_columns(cost: Cost | None) -> Row:
    return {
        "steps on masks": None if cost is None else cost.steps,
        "steps × images": None if cost is None else cost.images,
        "training budget (sequences)": None if cost is None else cost.sequences,
    }


def size_rows(evaluations: Sequence[Artifact], dataset: Artifact, names: dict[str, str]) -> list[Row]:
    """Mean IoU of the sentences of each evaluation by the share of the picture that the known box takes."""
    boxes, image = dataset["referents/box_xyxy"].astype(np.float64), dataset["referents/image_index"]
    pixels = dataset["images/height"][image].astype(np.float64) * dataset["images/width"][image]
    share = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / np.maximum(pixels, 1)
    bins = np.clip(np.digitize(share, SIZE_EDGES) - 1, 0, len(SIZE_EDGES) - 2)
    rows: list[Row] = []
    for e in evaluations:
        if "mask_iou" not in e:
            continue
        where = bins[e["referent_index"]]
        for key, words in (("mask_iou", ""), ("ellipse_iou", ": ellipse in its box")):
            if key not in e:
                continue
            iou = e[key]
            row: Row = {"name": names[e.digest] + words}
            for i, (low, high) in enumerate(pairwise(SIZE_EDGES)):
                inside = (where == i) & np.isfinite(iou)
                row[f"{low:.0%} to {high:.0%}"] = float(iou[inside].mean()) if inside.any() else None
            row["sentences"] = int(np.isfinite(iou).sum())
            rows.append(row)
    return _without_empty(rows)


def seen_rows(
    evaluations: Sequence[Artifact], models: Sequence[Artifact], names: dict[str, str]
) -> list[Row]:
    """mIoU by the number of masks seen, beside the ellipse in the predicted box; fewest masks first."""
    by_digest = {m.digest: m for m in models}
    rows: list[Row] = []
    for e in evaluations:
        model = by_digest.get(str(e.attrs["model_digest"]))
        seen = None if model is None else masks_seen(model)
        for split, part in e.json("summary")["splits"].items():
            if seen is not None and part.get("res"):
                res = part["res"]
                rows.append(
                    {
                        "masks seen": seen,
                        "name": names[e.digest],
                        "split": split,
                        "mIoU": res["model"]["miou"],
                        "ellipse in its box": res["ellipse"]["miou"],
                        "filled box": res["filled_box"]["miou"],
                    }
                )
    return sorted(rows, key=lambda row: (int(str(row["masks seen"])), str(row["name"])))


def settings_rows(artifacts: Sequence[Artifact], names: dict[str, str]) -> list[Row]:
    """One row a file: what made it, when, how long, from what, and the settings that are no defaults."""
    rows: list[Row] = []
    for a in artifacts:
        p = a.provenance
        settings = [
            f"{key.replace('_', '-')} {item.get('value')}"
            for key, item in p.get("config", {}).items()
            if isinstance(item, dict)
            and item.get("origin") in ("flag", "file", "call")
            and item.get("value") is not None
        ]
        inputs = [f"{i.get('role')} {str(i.get('digest'))[:8]}" for i in p.get("inputs", [])]
        rows.append(
            {
                "file": names[a.digest],
                "kind": a.kind,
                "digest": a.digest[:12],
                "stage": f"{p.get('stage', '–')} {p.get('stage_version', '')}".strip(),
                "finished (UTC)": p.get("ended_utc"),
                "seconds": p.get("seconds") if isinstance(p.get("seconds"), int | float) else None,
                "device": p.get("device"),
                "made from": ", ".join(inputs) or "–",
                "settings": ", ".join(settings) or "defaults",
            }
        )
    return rows


def counted(values: np.ndarray, edges: Sequence[float]) -> list[int]:
    """Values in each bin; those beyond the last edge count into the last bin, what is no number nowhere."""
    finite = values[np.isfinite(values)]
    return [int(n) for n in np.histogram(np.clip(finite, edges[0], edges[-1]), bins=list(edges))[0]]


def _without_empty(rows: list[Row]) -> list[Row]:
    """Columns that no row has a value in are left out."""
    keys = [key for key in (rows[0] if rows else {}) if any(row.get(key) is not None for row in rows)]
    return [{key: row.get(key) for key in keys} for row in rows]
