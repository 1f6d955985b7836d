"""The page of visualize-attention: both kinds of figure, training charts, and what it was made from."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from stages.artifacts import Artifact
from stages.figures import overlays
from stages.figures.charts import histogram, line_chart
from stages.figures.report import Section, page
from stages.figures.samples import Part


def attention_page(
    split_name: str,
    attention: Part,
    labels: Part,
    histories: Mapping[str, list[dict[str, Any]]],
    inputs: Mapping[str, Artifact],
    measured: Mapping[str, Mapping[str, float | int | None]],
) -> str:
    """The HTML text. `histories`: model -> one row an epoch; `inputs`: role -> artifact, for the last table; `measured`:
    model -> means of the attention over the split, empty where it was not measured.
    """
    colours = {
        "prediction": overlays.PREDICTED,
        "chosen point": overlays.CHOSEN,
        "ground truth (where it may be shown)": overlays.TRUTH,
        "box": overlays.BOX,
    }
    sections = [
        Section(
            "Where the model looks",
            f"Samples of {split_name}. Left: the predicted contour. Right: cross-attention of the last decoder "
            "layer, mean of its heads and of the two steps that predict a point's x and y; bright = looked at most.",
            attention.figures,
            colours=colours,
        )
    ]
    if measured:
        sections.append(
            Section(
                "Attention, measured",
                f"Cross-attention of the last decoder layer on the image, over expressions of {split_name}: the share inside "
                "the true mask and the true box, and the mean distance from the point that is predicted, in memory cells.",
                table=[_measured_row(label, means) for label, means in measured.items()],
            )
        )
    scores = _score_charts(inputs.get("points"))
    if labels.figures or scores:
        sections.append(
            Section(
                "Pseudo labels",
                "Left: the contour predicted for a referent that is known by its box only. Middle: what is trained on. "
                "Right: the same number of points on the ground-truth contour.",
                labels.figures,
                scores,
            )
        )
    charts = history_charts(histories)
    if charts:
        sections.append(Section("Training", charts=charts))
    sources = [
        {"role": role, "file": str(a.path), "kind": a.kind, "digest": a.digest[:12]}
        for role, a in inputs.items()
    ]
    sections.append(Section("Made from", table=sources))
    return page(f"seqres: attention and contours, {split_name}", "", sections)


def _measured_row(label: str, means: Mapping[str, float | int | None]) -> dict[str, object]:
    def text(key: str) -> str:
        value = means[key]
        return "–" if value is None else f"{value:.3f}"

    return {
        "model": label,
        "expressions": means["expressions"],
        "in the mask": text("in_mask"),
        "in the box": text("in_box"),
        "distance, cells": text("distance"),
        "in the mask if spread evenly": text("mask_share"),
        "in the box if spread evenly": text("box_share"),
    }


_CHARTS = (
    ("Training loss", "loss", {"loss": ""}),
    ("Validation", "IoU", {"val_miou": "mIoU", "val_box_iou": "box IoU"}),
)


def history_charts(histories: Mapping[str, list[dict[str, Any]]]) -> list[Markup]:
    """SVG of the loss and of the validation scores by epoch, a line a model and score."""
    charts = []
    for title, y_label, keys in _CHARTS:
        series = {}
        for label, history in histories.items():
            for key, words in keys.items():
                line = [
                    (float(h["epoch"]), float(h[key]))
                    for h in history
                    if isinstance(h.get("epoch"), int | float) and isinstance(h.get(key), int | float)
                ]
                if line:
                    series[f"{label}: {words}" if words else label] = line
        if series:
            charts.append(line_chart(title, series, x_label="epoch", y_label=y_label))
    return charts


def _score_charts(points: Artifact | None) -> list[Markup]:
    """Histogram of projection scores, when the resampled points carry one."""
    found = points.json("summary").get("histogram") if points is not None and "summary" in points else None
    if not found:
        return []
    title, x_label = "Referents by projection score", "projection score (0 = agrees with the box)"
    return [histogram(title, found["edges"], found["counts"], x_label=x_label, y_label="referents")]
