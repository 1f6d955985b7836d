"""refine-masks: masks with edges out of boxes or pseudo labels; keep what agrees with the box and with what a model predicted.

In: a dataset (pictures and boxes, never a mask), perhaps its pseudo points, or a split that says whose masks are known; a
segmenter. Out: pseudo points, so that resample-points takes either. It is a step of its own, because it is optional and
can be repeated without predicting again. Why: a contour of a dozen points, or the ellipse in a box, finds the object, but
not its edge; colours (GrabCut) or a promptable segmenter find edges, but not the object that the expression means.

A picture is encoded once for all of its boxes, and several pictures are worked on at once. A refined mask belongs to the referent: it replaces that of all its
sentences, whose tokens and confidences stay. A killed run goes on where it was when it is started again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.artifacts.whole_file import refuse_present
from stages.config import StageConfig, in_panel, option
from stages.errors import UsageError
from stages.reporter import Reporter, SilentReporter
from stages.world import ALONE, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stages.artifacts import ArtifactWriter
    from stages.data.dataset import ReferringDataset
    from stages.metrics.selection import Candidates
    from stages.refinement.resume import Found
    from stages.refinement.segmenter import Segmenter
    from stages.refinement.verdict import Rule, Verdict

STAGE = "refine-masks"
STAGE_VERSION = 2
_AT_ONCE = 8  # boxes: a few masks of the picture's size each
# One is read and judged while a promptable segmenter looks at the other; GrabCut: as many as threads
_PICTURES_AT_ONCE = 2
_COLUMNS = ("referent_index", "sentence_index", "tokens", "token_probability", "box_xyxy", "confidence")
_often = in_panel("Set most often")


@dataclass(frozen=True)
class Config(StageConfig):
    """Which segmenter, how it is asked, and when it is believed."""

    segmenter: str = _often(
        "grabcut",
        "grabcut (by colour), folder or hub id of a SAM-like model, or ENCODER.onnx,DECODER.onnx or their folder",
        formerly="sam",
    )  # fmt: skip
    start: Literal["ellipse", "box"] = option(
        "ellipse", "without --pseudo: the mask in the known box that stays where no better one is found"
    )
    splits: tuple[str, ...] = option((), "without --pseudo: only referents of this split")
    prompt_points: int = option(
        3, "points inside a predicted contour that a segmenter is given with the box", min=0, max=16
    )
    max_prompts: int = option(
        3, "prompts for a box, at most, to an ONNX segmenter whose mask leaves sides of the box untouched", min=1,
        max=3,
    )  # fmt: skip
    min_box_iou: float | None = option(
        None, "least IoU of a mask's extent with the box; default: 0.8, or 0.6 for a segmenter asked by box alone",
        min=0, max=1,
    )  # fmt: skip
    min_contour_iou: float | None = option(
        None, "least IoU with the contour it replaces; default: 0.5, or 0 for a segmenter asked by box alone", min=0,
        max=1, formerly="min_outline_iou",
    )  # fmt: skip
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)


def run(
    config: Config,
    *,
    dataset: Path,
    out: Path,
    pseudo: Path | None = None,
    split: Path | None = None,
    overlays: Path | None = None,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Refine one mask a referent; write all rows of `pseudo`, or one a sentence of what has only a box.

    Raises:
        UsageError: options that exclude each other, or a package is missing.
        ArtifactError: an input or the segmenter cannot be used, or `pseudo` was not made from `dataset`.
        StaleOutputError: `out` exists and was made from something else.
    """
    job = _open(config, dataset, out, pseudo, split, overlays, options)
    settled = job.settled()

    from stages.figures.photo_masks import draw_photographs, picture_paths

    if settled is not None:
        if overlays is not None and settled.status == "up-to-date" and not options.dry_run:
            draw_photographs(dataset, out, overlays, reporter, missing_only=True)
        return settled

    import torch

    from stages.data.dataset import ReferringDataset
    from stages.inference.devices import choose_device
    from stages.metrics.selection import best_sentences
    from stages.refinement.load import GRABCUT, load_segmenter
    from stages.refinement.resume import Found

    view = ReferringDataset.open(dataset, masks="none")
    if overlays is not None and not options.force and job.world.first:
        refuse_present(picture_paths(view, overlays))
    source = open_pseudo(job, reporter) if pseudo is not None else start_from_boxes(job, view, split, config)
    rows = best_sentences(source.candidates)
    predicted = "start" not in source.attributes
    segmenter, job.device = load_segmenter(
        config.segmenter, choose_device(config.device),
        prompt_points=config.prompt_points if predicted else 0, max_prompts=config.max_prompts,
    )  # fmt: skip
    rule = rule_of(config, predicted)
    at_once = torch.get_num_threads() if config.segmenter == GRABCUT else _PICTURES_AT_ONCE
    work = Refinement(view, source.candidates, rows, segmenter, rule, at_once)
    if not job.world.first:
        refine(work, None, reporter, job.world)
        return job.wait()
    found, finished = Found(Path(out), job.fingerprint), False
    try:
        verdicts = refine(work, found, reporter, job.world)
        scores = _scores_after(source.candidates, rows, verdicts)
        summary = summarise(source, rows, verdicts, scores, rule)
        with job.writer() as w:
            _write(w, view.digest, source, rows, verdicts, scores, config)
            w.json("summary", summary)
        finished = True
    finally:
        found.close(finished=finished)
    if overlays is not None:
        draw_photographs(dataset, out, overlays, reporter, missing_only=False)
    return job.result(summary)


