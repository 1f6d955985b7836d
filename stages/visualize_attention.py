"""visualize-attention: pictures of where a model looks while it places single contour points.

In: dataset, res_model, optionally a second one to compare with, pseudo points before and after resampling, and
the split that says which training masks may be shown. Out: an attention artifact with the contours and maps, and
beside it a folder of PNG files with one HTML page (supplement of the paper, Fig. 2 and 3). It exists because a
score does not tell whether the points follow the contour, nor why. With --measure also the numbers of a whole split: how
much of the attention lies on the referent, and how far from the point that is predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.artifacts.target import require_writable
from stages.config import StageConfig, in_panel, option
from stages.errors import UsageError
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from stages.data.dataset import ReferringDataset
    from stages.figures.samples import Truth
    from stages.inference.attention import AttentionSample
    from stages.metrics.attention import Attended

    # label of a model -> (expressions, what was measured of each)
    Measured = Mapping[str, tuple["NDArray[np.int64]", list[Attended]]]

STAGE = "visualize-attention"
STAGE_VERSION = 2
ATTENDED = ("in_mask", "in_box", "distance", "mask_share", "box_share")  # columns of what is measured
_inputs = in_panel("Inputs and output")


@dataclass(frozen=True)
class Config(StageConfig):
    """What is shown."""

    split_name: str = option("val", "split of the samples")
    samples: int = option(8, "samples, one expression of as many referents", min=0)
    with_mask: bool = option(False, "samples only where the ground-truth mask may be shown")
    expressions: tuple[int, ...] = option(
        (), "rows of the dataset's expressions to show instead", min=0, formerly="sentences"
    )
    ref_ids: tuple[int, ...] = option((), "ref ids to show instead, each with its first expression")
    attention_points: int = option(3, "points whose attention is shown, spread evenly", min=1, max=12)
    point_numbers: tuple[int, ...] = option((), "points to show instead, counted from 1", min=1)
    pseudo_samples: int = option(8, "pseudo labels to show", min=0)
    box_prompt: bool = option(False, "give the model the ground-truth box and let it predict the contour")
    show_hidden: bool = option(False, "show ground truth that the split hides, too; for eyes only")
    measure: bool = option(
        False, "also measure the attention of the whole split: share inside mask and box, distance from the point",
        added=True,
    )  # fmt: skip
    max_expressions: int = option(
        0, "expressions measured at most, a random choice; 0 = all", min=0, added=True
    )
    weights: Literal["best", "ema", "raw"] = option("best", "weights of the models to use")
    seed: int = option(0, "seed of the samples", min=0)
    figures: str | None = _inputs(
        None, "folder for pictures and page; default: OUT without .h5 and with _figures", semantic=False
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expressions and self.ref_ids:
            raise UsageError("expressions and ref-ids cannot be given together")


def run(
    config: Config,
    *,
    dataset: Path,
    model: Path,
    out: Path,
    compare_model: Path | None = None,
    pseudo: Path | None = None,
    points: Path | None = None,
    split: Path | None = None,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Run the models on the chosen sentences, draw, store.

    Raises:
        UsageError: an unknown split, sentence or ref_id.
        ArtifactError: an input cannot be used, inputs do not belong together, or the picture folder exists and
            is not one of ours.
    """
    from stages.figures.report import is_page, require_replaceable, write_folder

    job = _job(config, dataset, model, compare_model, pseudo, points, split, out, options)
    folder = Path(config.figures) if config.figures else out.with_name(f"{out.stem}_figures")
    require_replaceable(folder)
    settled = job.settled()
    if settled is None:
        require_writable(folder)
    if settled is not None and (settled.status == "would-run" or is_page(folder)):
        return settled
    if settled is not None and options.dry_run:  # an artifact whose pictures are gone is drawn again
        return replace(settled, status="would-run", reasons=(f"{folder} does not exist",))

    from stages.data.dataset import ReferringDataset
    from stages.figures.attention_page import attention_page
    from stages.figures.samples import Truth, attention_part, pseudo_part

    masks: Literal["all", "split"] = "split" if split is not None and not config.show_hidden else "all"
    data = ReferringDataset.open(dataset, split=split, masks=masks)
    truth = Truth(data, may_see_train=split is not None or config.show_hidden)
    sentences = choose_sentences(config, data, truth)
    models = [model] + ([compare_model] if compare_model else [])
    views, histories, measured = _views(config, job, data, sentences, models, reporter)
    attention = attention_part(
        data, sentences, views, truth, reporter, points=config.attention_points, numbers=config.point_numbers
    )
    labels = pseudo_part(
        data, job.inputs.get("pseudo"), job.inputs.get("points"), truth, reporter,
        count=config.pseudo_samples, seed=config.seed,
    )  # fmt: skip
    summary: dict[str, Any] = {
        "split": config.split_name,
        "samples": len(sentences),
        "models": list(views),
        "pseudo_samples": len(labels.figures),
        "figures": [f.file for f in (*attention.figures, *labels.figures)],
        "mean_iou_of_shown": attention.mean_iou,
    }
    means = {label: attention_means(rows) for label, (_, rows) in measured.items()}
    summary |= {"attention": means} if means else {}
    html = attention_page(config.split_name, attention, labels, histories, job.inputs, means)
    write_folder(folder, html, {**attention.files, **labels.files})
    with job.writer() as w:
        _write(w, job, data, sentences, views, labels.rows)
        _write_measured(w, data, measured)
        w.json("summary", summary)
    reporter.info(f"pictures: {folder / 'index.html'}")
    return job.result(summary)


