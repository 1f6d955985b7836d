"""Per-sample results -> the numbers that are printed (METHOD.md section 7), and several evaluations as one
table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.json_forms import Scores, problem_of_form
from stages.artifacts.reader import Artifact, open_artifact
from stages.errors import ArtifactError, UsageError
from stages.metrics.budget import cost_of, masks_seen
from stages.metrics.paired import SampleScores, paired_difference

BOX_METRICS = ("acc@0.5", "mean_box_iou")
MASK_METRICS = ("miou", "oiou", "pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9")

_COMPARED = ("difference", "standard_error")  # from the first file
_COSTS = ("masks_seen", "steps", "steps_x_images")  # columns about the trainings of a row
# kinds of files that tell what a training has seen
_COSTED = ("rec_model", "res_model", "pseudo_points", "resampled_points")

# rows of a mask table, in the order in which they are printed: name -> what it is
MODEL_ROW = "model"
MASK_ROWS: dict[str, str] = {
    MODEL_ROW: "the model's masks",
    "filled_box": "its box, filled",
    "ellipse": "ellipse in its box",
    "true_filled_box": "ground-truth box, filled",
    "true_ellipse": "ellipse in the ground-truth box",
    "upper_bound": "ground truth -> points -> mask",
}


def comparison(paths: Sequence[Path | str]) -> list[dict[str, Any]]:
    """One row a (split, file, method) of several evaluations, ready to print.

    Models among the files, and the pseudo and resampled points between their trainings, add to the row of a model how
    many masks it has seen and what its trainings on them cost (`masks_seen`, `steps`, `steps_x_images`).

    Keys: split, name (the file's stem for the model itself, else "stem: filled box" ...), weights (in words:
    what chose them; only in the row of the model itself), n_referents, n_sentences, frame, the box metrics and the mask metrics (None where not measured). Rows that do not
    depend on the model (true box, true ellipse, upper bound of the same number of points) appear once a
    split. `difference` and `standard_error`, in the rows of all models but the first: mIoU minus that of the first
    file, and how sure it is (`paired_difference`). `n_sentences_with_mask` says over how many the model's mask
    metrics are, where these are fewer than the sentences of its box metrics, else None.

    Raises:
        UsageError: no path.
        ArtifactError: a file is no evaluation, or they measure another dataset, frame or other sentences.
    """
    if not paths:
        raise UsageError("nothing to compare", hint="seqres evaluate --compare A.h5 B.h5")
    files = [open_artifact(Path(path), ("evaluation", *_COSTED)) for path in paths]
    evaluations = [_read(file) for file in files if file.kind == "evaluation"]
    if not evaluations:
        raise UsageError("no evaluation among the files", hint="seqres evaluate --compare A.h5 B.h5")
    _require_comparable(evaluations)
    costs = _costs([file for file in files if file.kind != "evaluation"])
    stems = [e["path"].stem for e in evaluations]
    names = [
        stem if stems.count(stem) == 1 else str(e["path"]) for stem, e in zip(stems, evaluations, strict=True)
    ]
    splits = list(dict.fromkeys(split for e in evaluations for split in e["summary"]["splits"]))
    rows: list[dict[str, Any]] = []
    for split in splits:
        shared: dict[str, dict[str, Any]] = {}
        for name, evaluation in zip(names, evaluations, strict=True):
            if split in evaluation["summary"]["splits"]:
                own = _rows_of(name, split, evaluation["summary"], shared)
                own[0] |= costs.get(evaluation["model"], {})
                if evaluation is not evaluations[0]:
                    own[0] |= _difference(evaluation, evaluations[0], split)
                rows += own
        rows += shared.values()
    if not costs:
        return rows
    first = ("split", "frame", "name", *_COSTS)
    return [{**{key: row.get(key) for key in first}, **row} for row in rows]


def _rows_of(
    name: str, split: str, summary: dict[str, Any], shared: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    part = summary["splits"][split]
    base = {"split": split, "frame": summary.get("frame")}
    boxes = {
        "n_referents": part["n_referents"],
        "n_sentences": part["n_sentences"],
        "n_sentences_with_mask": None,
    }
    metrics: dict[str, Any] = dict.fromkeys((*BOX_METRICS, *MASK_METRICS, *_COMPARED))
    own = {**base, "name": name, "weights": weights_words(summary)}
    rows = [{**own, **boxes, **metrics, **(part["rec"] or {})}]
    masks = part.get("res")
    if not masks:
        return rows
    with_mask = part.get("n_mask_sentences", part["n_sentences"])
    counted = boxes | {
        "n_referents": part.get("n_mask_referents", part["n_referents"]),
        "n_sentences": with_mask,
    }
    if with_mask != part["n_sentences"]:
        rows[0] |= {"n_sentences_with_mask": with_mask}
    rows[0] |= masks[MODEL_ROW]
    for key in ("filled_box", "ellipse"):
        rows.append(
            {**base, "name": f"{name}: {MASK_ROWS[key]}", "weights": None, **counted, **metrics, **masks[key]}
        )
    points = summary.get("n_points")  # a file made by hand may not tell
    for key in ("true_filled_box", "true_ellipse", "upper_bound"):
        label = MASK_ROWS[key] + (f" ({points} points)" if points and key == "upper_bound" else "")
        shared.setdefault(label, {**base, "name": label, "weights": None, **counted, **metrics, **masks[key]})
    return rows


def weights_words(summary: dict[str, Any]) -> str:
    """Which weights an evaluation is about, and what chose them; files of old versions do not tell."""
    words = summary.get("weights_chosen_by")
    if words is None:
        return "best, not told by what" if summary.get("weights", "best") == "best" else summary["weights"]
    return str(words) + (", bf16" if summary.get("precision") == "bf16" else "")


def _read(evaluation: Artifact) -> dict[str, Any]:
    with evaluation:
        attrs = evaluation.attrs
        return {
            "path": evaluation.path, "dataset": attrs["dataset_digest"], "model": attrs.get("model_digest"),
            "summary": scores_of(evaluation), "samples": _samples(evaluation),
        }  # fmt: skip


def _samples(evaluation: Artifact) -> dict[str, SampleScores]:
    """Split -> its scores; nothing where no masks were scored."""
    if "mask_iou" not in evaluation:
        return {}
    split, sentences, referents, iou = (
        evaluation[name] for name in ("split", "sentence_index", "referent_index", "mask_iou")
    )
    names = evaluation.attrs.get("split_names", ())
    rows = {str(name): np.flatnonzero(split == k) for k, name in enumerate(names)}
    return {name: SampleScores(sentences[at], referents[at], iou[at]) for name, at in rows.items() if len(at)}


def _difference(evaluation: dict[str, Any], base: dict[str, Any], split: str) -> dict[str, float | None]:
    own, first = evaluation["samples"].get(split), base["samples"].get(split)
    found = paired_difference(own, first) if own and first else None
    return dict(zip(_COMPARED, found or (None, None), strict=True))


def _costs(files: Sequence[Artifact]) -> dict[str, dict[str, Any]]:
    """Digest of a model -> the columns about its trainings."""
    by_digest, columns = {file.digest: file for file in files}, {}
    for digest, model in by_digest.items():
        if model.kind in ("rec_model", "res_model"):
            cost = cost_of(model, by_digest)
            seen = (None, None) if cost is None else (cost.steps, cost.images)
            columns[digest] = dict(zip(_COSTS, (masks_seen(model), *seen), strict=True))
    for file in files:
        file.close()
    return columns


def scores_of(evaluation: Artifact) -> dict[str, Any]:
    """The summary of an evaluation, in which every split has what the tables need.

    Raises:
        ArtifactError: a file made by hand, or changed, that lacks a part of it.
    """
    summary: dict[str, Any] = evaluation.json("summary")
    if problem := problem_of_form(Scores, "summary", summary):
        raise ArtifactError(f"{evaluation.path} holds no scores that can be shown", facts=[problem])
    return summary


def _require_comparable(evaluations: Sequence[dict[str, Any]]) -> None:
    first = evaluations[0]
    for other in evaluations[1:]:
        for what, a, b in (
            ("dataset", str(first["dataset"])[:12], str(other["dataset"])[:12]),
            ("frame", first["summary"].get("frame"), other["summary"].get("frame")),
        ):
            if a != b:
                raise ArtifactError(
                    f"{first['path']} and {other['path']} cannot be compared: they differ in {what}",
                    facts=[f"{first['path']}: {what} {a}", f"{other['path']}: {what} {b}"],
                    hint="evaluate both models on the same dataset with the same --frame",
                )
        for split, part in other["summary"]["splits"].items():
            mine = first["summary"]["splits"].get(split)
            if mine is not None and mine["n_sentences"] != part["n_sentences"]:
                raise ArtifactError(
                    f"{first['path']} and {other['path']} cannot be compared: they measured different "
                    f"expressions of {split}",
                    facts=[
                        f"{e['path']}: {e['summary']['splits'][split]['n_sentences']} expressions"
                        for e in (first, other)
                    ],
                    hint="evaluate both with the same --max-expressions",
                )