def _open(
    config: Config, dataset: Path, out: Path, pseudo: Path | None, split: Path | None, overlays: Path | None,
    options: RunOptions,
) -> StageJob:  # fmt: skip
    """The inputs, which belong together."""
    from stages.artifacts.target import require_folder_target
    from stages.refinement.load import segmenter_files

    if pseudo is not None and (split is not None or config.splits):
        raise UsageError(
            "--split and --splits choose what to start from boxes, --pseudo has chosen already",
            hint="leave out one of them",
        )
    if overlays is not None:
        require_folder_target(overlays, "--overlays")
    job = StageJob(
        STAGE, STAGE_VERSION, config, "pseudo_points", out, options=options,
        inputs={"dataset": (dataset, "dataset"), "pseudo": (pseudo, "pseudo_points"), "split": (split, "split")},
        external={"segmenter": segmenter_files(config.segmenter)},
    )  # fmt: skip
    job.require_dataset("pseudo", "split")
    return job


@dataclass(frozen=True)
class Source:
    """What is refined: columns and attributes of pseudo labels, from a file or made here."""

    candidates: Candidates
    columns: Mapping[str, Any]
    attributes: Mapping[str, Any]


def open_pseudo(job: StageJob, reporter: Reporter) -> Source:
    """The labels of `--pseudo`."""
    from stages.metrics.selection import read_candidates

    artifact = job.artifact("pseudo")
    columns = {name: artifact[name] for name in (*_COLUMNS, "projection_score")}
    names = [name for name in ("model_digest", "prompt", "start") if name in artifact.attrs]
    candidates = read_candidates(job.artifact("dataset"), artifact, reporter)
    attributes: dict[str, Any] = {name: artifact.attrs[name] for name in names}
    attributes |= {"pseudo_digest": artifact.digest, "n_points": candidates.n_points}
    return Source(candidates, columns, attributes)


def start_from_boxes(job: StageJob, view: ReferringDataset, split: Path | None, config: Config) -> Source:
    """Ellipses or boxes of the referents whose masks are not known; without a split none is."""
    from stages.data.dataset import ReferringDataset
    from stages.metrics.selection import Candidates
    from stages.refinement.starts import box_only, starts_from_boxes

    known = (
        None if split is None else ReferringDataset.open(view.path, split=split, masks="split").mask_visible
    )
    sentences = box_only(view, config.splits, known)
    starts = starts_from_boxes(view, sentences, config.start)
    referent = view.sentence_referent[sentences].astype(np.int64)
    candidates = Candidates(
        referent=referent,
        sentence=sentences,
        confidence=starts.columns["confidence"].astype(np.float32),
        score=starts.columns["projection_score"].astype(np.float64),
        drawn=starts.points.lengths >= 2,
        n_points=int(starts.attributes["n_points"]),
        boxes_xyxy=view.boxes_xyxy[referent],
        sizes_hw=view.image_sizes_hw[view.referent_image[referent]],
        pseudo=None,
        points=starts.points,
        masks=None,
    )
    return Source(candidates, starts.columns, starts.attributes)


