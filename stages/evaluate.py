"""Score a model on every sentence of the chosen splits (METHOD.md section 7).

In: a dataset, a model and, to score training referents, the split that says which masks may be seen. Out:
every prediction with its scores, and one table a split: boxes, masks, the trivial rows (box filled, ellipse
inscribed, with the predicted and with the true box) and what the number of points allows at best. Why: a
mask score means something only beside the rows that need no contour at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.config import StageConfig, in_panel, option, stored_value
from stages.errors import ArtifactError, UsageError
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from stages.artifacts import ArtifactWriter
    from stages.data.dataset import ReferringDataset
    from stages.inference.answers import Predictions
    from stages.metrics.measure import MaskScores
    from stages.metrics.split_scores import SplitScores
    from stages.weights.model_file import LoadedModel
    from stages.world import World

STAGE = "evaluate"
STAGE_VERSION = 1
TRAIN = "train"

_release = in_panel("Release compatibility")
_running = in_panel("Run")


@dataclass(frozen=True)
class Config(StageConfig):
    """What is scored, and how."""

    splits: tuple[str, ...] = option((), "splits to score; default: all but train")
    frame: Literal["original", "model"] = _release(
        "original", "pixels in which masks are compared; model: the resized picture"
    )
    box_prompt: bool = option(False, "give the model the ground-truth box and let it predict the contour")
    contour: Literal["decoder", "auxiliary", "ellipse"] = option(
        "decoder", "masks from the decoder's points, traced around the auxiliary mask, or the ellipse in the predicted box: "
        "what a model of boxes is worth as one of masks", added=True,
        formerly="outline", former_values={"decoder": "written", "auxiliary": "marked"},
    )  # fmt: skip
    max_expressions: int = option(
        0, "expressions of each split that are scored, spread evenly; 0 = all", min=0, formerly="max_sentences",
    )  # fmt: skip
    expressions: Literal["all", "one-random"] = _release(
        "all", "expressions of a referent that are scored", added=True, formerly="sentences"
    )
    seed: int = _release(0, "seed of --expressions one-random", min=0, added=True)
    weights: Literal["best", "ema", "raw"] = option("best", "weights of the model to use")
    precision: Literal["fp32", "bf16"] = _running(
        "fp32", "bf16: for a GPU; tokens differ slightly", added=True
    )
    batch_size: int = option(32, "images in a batch", min=1, semantic=False)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)


def run(
    config: Config,
    *,
    model: Path,
    dataset: Path,
    out: Path,
    split: Path | None = None,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Predict, measure, store.

    Raises:
        UsageError: an unknown split, masks of training referents without `split`, or a box prompt for a model
            whose sequence does not start with a box.
        ArtifactError: an input cannot be used, or `split` was not made from `dataset`.
    """
    kinds = {
        "dataset": (dataset, "dataset"), "model": (model, ("rec_model", "res_model")), "split": (split, "split"),
    }  # fmt: skip
    job = StageJob(STAGE, STAGE_VERSION, config, "evaluation", out, inputs=kinds, options=options)
    job.require_dataset("split")
    if settled := job.settled():
        return settled

    from stages.data.dataset import ReferringDataset

    task = "rec" if job.artifact("model").kind == "rec_model" else "res"
    if config.contour == "ellipse":  # masks of a model of boxes as well
        task = "res"
    masks: Literal["none", "split", "all"] = "none" if task == "rec" else "all" if split is None else "split"
    data = ReferringDataset.open(dataset, split=split, masks=masks)
    chosen = choose_splits(config, data, task, may_see_train=split is not None)
    loaded, chosen_by = _load(config, job, data, chosen, reporter)
    of_boxes = job.artifact("model").kind == "rec_model"
    if config.box_prompt and (of_boxes or not loaded.model.layout.box):
        raise UsageError(
            "--box-prompt needs a model whose sequence is a box and then a contour",
            facts=[f"{model} writes: {loaded.config.sequence}"],
        )
    scored = [_scored(name, config, data, loaded, task, reporter, job.world) for name in chosen]
    if not job.world.first:
        return job.wait()
    parts = [part for part in scored if part is not None]
    summary = {
        "task": task,
        "frame": config.frame,
        "box_prompt": config.box_prompt,
        "outline": stored_value(config, "contour"),
        "weights": config.weights,
        "weights_chosen_by": chosen_by,
        "precision": config.precision,
        "sentences": config.expressions,
        "n_points": loaded.config.n_points if task == "res" else None,
        "splits": {part.name: part.summary for part in parts},
    }
    with job.writer() as w:
        w.attr("dataset_digest", data.digest)
        w.attr("model_digest", job.artifact("model").digest)
        w.attr("task", task)
        w.attr("frame", config.frame)
        w.attr("split_names", list(data.split_names))
        _write(w, parts, data, task)
        w.json("summary", summary)
    return job.result(summary)


