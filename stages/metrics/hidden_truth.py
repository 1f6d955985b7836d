"""How good pseudo masks really are: a comparison with masks that the method never saw.

Outside the pipeline: no stage calls this, nothing is trained or selected with its result. It opens the masks of the
dataset artifact itself, whatever a split hides.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import open_artifact
from stages.artifacts.reader import Artifact
from stages.artifacts.whole_file import write_whole
from stages.errors import ArtifactError
from stages.geometry.rasterise import Rle, box_to_rle, ellipse_to_rle, empty_rle, polygon_to_rle, stored_rle
from stages.metrics.segmentation import overlaps

_PIECE = 2048


def audit_pseudo_labels(dataset: Path, pseudo: Path, points: Path) -> dict[str, Any]:
    """Mean IoU with the true masks of the referents that were labelled.

    One row of the pseudo labels counts for each referent: the one that the selection decided about. Referents without
    a mask in the dataset are left out.

    Returns:
        referents, kept, kept_share (of those with a true mask); mean IoU `all` (what the model drew, of every
        referent), `all_kept` (the same, of the kept), `kept` (the resampled contours that are learned from), and
        `ellipse`, `filled_box` (in the true box, of every referent), `kept_ellipse`, `kept_filled_box`. None where
        there is nothing to average.

    Raises:
        ArtifactError: the three files do not belong together.
    """
    with (
        open_artifact(dataset, "dataset") as d,
        open_artifact(pseudo, "pseudo_points") as p,
        open_artifact(points, "resampled_points") as r,
    ):
        _require_together(d, p, r)
        return _audit(d, p, r)


def cached_audit(dataset: Path, pseudo: Path, points: Path, folder: Path) -> dict[str, Any]:
    """`audit_pseudo_labels`, kept in `folder` under the name of the points' digest."""
    with open_artifact(points, "resampled_points") as artifact:
        kept = folder / f"{artifact.digest[:32]}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text("utf-8"))
        return found
    result = audit_pseudo_labels(dataset, pseudo, points)
    write_whole(kept, json.dumps(result, indent=1).encode("utf-8"))
    return result


def _audit(dataset: Artifact, pseudo: Artifact, points: Artifact) -> dict[str, Any]:
    has_mask = dataset["referents/has_mask"].astype(bool)
    referent, sentence = points["decisions/referent_index"], points["decisions/sentence_index"]
    rows = _row_of(pseudo, referent, sentence)
    known = has_mask[referent]
    referent, rows = referent[known], rows[known]
    contour_of = {int(r): i for i, r in enumerate(points["referent_index"])}
    contours = points["points_xy"]
    kept = np.array([int(r) in contour_of for r in referent], bool)
    columns: dict[str, list[NDArray[np.float64]]] = {
        k: [] for k in ("predicted", "ellipse", "box", "contour")
    }
    boxes, sizes = dataset["referents/box_xyxy"], dataset.referent_sizes_hw()
    true_masks = dataset.ragged("masks/rle")
    rings = pseudo.ragged("points_xy")
    masks = pseudo.ragged("masks/rle") if "masks/rle" in pseudo else None
    for begin in range(0, len(referent), _PIECE):
        part = referent[begin : begin + _PIECE]
        size = [(int(h), int(w)) for h, w in sizes[part]]
        truth: list[Rle] = [
            stored_rle(true_masks[int(r)], s, dataset.path) for r, s in zip(part, size, strict=True)
        ]

        def predicted_mask(row: int, s: tuple[int, int]) -> Rle:
            if masks is not None and len(masks[row]):
                return stored_rle(masks[row], s, pseudo.path)
            return polygon_to_rle(rings[row], s)

        def kept_mask(r: int, s: tuple[int, int]) -> Rle:
            return polygon_to_rle(contours[contour_of[r]], s) if r in contour_of else empty_rle(s)

        pairs = list(zip(part.tolist(), size, strict=True))
        here = rows[begin : begin + _PIECE].tolist()
        shapes = {
            "predicted": [predicted_mask(i, s) for i, s in zip(here, size, strict=True)],
            "contour": [kept_mask(r, s) for r, s in pairs],
            "ellipse": [ellipse_to_rle(boxes[r], s) for r, s in pairs],
            "box": [box_to_rle(boxes[r], s) for r, s in pairs],
        }
        for key, rles in shapes.items():
            columns[key].append(overlaps(rles, truth).iou)
    iou = {key: np.concatenate(parts) if parts else np.zeros(0) for key, parts in columns.items()}
    return {
        "referents": len(referent),
        "kept": int(kept.sum()),
        "kept_share": _mean(kept.astype(np.float64)),
        "all": _mean(iou["predicted"]),
        "all_kept": _mean(iou["predicted"][kept]),
        "kept_outlines": _mean(iou["contour"][kept]),
        "ellipse": _mean(iou["ellipse"]),
        "filled_box": _mean(iou["box"]),
        "kept_ellipse": _mean(iou["ellipse"][kept]),
        "kept_filled_box": _mean(iou["box"][kept]),
    }


def _row_of(pseudo: Artifact, referent: NDArray[np.int64], sentence: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of the pseudo labels that holds each (referent, sentence)."""
    place: Mapping[tuple[int, int], int] = {
        (int(r), int(s)): i
        for i, (r, s) in enumerate(zip(pseudo["referent_index"], pseudo["sentence_index"], strict=True))
    }
    pairs = [(int(r), int(s)) for r, s in zip(referent, sentence, strict=True)]
    for pair in pairs:
        if pair not in place:
            raise ArtifactError(f"{pseudo.path} has no row of referent {pair[0]}, sentence {pair[1]}")
    return np.array([place[pair] for pair in pairs], np.int64)


def _require_together(dataset: Artifact, pseudo: Artifact, points: Artifact) -> None:
    for artifact in (pseudo, points):
        if artifact.attrs["dataset_digest"] != dataset.digest:
            raise ArtifactError(f"{artifact.path} was not made from {dataset.path}")
        artifact.require_rows_of(dataset)
    if points.attrs["pseudo_digest"] != pseudo.digest:
        raise ArtifactError(f"{points.path} was not made from {pseudo.path}")


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