def rule_of(config: Config, predicted: bool) -> Rule:
    """When a mask is believed; `predicted`: a model has predicted what it replaces."""
    from stages.refinement.load import GRABCUT
    from stages.refinement.verdict import Rule

    promptable = config.segmenter != GRABCUT
    # An ellipse says no more about the object than its box. On 217 objects of COCO, masks of box IoU 0.6 to 0.8 are as
    # good as the ellipse or better.
    box_iou, contour_iou = (0.6, 0.0) if promptable and not predicted else (0.8, 0.5)
    return Rule(
        least_box_iou=box_iou if config.min_box_iou is None else config.min_box_iou,
        least_contour_iou=contour_iou if config.min_contour_iou is None else config.min_contour_iou,
        whole=promptable,
    )


@dataclass(frozen=True)
class Refinement:
    """What is to be refined (K chosen `rows` of the candidates), by whom, and at how many pictures at once."""

    view: ReferringDataset
    candidates: Candidates
    rows: NDArray[np.int64]
    segmenter: Segmenter
    rule: Rule
    at_once: int

    def pictures(self) -> list[NDArray[np.int64]]:
        """Positions among `rows`, picture by picture."""
        images = self._image_of(np.arange(len(self.rows)))
        order = np.argsort(images, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(images[order]) != 0) + 1) if len(order) else []

    def verdicts(self, here: NDArray[np.int64]) -> dict[int, Verdict]:
        """What became of the rows at these positions, all of one picture, which is encoded once."""
        from stages.geometry.rasterise import rle_area, rle_to_mask
        from stages.metrics.selection import row_mask
        from stages.refinement.verdict import NO_CONTOUR, judge, nothing

        c, rows = self.candidates, self.rows
        old = {int(i): row_mask(c, int(rows[i])) for i in here}
        verdicts = {i: nothing(NO_CONTOUR) for i in old}
        asked = [i for i, rle in old.items() if rle_area(rle) > 0]
        if not asked:
            return verdicts
        encoded = self.segmenter.encode(self.view.image(int(self._image_of(here[:1])[0])))
        for part in (asked[k : k + _AT_ONCE] for k in range(0, len(asked), _AT_ONCE)):
            boxes = c.boxes_xyxy[rows[part]]
            masks = np.stack([rle_to_mask(old[i]) for i in part])
            answers = self.segmenter.segment(encoded, boxes, masks)
            for i, box, offered, scores in zip(part, boxes, *answers, strict=True):
                verdicts[i] = judge(offered, scores, box, old[i], self.rule)
        return verdicts

    def _image_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.view.referent_image[self.candidates.referent[self.rows[positions]]]


