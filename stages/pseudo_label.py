"""pseudo-label: let a res_model draw every referent whose mask is not known, or start from its box.

In: dataset, split, res_model (or none: `--start ellipse`). Out: pseudo_points, one row a (referent, sentence). It exists
because a model that saw few masks, but every box, predicts contours good enough to learn from. No mask of a training
referent can be read here; how good the drawings are is measured on another split (`--audit-split`), whose masks nothing
was trained on. The ellipse in the box needs no model, and refine-masks makes more of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.config import StageConfig, in_panel, option
from stages.errors import UsageError
from stages.reporter import Reporter, SilentReporter
from stages.shards import Shard

if TYPE_CHECKING:
    from stages.artifacts import ArtifactWriter
    from stages.data.dataset import ReferringDataset
    from stages.inference.answers import Predictions
    from stages.inference.pseudo_rows import PseudoRows
    from stages.weights.model_file import LoadedModel
    from stages.world import World

STAGE = "pseudo-label"
STAGE_VERSION = 2

_validation = in_panel("Validation")
_release = in_panel("Release compatibility")
_running = in_panel("Run")


@dataclass(frozen=True)
class Config(StageConfig):
    """Whom to label and how to decode."""

    start: Literal["model", "ellipse", "box"] = option(
        "model",
        "what is predicted: contours of --model, or without any model the ellipse in the known box, or that box",
        added=True,
    )  # fmt: skip
    train_split: str = option("train", "split whose referents without a visible mask are labelled")
    box_prompt: bool = option(
        True, "start the sequence with the known box, in models that predict box and contour; off: as the paper",
    )  # fmt: skip
    expressions_per_referent: int = option(
        0, "expressions of a referent that are asked, at most; 0 = all", min=0, formerly="sentences_per_referent",
    )  # fmt: skip
    expression_choice: Literal["first", "random"] = _release(
        "first", "which ones, if not all", added=True, formerly="sentence_choice"
    )
    contour: Literal["decoder", "auxiliary"] = option(
        "decoder", "contours from the decoder's points, or traced around the auxiliary mask", added=True,
        formerly="outline", former_values={"decoder": "written", "auxiliary": "marked"},
    )  # fmt: skip
    max_referents: int = option(
        0, "referents that are labelled, at most, chosen by the seed; 0 = all", min=0, added=True
    )
    frame: Literal["original", "model"] = _release(
        "original", "pixels of the contours; model: of the resized picture, read as original ones", added=True
    )
    weights: Literal["best", "ema", "raw"] = option(
        "best", "weights that predict: best or last average (the teacher), or raw"
    )
    precision: Literal["fp32", "bf16"] = _running(
        "fp32", "bf16: for a GPU; tokens differ slightly", added=True
    )
    audit_split: str = _validation("val", "split on whose masks the predictions are measured; empty = none")
    audit_expressions: int = _validation(
        500, "expressions of it that are measured; 0 = all", min=0, formerly="audit_sentences"
    )
    seed: int = option(0, "seed of all random choices", min=0)
    shard: str | None = _running(
        None,
        "label only part i of n, such as 2/4, into a file that seqres merge joins with the others",
        added=True,
    )
    batch_images: int = option(32, "images in a batch", semantic=False, min=1)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if Shard.of(self.shard) and self.start != "model":
            raise UsageError(
                f"--shard is for a model, and --start {self.start} needs none", hint="leave --shard out"
            )


def run(
    config: Config,
    *,
    dataset: Path,
    split: Path,
    out: Path,
    model: Path | None = None,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Draw every box-only referent and write sequences, rings and scores; of one shard, into a pseudo_shard.

    Raises ArtifactError when the inputs do not belong together, UsageError when there is a model and another start, or
    neither, when a box prompt is asked of a model whose sequence does not start with a box, or the model's frame of a
    model that does not see the whole picture.
    """
    _require_one_start(config, model)
    job = StageJob(
        STAGE, STAGE_VERSION, config, "pseudo_shard" if config.shard else "pseudo_points", out, options=options,
        inputs={"dataset": (dataset, "dataset"), "split": (split, "split"), "model": (model, "res_model")},
    )  # fmt: skip
    job.require_dataset("split")
    if settled := job.settled():
        return settled
    if model is None:
        return start_from_boxes(job, dataset, config) if job.world.first else job.wait()

    from stages.data.dataset import ReferringDataset, seen_referents
    from stages.inference.devices import choose_device
    from stages.inference.picture_groups import rows_of_shard
    from stages.inference.predictions import predict_sentences
    from stages.weights.model_file import held_out_referents_of, load_model, weights_chosen_by

    data = ReferringDataset.open(dataset, masks="none")
    device = choose_device(config.device)
    loaded = load_model(model, device, weights=config.weights, precision=config.precision)
    prompted = _prompted(config, loaded, reporter)
    held_out = held_out_referents_of(job.artifact("model"), data.digest)
    asked = unlabelled_sentences(data, seen_referents(job.artifact("split")), config, held_out)
    shard = Shard.of(config.shard)
    rows = rows_of_shard(data.referent_image[data.sentence_referent[asked]], config.batch_images, shard)
    predictions = predict_sentences(
        loaded, data, asked[rows], batch_images=config.batch_images, box_prompt=prompted, contour=config.contour,
        reporter=reporter, what="pseudo-label", world=job.world,
    )  # fmt: skip
    with_audit = shard is None or shard.number == 1
    audited = audit(loaded, dataset, split, config, prompted, reporter, job.world) if with_audit else None
    if not job.world.first:
        return job.wait()
    labels = _labels(config, data, predictions, loaded)
    summary = labels.summary(
        held_out=len(held_out),
        weights_chosen_by=weights_chosen_by(job.artifact("model"), config.weights)[0],
        prompt="box" if prompted else "none",
        audit=audited,
    )
    with job.writer() as w:
        _write_origin(w, config, data, loaded, summary["prompt"])
        w.json("summary", summary)
        if shard is None:
            labels.write(w)
        else:
            _write_shard(w, shard, job.fingerprint_with(shard=None), config.batch_images, rows, len(asked))
            labels.write(w, scores=np.float64)
    return job.result(summary)