def _job(
    config: Config, dataset: Path, model: Path, compare_model: Path | None, pseudo: Path | None, points: Path | None,
    split: Path | None, out: Path, options: RunOptions,
) -> StageJob:  # fmt: skip
    """The inputs, opened, and found to belong together."""
    kinds = {
        "dataset": (dataset, "dataset"), "model": (model, "res_model"), "compare_model": (compare_model, "res_model"),
        "pseudo": (pseudo, "pseudo_points"), "points": (points, "resampled_points"), "split": (split, "split"),
    }  # fmt: skip
    job = StageJob(STAGE, STAGE_VERSION, config, "attention", out, inputs=kinds, options=options)
    job.require_dataset("pseudo", "points", "split")
    if {"pseudo", "points"} <= job.inputs.keys():
        job.require_same("pseudo_digest", "points", "pseudo")
    return job


def _views(
    config: Config, job: StageJob, data: ReferringDataset, sentences: Sequence[int], models: Sequence[Path],
    reporter: Reporter,
) -> tuple[dict[str, list[AttentionSample]], dict[str, list[dict[str, Any]]], Measured]:  # fmt: skip
    """Predictions with attention, the training history, and what is measured, of each model by its label."""
    from stages.inference.attention import attention_for_sentences, measure_attention
    from stages.inference.devices import choose_device
    from stages.inference.validation import validation_sentences
    from stages.weights.model_file import load_model

    split: NDArray[np.int64] = np.zeros(0, np.int64)
    if config.measure:
        split = validation_sentences(
            data, config.split_name, config.max_expressions, with_mask=True, seed=config.seed
        )
        if not len(split):
            raise UsageError(f"no expression of split {config.split_name!r} has a mask that may be seen")
    views, histories, measured = {}, {}, {}
    for label, path in zip(distinct_labels(models), models, strict=True):
        reporter.info(f"attention of {path} for {len(sentences)} expressions")
        loaded = load_model(path, choose_device(config.device), weights=config.weights)
        job.device = str(loaded.device)
        views[label] = attention_for_sentences(
            loaded, data, np.asarray(sentences, np.int64), config.box_prompt
        )
        histories[label] = loaded.history
        if config.measure:
            measured[label] = split, measure_attention(loaded, data, split, config.box_prompt, reporter)
    return views, histories, measured


def attention_means(rows: Sequence[Attended]) -> dict[str, float | int | None]:
    """Means over the expressions with a contour, and what attention spread evenly would score there."""
    known = [row for row in rows if not np.isnan(row.in_mask)]
    table = np.array([[getattr(row, name) for name in ATTENDED] for row in known]).reshape(-1, len(ATTENDED))
    means: dict[str, float | int | None] = {
        "expressions": len(rows),
        "without_contour": len(rows) - len(known),
    }
    for name, column in zip(ATTENDED, table.T, strict=True):
        means[name] = float(np.nanmean(column)) if len(column) and not np.isnan(column).all() else None
    return means