def refine(work: Refinement, found: Found | None, reporter: Reporter, world: World = ALONE) -> list[Verdict]:
    """What became of each of the chosen rows; `found`, which only the first process has, keeps it picture by picture."""
    pictures = work.pictures()
    done = [] if found is None else [all(int(i) in found.verdicts for i in here) for here in pictures]
    done = world.broadcast(done)
    left = [here for here, is_done in zip(pictures, done, strict=True) if not is_done]
    if len(left) < len(pictures):
        reporter.info(f"goes on after {len(pictures) - len(left)} of {len(pictures)} pictures")
    block = work.at_once * world.size
    with (
        reporter.progress("refine", len(work.rows), unit="referent") as task,
        ThreadPoolExecutor(work.at_once) as pool,
    ):
        task.advance(len(work.rows) - sum(map(len, left)))
        for start in range(0, len(left), block):
            here = left[start : start + block]
            mine = list(pool.map(work.verdicts, world.share(here)))
            everyones = world.gather(mine)
            if found is not None:
                for k in range(len(here)):
                    found.add(everyones[k % world.size][k // world.size])
            task.advance(sum(map(len, here)))
    return [] if found is None else [found.verdicts[i] for i in range(len(work.rows))]


def _scores_after(c: Candidates, rows: NDArray[np.int64], verdicts: list[Verdict]) -> NDArray[np.float64]:
    """(K,) projection scores of what the referents have now."""
    from stages.geometry.projection import projection_scores
    from stages.refinement.verdict import REFINED

    scores = c.score[rows].copy()
    new = np.array([i for i, v in enumerate(verdicts) if v.reason == REFINED], np.int64)
    rles = [rle for i in new if (rle := verdicts[i].rle) is not None]
    scores[new] = projection_scores(rles, c.boxes_xyxy[rows[new]])
    return scores


def _write(
    w: ArtifactWriter,
    dataset_digest: str,
    source: Source,
    rows: NDArray[np.int64],
    verdicts: list[Verdict],
    scores: NDArray[np.float64],
    config: Config,
) -> None:
    """All columns; refined contours, masks and projection scores in place of the old."""
    from stages.refinement.load import GRABCUT
    from stages.refinement.verdict import REFINED

    c, by_model = source.candidates, config.segmenter != GRABCUT
    w.attr("dataset_digest", dataset_digest)
    for name, value in source.attributes.items():
        w.attr(name, value)
    if by_model:
        w.note_attr("segmenter", config.segmenter)
    for name in _COLUMNS:
        w.column(name, source.columns[name])
    # `rows` are in the order of their referents, each once
    of_row = np.searchsorted(c.referent[rows], c.referent)
    refined = np.array([v.reason == REFINED for v in verdicts], np.bool_)[of_row]
    _write_shapes(w, c, refined, of_row, verdicts, with_masks=by_model)
    score = source.columns["projection_score"].astype(np.float32)
    score[refined] = scores[of_row[refined]]
    w.column("projection_score", score)
    w.column("refined", refined)
    w.column("decisions/referent_index", c.referent[rows])
    w.column("decisions/sentence_index", c.sentence[rows])
    w.strings("decisions/reason", [v.reason for v in verdicts])
    w.column("decisions/box_iou", np.array([v.box_iou for v in verdicts], np.float32))
    w.column("decisions/outline_iou", np.array([v.contour_iou for v in verdicts], np.float32))
    if by_model:
        w.column("decisions/segmenter_score", np.array([v.score for v in verdicts], np.float32))


def _write_shapes(
    w: ArtifactWriter,
    c: Candidates,
    refined: NDArray[np.bool_],
    of_row: NDArray[np.int64],
    verdicts: list[Verdict],
    *,
    with_masks: bool,
) -> None:
    """Contours, and masks where the rows had some or the segmenter gives more than a contour can hold."""
    from stages.geometry.runs import pack_rles

    old = c.points.load()
    rings = [verdicts[of_row[s]].contour_xy if refined[s] else old[s] for s in range(len(c.referent))]
    lengths = np.array([len(ring) for ring in rings], np.int64)
    w.ragged(
        "points_xy",
        np.concatenate(rings).astype(np.float32) if rings else np.zeros((0, 2), np.float32),
        np.concatenate(([0], lengths.cumsum())),
    )
    if c.masks is None and not with_masks:
        return
    masks: list[dict[str, Any]] = []
    for s in range(len(c.referent)):
        rle = verdicts[of_row[s]].rle if refined[s] else None
        kept = c.masks[s].tobytes() if c.masks is not None else b""
        masks.append(rle if rle is not None else {"counts": kept})
    w.ragged("masks/rle", *pack_rles(masks))


def summarise(
    source: Source, rows: NDArray[np.int64], verdicts: list[Verdict], scores: NDArray[np.float64], rule: Rule
) -> dict[str, Any]:
    """Counts by reason, and how well what was refined fits."""
    from stages.refinement.verdict import REASONS, REFINED

    reasons = np.array([v.reason for v in verdicts], dtype=object)
    kept = reasons == REFINED

    def mean(values: Any) -> float | None:
        return float(np.mean(values)) if len(values) else None

    numbers = {
        "referents": len(rows),
        "sentences": len(source.candidates.referent),
        "refined": int(kept.sum()),
        "refined_share": float(kept.mean()) if len(rows) else 0.0,
        "left_as_they_were": {r: int((reasons == r).sum()) for r in REASONS if r != REFINED},
        "min_box_iou": rule.least_box_iou,
        "min_outline_iou": rule.least_contour_iou,
        "of_the_refined": {
            "box_iou_mean": mean([v.box_iou for v in verdicts if v.reason == REFINED]),
            "outline_iou_mean": mean([v.contour_iou for v in verdicts if v.reason == REFINED]),
            "projection_score_before": mean(source.candidates.score[rows][kept]),
            "projection_score_after": mean(scores[kept]),
        },
    }
    start = source.attributes.get("start")
    return {"start": start, **numbers} if start else numbers