def _scored(
    name: str, config: Config, data: ReferringDataset, loaded: LoadedModel, task: str, reporter: Reporter, world: World
) -> SplitScores | None:  # fmt: skip
    """Predictions for a split and their scores; None in a process that is not the first."""
    from stages.inference.predictions import predict_sentences
    from stages.metrics.split_scores import SplitScores

    sentences = choose_sentences(data, name, config.max_expressions, config.expressions, config.seed)
    referents = data.sentence_referent[sentences]
    images = data.referent_image[referents]
    scores = SplitScores(name, sentences, data.boxes_xyxy[referents], data.mask_visible[referents])
    with reporter.progress(f"evaluate {name}", len(sentences), "expression") as bar:
        for rows in _blocks(images, config.batch_size, world.size):
            predicted = predict_sentences(
                loaded, data, sentences[rows], batch_images=config.batch_size, box_prompt=config.box_prompt,
                contour="decoder" if config.contour == "ellipse" else config.contour, world=world,
            )  # fmt: skip
            if config.contour == "ellipse":
                predicted = predicted.with_ellipses()
            if world.first:
                masks = None if task == "rec" else _measure(predicted, data, loaded, config)
                scores.put(rows, predicted.boxes_xyxy, predicted.points_xy, masks)
            bar.advance(len(rows))
    if not world.first:
        return None
    scores.summarise(images, referents, boxes_given=config.box_prompt)
    return scores


def _blocks(images: NDArray[Any], batch_images: int, processes: int) -> Iterator[NDArray[Any]]:
    """Rows whose predictions are in memory together: a batch of pictures for each process; images (S,)."""
    from stages.inference.picture_groups import picture_groups

    groups = picture_groups(images, batch_images)
    for k in range(0, len(groups), processes):
        yield np.sort(np.concatenate(groups[k : k + processes]))


def _load(
    config: Config, job: StageJob, data: ReferringDataset, chosen: Sequence[str], reporter: Reporter
) -> tuple[LoadedModel, str]:
    """The model, and what chose its weights; a warning where that was done on a split that is scored."""
    from stages.inference.devices import choose_device
    from stages.weights.model_file import load_model, weights_chosen_by

    model = job.artifact("model")
    loaded = load_model(
        model.path, choose_device(config.device), weights=config.weights, precision=config.precision
    )
    job.device = str(loaded.device)
    chosen_by, chosen_on = weights_chosen_by(model, config.weights)
    if chosen_on in chosen and model.attrs["dataset_digest"] == data.digest:
        reporter.warn(
            f"the weights called best were chosen on {chosen_on}, so their scores there are too good: use --weights ema"
        )
    return loaded, chosen_by


def compare(paths: Sequence[Path | str]) -> list[dict[str, Any]]:
    """Rows of one table over several evaluations; see `stages.metrics.tables.comparison`."""
    from stages.metrics.tables import comparison

    return comparison(paths)


def choose_splits(config: Config, data: ReferringDataset, task: str, *, may_see_train: bool) -> list[str]:
    """Names of the splits to score, in the dataset's order."""
    if config.splits:
        for name in config.splits:
            if len(data.referents_in(name)) == 0:
                raise UsageError(f"split {name!r} has no referents")
        chosen = [name for name in data.split_names if name in config.splits]
    else:
        chosen = [name for name in data.split_names if name != TRAIN and len(data.referents_in(name))]
    if not chosen:
        raise UsageError(
            "the dataset has no split but train", hint="seqres evaluate --splits train --split split.h5 …"
        )
    if TRAIN in chosen and task == "res" and not may_see_train:
        raise UsageError(
            "masks of train referents may be seen only where a split allows it",
            hint="add --split split.h5 (the one the model was trained with)",
        )
    return chosen


