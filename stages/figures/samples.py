"""Which contour points and pseudo labels are drawn, and the PNG files of both kinds of figure.

The true contour is asked for through `Truth` alone, which knows where it may be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact
from stages.data.dataset import ReferringDataset
from stages.figures.attention_panels import AttentionRow, attention_figure, pseudo_label_figure
from stages.figures.overlays import Picture, png_bytes
from stages.figures.report import Figure
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import polygon_to_rle
from stages.geometry.resampling import resample_uniform
from stages.metrics.segmentation import overlaps
from stages.reporter import Reporter

if TYPE_CHECKING:
    from stages.inference.attention import AttentionSample

TRAIN = "train"


class Truth:
    """True contours where they may be shown."""

    def __init__(self, data: ReferringDataset, *, may_see_train: bool) -> None:
        self._data, self._may_see_train = data, may_see_train

    def allowed(self, referent: int) -> bool:
        data = self._data
        hidden = data.split_names[data.referent_split[referent]] == TRAIN and not self._may_see_train
        return bool(data.mask_visible[referent]) and not hidden

    def contour(self, referent: int) -> NDArray[Any] | None:
        """(M, 2) contour of the largest part, or None."""
        return largest_outer_contour(self._data.mask(referent)) if self.allowed(referent) else None

    def iou(self, points_xy: NDArray[Any], referent: int) -> float | None:
        """IoU of the filled contour with the true mask, or None where that may not be known."""
        if not self.allowed(referent):
            return None
        truth = self._data.mask_rle(referent)
        return float(overlaps([polygon_to_rle(points_xy, truth["size"])], [truth]).iou[0])


@dataclass
class Part:
    """Figures of one kind.

    Attributes:
        figures: entries for the page. files: name -> PNG.
        rows: (referent, sentence) of each figure.
        mean_iou: model -> mean IoU of the figures whose truth may be known, None without any.
    """

    figures: list[Figure] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    rows: list[tuple[int, int]] = field(default_factory=list)
    mean_iou: dict[str, float | None] = field(default_factory=dict)

    def add(self, name: str, picture: Picture, words: str, alt: str, row: tuple[int, int]) -> None:
        self.files[name] = png_bytes(picture)
        self.figures.append(Figure(name, words, alt))
        self.rows.append(row)


def spread_points(count: int, wanted: int, numbers: Sequence[int] = ()) -> list[int]:
    """Positions (from 0) of the contour points to show: `numbers` (from 1) that exist, else evenly spread."""
    if numbers:
        return [n - 1 for n in numbers if n <= count]
    wanted = min(wanted, count)
    return [i * count // wanted for i in range(wanted)]


def point_maps(sample: AttentionSample) -> NDArray[Any]:
    """(P, h, w) attention of each contour point: mean over the two steps that wrote its x and its y."""
    x = sample.step_of_point
    y = (x + 1).clip(max=len(sample.maps) - 1)
    return (sample.maps[x] + sample.maps[y]) / 2


def attention_part(
    data: ReferringDataset,
    sentences: Sequence[int],
    views: Mapping[str, list[AttentionSample]],
    truth: Truth,
    reporter: Reporter,
    *,
    points: int,
    numbers: Sequence[int] = (),
) -> Part:
    """Fig. 2: a picture a sentence, a row a model, a map for each of `points` (or `numbers`) of its contour."""
    part = Part()
    scores: dict[str, list[float]] = {label: [] for label in views}
    with reporter.progress("attention", len(sentences), "picture") as progress:
        for i, sentence in enumerate(sentences):
            referent = int(data.sentence_referent[sentence])
            rows, words = [], []
            for label, samples in views.items():
                sample = samples[i]
                iou = truth.iou(sample.points_xy, referent)
                if iou is not None:
                    scores[label].append(iou)
                words.append(label if iou is None else f"{label}: IoU {iou:.2f}")
                n = len(sample.points_xy)
                shown = None if sample.looks_once else spread_points(n, points, numbers)
                maps = sample.maps if shown is None else point_maps(sample)[shown]
                rows.append(AttentionRow(words[-1], sample.points_xy, shown, maps, sample.box_xyxy))
            text = data.texts[sentence]
            image = data.image(int(data.referent_image[referent]))
            picture = attention_figure(image, text, rows, truth.contour(referent))
            where = f"expression {sentence}, ref_id {data.ref_ids[referent]}: {'; '.join(words)}"
            alt = f"Contour and attention for “{text}”"
            part.add(f"attention_{i + 1:03d}.png", picture, where, alt, (referent, int(sentence)))
            progress.advance()
    part.mean_iou = {label: sum(s) / len(s) if s else None for label, s in scores.items()}
    return part


def pseudo_part(
    data: ReferringDataset,
    pseudo: Artifact | None,
    points: Artifact | None,
    truth: Truth,
    reporter: Reporter,
    *,
    count: int,
    seed: int,
) -> Part:
    """Fig. 3: pseudo mask, resampled pseudo points, true points, for `count` referents drawn with `seed`.

    Referents come from `points` (those kept), else from `pseudo`; with neither there is nothing to draw.
    """
    part = Part()
    source = points or pseudo
    if source is None or count == 0:
        return part
    referent, sentence = source["referent_index"], source["sentence_index"]
    order = np.random.default_rng([seed, 2]).permutation(len(referent))
    _, first = np.unique(referent[order], return_index=True)  # one row a referent
    shown = np.sort(order[np.sort(first)[:count]])
    drawn = {} if pseudo is None else _rows_by_sentence(pseudo, sentence[shown])
    with reporter.progress("pseudo labels", len(shown), "picture") as progress:
        for row in shown:
            r, s = int(referent[row]), int(sentence[row])
            rough, score = drawn.get(s, (np.zeros((0, 2)), np.nan))
            even = None if points is None else points.rows("points_xy", slice(row, row + 1))[0]
            contour = truth.contour(r)
            iou = None if even is None else truth.iou(even, r)
            known = "" if iou is None else f", IoU {iou:.2f}"
            captions = (
                "no pseudo file given" if pseudo is None else f"pseudo mask, projection score {score:.3f}",
                "not resampled" if even is None else f"{len(even)} resampled points{known}",
                "ground truth hidden or absent" if contour is None else "ground truth",
            )
            n = 12 if even is None else len(even)
            true_points = None if contour is None or not len(contour) else resample_uniform(contour, n)
            text = data.texts[s]
            image = data.image(int(data.referent_image[r]))
            picture = pseudo_label_figure(image, text, data.boxes_xyxy[r], rough, even, true_points, captions)
            where = f"expression {s}, ref_id {data.ref_ids[r]}: {'; '.join(captions)}"
            part.add(
                f"pseudo_{len(part.rows) + 1:03d}.png", picture, where, f"Pseudo label for “{text}”", (r, s)
            )
            progress.advance()
    return part


def _rows_by_sentence(pseudo: Artifact, sentences: NDArray[Any]) -> dict[int, tuple[NDArray[Any], float]]:
    """Sentence index -> (contour, projection score) of the pseudo points."""
    rows = np.flatnonzero(np.isin(pseudo["sentence_index"], sentences))
    owners, scores, rings = pseudo["sentence_index"], pseudo["projection_score"], pseudo.ragged("points_xy")
    return {int(owners[i]): (rings[int(i)], float(scores[i])) for i in rows}