def _require_one_start(config: Config, model: Path | None) -> None:
    if config.start != "model" and model is not None:
        raise UsageError(f"--start {config.start} takes no model", hint="leave --model or --start out")
    if config.start == "model" and model is None:
        raise UsageError(
            "pseudo-label needs --model, or --start ellipse",
            hint="without a model the ellipse in each box is written, which refine-masks improves",
        )


def _write_shard(
    w: ArtifactWriter, shard: Shard, whole: str, batch_images: int, rows: NDArray[np.int64], of: int
) -> None:
    """What merge needs to know beside the labels: their places `rows` among those `of` the whole."""
    w.attr("shard", str(shard))
    w.attr("whole", whole)
    w.attr("batch_images", batch_images)
    w.attr("n_rows", of)
    w.column("rows", rows)


def _prompted(config: Config, loaded: LoadedModel, reporter: Reporter) -> bool:
    """Whether the model is given the known box; a warning where that is asked for and it takes none."""
    prompted = config.box_prompt and loaded.config.sequence in ("box-contour", "multitask")
    if config.box_prompt and not prompted:
        reporter.warn(
            f"the model writes {loaded.config.sequence!r} sequences, which take no box prompt: decoding runs free"
        )
    return prompted


def _labels(
    config: Config, data: ReferringDataset, predictions: Predictions, loaded: LoadedModel
) -> PseudoRows:
    """The predictions, brought to the frame of the configuration, with their projection scores."""
    from stages.geometry.projection import projection_scores
    from stages.inference.pseudo_rows import PseudoRows

    referents = data.sentence_referent[predictions.sentence_index]
    sizes_hw = data.image_sizes_hw[data.referent_image[referents]]
    if config.frame == "model":
        leave_in_model_frame(predictions, sizes_hw, loaded)
    rles = predictions.masks([tuple(size) for size in sizes_hw])
    return PseudoRows.of(predictions, referents, projection_scores(rles, data.boxes_xyxy[referents]))


def _write_origin(
    w: ArtifactWriter, config: Config, data: ReferringDataset, loaded: LoadedModel, prompt: str
) -> None:
    """What predicted the contours, and with how many points."""
    from stages.inference.auxiliary_contours import POINTS_PER_DECODER_POINT

    w.attr("dataset_digest", data.digest)
    w.attr("model_digest", loaded.digest)
    w.attr("prompt", prompt)
    finer = POINTS_PER_DECODER_POINT if config.contour == "auxiliary" else 1
    w.attr("n_points", loaded.config.n_points * finer)


def start_from_boxes(job: StageJob, dataset: Path, config: Config) -> StageResult:
    """Rows that know no more than the box."""
    from stages.data.dataset import ReferringDataset
    from stages.refinement.starts import starts_from_boxes

    assert config.start != "model"
    data = ReferringDataset.open(dataset, masks="none")
    sentences = unlabelled_sentences(data, job.artifact("split")["visible"], config)
    starts = starts_from_boxes(data, sentences, config.start)
    score = starts.columns["projection_score"].astype(np.float64)
    summary = {
        "referents": len(np.unique(data.sentence_referent[sentences])),
        "sentences": len(sentences),
        "start": config.start,
        "empty": int((starts.points.lengths == 0).sum()),
        "projection_score": {"mean": float(score.mean()) if len(score) else None},
    }
    with job.writer() as w:
        w.attr("dataset_digest", data.digest)
        starts.write(w)
        w.json("summary", summary)
    return job.result(summary)