def choose_sentences(config: Config, data: ReferringDataset, truth: Truth) -> list[int]:
    """Sentence indices to show: those asked for, else one sentence of each of `samples` random referents."""
    if config.expressions:
        beyond = [s for s in config.expressions if s >= len(data.texts)]
        if beyond:
            raise UsageError(f"expressions must be below {len(data.texts)}, got {beyond[0]}")
        return list(config.expressions)
    first, counts = data.sentence_offsets[:-1], np.diff(data.sentence_offsets)
    if config.ref_ids:
        row_of = {int(ref_id): r for r, ref_id in enumerate(data.ref_ids) if counts[r]}
        unknown = [i for i in config.ref_ids if i not in row_of]
        if unknown:
            raise UsageError(f"ref_id {unknown[0]} is not in {data.path}, or has no expression")
        return [int(first[row_of[i]]) for i in config.ref_ids]
    referents = data.referents_in(config.split_name)
    referents = referents[counts[referents] > 0]
    if config.with_mask:
        referents = referents[[truth.allowed(int(r)) for r in referents]]
    if len(referents) == 0 and config.samples:
        raise UsageError(
            f"nothing to show in split {config.split_name!r}",
            facts=["no referent has a mask that may be shown"] if config.with_mask else [],
            hint="add --split split.h5 for training referents, or choose another --split-name",
        )
    rng = np.random.default_rng([config.seed, 1])
    chosen = np.sort(rng.permutation(referents)[: config.samples])
    return [int(first[r] + rng.integers(counts[r])) for r in chosen]


def distinct_labels(paths: Sequence[Path]) -> list[str]:
    """File stems; numbered whole paths where stems agree."""
    stems = [p.stem for p in paths]
    return stems if len(set(stems)) == len(stems) else [f"{i + 1}: {p}" for i, p in enumerate(paths)]


def _write(
    w: Any,
    job: StageJob,
    data: ReferringDataset,
    sentences: Sequence[int],
    views: Mapping[str, list[AttentionSample]],
    labels: Sequence[tuple[int, int]],
) -> None:
    """One row a (model, sentence), models below each other; maps as float16, flattened, with their shapes."""
    from stages.artifacts.ragged import pack

    w.attr("dataset_digest", data.digest)
    for role, name in (("model", "model_digest"), ("compare_model", "compare_digest")):
        if role in job.inputs:
            w.attr(name, job.artifact(role).digest)
    samples = [s for view in views.values() for s in view]
    index = np.tile(np.asarray(sentences, np.int64), len(views))
    w.column("model", np.repeat(np.arange(len(views), dtype=np.int8), len(sentences)))
    w.column("sentence_index", index)
    w.column("referent_index", data.sentence_referent[index])
    w.ragged("tokens", *pack([s.tokens for s in samples], np.int32, ()))
    w.ragged("points_xy", *pack([s.points_xy for s in samples], np.float32, (2,)))
    w.ragged("step_of_point", *pack([s.step_of_point for s in samples], np.int64, ()))
    none = np.full(4, np.nan)
    boxes = [none if s.box_xyxy is None else s.box_xyxy for s in samples]
    w.column("box_xyxy", np.asarray(boxes, np.float32).reshape(-1, 4))
    w.column("map_shape", np.asarray([s.maps.shape for s in samples], np.int64).reshape(-1, 3))
    w.ragged("maps", *pack([s.maps.astype(np.float16).ravel() for s in samples], np.float16, ()))
    layers = [s.maps[:, None] if s.layer_maps is None else s.layer_maps for s in samples]
    w.ragged("layer_maps", *pack([m.astype(np.float16).ravel() for m in layers], np.float16, ()))
    pairs = np.asarray(labels, np.int64).reshape(-1, 2)
    w.column("pseudo/referent_index", pairs[:, 0])
    w.column("pseudo/sentence_index", pairs[:, 1])


def _write_measured(w: Any, data: ReferringDataset, measured: Measured) -> None:
    """One row a (model, expression), models below each other; nothing where nothing was measured."""
    if not measured:
        return
    index = np.concatenate([sentences for sentences, _ in measured.values()])
    w.column(
        "measured/model", np.repeat(np.arange(len(measured), dtype=np.int8), len(index) // len(measured))
    )
    w.column("measured/sentence_index", index)
    w.column("measured/referent_index", data.sentence_referent[index])
    for name in ATTENDED:
        values = [getattr(row, name) for _, rows in measured.values() for row in rows]
        w.column(f"measured/{name}", np.asarray(values, np.float32))