def choose_sentences(
    data: ReferringDataset, split: str, at_most: int, of_each: str = "all", seed: int = 0
) -> NDArray[Any]:
    """Sentences of a split in the dataset's order: all, or one of each referent; or `at_most` of them, spread evenly."""
    wanted = np.zeros(len(data.referent_split), dtype=bool)
    wanted[data.referents_in(split)] = True
    sentences = np.flatnonzero(wanted[data.sentence_referent])
    if of_each == "one-random":
        starts = np.flatnonzero(np.diff(data.sentence_referent[sentences], prepend=-1))
        counts = np.diff(np.append(starts, len(sentences)))
        sentences = sentences[starts + np.random.default_rng(seed).integers(0, np.maximum(counts, 1))]
    if 0 < at_most < len(sentences):
        sentences = sentences[np.arange(at_most) * len(sentences) // at_most]
    if len(sentences) == 0:
        raise ArtifactError(f"split {split!r} of {data.path} has no expressions")
    return sentences


def _measure(
    predictions: Predictions, data: ReferringDataset, loaded: LoadedModel, config: Config
) -> MaskScores:
    """Masks of the predictions whose referent has one, compared with it."""
    from stages.data.transforms import model_frame_size, padded
    from stages.geometry.rasterise import ellipse_to_rle, mask_to_rle, rle_to_mask
    from stages.metrics.measure import (
        Frame,
        ModelFrame,
        OriginalFrame,
        framed_box,
        measure_masks,
        predicted_rle,
    )

    def drawn_mask(i: int, frame: Frame) -> dict[str, Any]:
        """The mask of row i in the frame: the ellipse, or as the model drew it, else its filled points."""
        if config.contour == "ellipse":
            return ellipse_to_rle(framed_box(predictions.boxes_xyxy[i], frame), frame.size_hw)
        if not predictions.rles:
            return predicted_rle(predictions.points_xy[i], frame)
        return mask_to_rle(frame.mask(rle_to_mask(predictions.rles[i])))

    def frame_of(referent: int) -> Frame:
        height, width = (int(v) for v in data.image_sizes_hw[data.referent_image[referent]])
        if config.frame == "original":
            return OriginalFrame((height, width))
        image = loaded.config.image
        scaled = model_frame_size(height, width, image.size)
        return ModelFrame(
            (height, width), scaled, (padded(scaled[0], image.multiple), padded(scaled[1], image.multiple))
        )

    referents = data.sentence_referent[predictions.sentence_index]
    rows = data.mask_visible[referents].nonzero()[0]
    drawn = [drawn_mask(i, frame_of(int(referents[i]))) for i in rows]
    return measure_masks(
        drawn, predictions.boxes_xyxy[rows], data.boxes_xyxy[referents[rows]], referents[rows],
        data.mask, frame_of, loaded.config.n_points,
    )  # fmt: skip


def _write(w: ArtifactWriter, parts: Sequence[SplitScores], data: ReferringDataset, task: str) -> None:
    """One row a sentence; NaN (and an empty mask) where the referent has no mask that may be seen."""
    sentences = np.concatenate([p.sentences for p in parts])
    w.column("referent_index", data.sentence_referent[sentences])
    w.column("sentence_index", sentences)
    w.column("split", data.referent_split[data.sentence_referent[sentences]])
    w.column("predicted_box_xyxy", np.concatenate([p.boxes_xyxy for p in parts]))
    w.column("box_iou", np.concatenate([p.box_iou for p in parts]))
    if task == "rec":
        return
    w.ragged_stream("points_xy", (contour for p in parts for contour in p.contours()), np.float32, (2,))
    for k, name in enumerate(("mask_iou", "intersection", "union")):
        w.column(name, np.concatenate([p.masks["model"][:, k] for p in parts]))
    for row in ("filled_box", "ellipse", "true_filled_box", "true_ellipse", "upper_bound"):
        w.column(f"{row}_iou", np.concatenate([p.masks[row][:, 0] for p in parts]))
    w.ragged_stream("masks/rle", (counts for p in parts for counts in p.rles()))