def unlabelled_sentences(
    data: ReferringDataset,
    visible: NDArray[np.bool_],
    config: Config,
    held_out: Sequence[int] | NDArray[np.int64] = (),
) -> NDArray[np.int64]:
    """Sentences of the split's referents (or of some) whose mask the split does not show.

    held_out: (H,) referents that chose the model's weights; they are left out.
    """
    referents = data.referents_in(config.train_split)
    chosen = np.zeros(len(data.boxes_xyxy), np.bool_)
    chosen[referents] = True
    chosen &= ~visible
    chosen[np.asarray(held_out, np.int64)] = False
    if config.max_referents and chosen.sum() > config.max_referents:
        some = np.random.default_rng([config.seed, 1]).permutation(np.flatnonzero(chosen))
        chosen[some[config.max_referents :]] = False
    sentences = np.flatnonzero(chosen[data.sentence_referent])
    if config.expressions_per_referent:
        owners = data.sentence_referent[sentences]
        rank = sentences - data.sentence_offsets[owners]
        if config.expression_choice == "random":
            draws = np.random.default_rng(config.seed).random(len(sentences))
            rank = rank[np.argsort(np.lexsort((draws, owners)))]  # a referent's sentences lie side by side
        sentences = sentences[rank < config.expressions_per_referent]
    return sentences


def leave_in_model_frame(predictions: Predictions, sizes_hw: NDArray[np.int64], loaded: LoadedModel) -> None:
    """Rings and boxes as the model drew them, in pixels of the resized picture (ODDITIES C4: harmless at 640 px only).

    Everything that follows takes them for original pixels, as the release does. sizes_hw: (S, 2) of the originals.
    """
    from stages.data.transforms import model_frame_size

    if predictions.rles or loaded.config.zoom_margin is not None:
        raise UsageError(
            "--frame model is for models that write points of the whole picture", hint="leave --frame out"
        )
    for i, (height, width) in enumerate(sizes_hw.tolist()):
        scaled_hw = model_frame_size(height, width, loaded.config.image.size)
        scale_xy = np.array([scaled_hw[1] / width, scaled_hw[0] / height], np.float32)
        predictions.points_xy[i] = predictions.points_xy[i] * scale_xy
        predictions.boxes_xyxy[i] *= np.tile(scale_xy, 2)


def audit(
    loaded: LoadedModel, dataset: Path, split: Path, config: Config, prompted: bool, reporter: Reporter, world: World
) -> dict[str, Any] | None:  # fmt: skip
    """The same drawings on a split with known masks, beside what the true box alone gives (METHOD.md section 6).

    Nothing in a process that is not the first.
    """
    from stages.data.dataset import ReferringDataset
    from stages.geometry.rasterise import box_to_rle, ellipse_to_rle
    from stages.inference.predictions import predict_sentences
    from stages.inference.validation import validation_sentences
    from stages.metrics.segmentation import overlaps

    data = ReferringDataset.open(dataset, split=split, masks="split")
    if (
        not config.audit_split
        or config.audit_split == config.train_split
        or config.audit_split not in data.split_names
    ):
        return None
    sentences = validation_sentences(
        data, config.audit_split, config.audit_expressions, with_mask=True, seed=config.seed
    )
    if not len(sentences):
        return None
    drawn = predict_sentences(
        loaded, data, sentences, batch_images=config.batch_images, box_prompt=prompted, contour=config.contour,
        reporter=reporter, what="audit", world=world,
    )  # fmt: skip
    if not world.first:
        return None
    referents = data.sentence_referent[sentences]
    truth = [data.mask_rle(int(r)) for r in referents]
    sizes = [t["size"] for t in truth]
    boxes = data.boxes_xyxy[referents]
    rows = {
        "pseudo_mask": drawn.masks(sizes),
        "filled_true_box": [box_to_rle(b, size) for b, size in zip(boxes, sizes, strict=True)],
        "ellipse_in_true_box": [ellipse_to_rle(b, size) for b, size in zip(boxes, sizes, strict=True)],
    }
    miou = {name: float(np.mean(overlaps(rles, truth).iou)) for name, rles in rows.items()}
    return {
        "split": config.audit_split,
        "sentences": len(sentences),
        "referents": len(np.unique(referents)),
        "miou": miou,
    }
