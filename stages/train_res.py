"""train-res: refine a comprehension model into one that predicts contours, from few masks (and pseudo points).

In: dataset, split (which masks may be seen), rec_model, optionally resampled_points. Out: a res_model artifact.
It exists because the box model already knows where a referent is; only the contour is new. Masks that the split
hides cannot be read here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.config import in_panel
from stages.errors import UsageError
from stages.models.config import ModelConfig
from stages.reporter import Reporter, SilentReporter
from stages.training.settings import TrainingSettings, with_used_precision

if TYPE_CHECKING:
    from torch import Tensor

    from stages.artifacts import Artifact
    from stages.data.dataset import ReferringDataset
    from stages.data.text import TextCodec
    from stages.models.build import ReferringModel
    from stages.training.loader import ContourTable
    from stages.training.loop import Trainer

STAGE = "train-res"
STAGE_VERSION = 5
ELLIPSE_POINTS = 80
_often = in_panel("Set most often")
_architecture = in_panel("Sequence and model")
_start = in_panel("Training data and start")
_crop = in_panel("Crop refinement")
_detectors = in_panel("Detectors (MDETR, SiRi)")


@dataclass(frozen=True)
class Config(TrainingSettings):
    """What the sequence looks like and how to optimise; the defaults suit RefShapes."""

    sequence: Literal["contour", "box-contour", "multitask"] = _architecture(
        "box-contour", "what is predicted: the contour; the box, then the contour; or what the [TASK] token asks for",
    )  # fmt: skip
    task_token: Literal["zero", "learnable", "task-wise"] = _architecture(
        "learnable", "[TASK] token: zero = plain fine-tuning, learnable = the paper, task-wise = multitask"
    )
    points: int | None = _architecture(
        None, "points of a contour; default: the preset's", min=3, flag="n-points"
    )
    text_in_memory: Literal["none", "sentence", "words"] | None = _architecture(
        None, "text tokens beside the image cells; default: as in the REC model"
    )
    cctf: bool = _architecture(True, "add the image content at each predicted coordinate")
    pmca: bool = _architecture(True, "let each predicted point modulate the cross-attention")
    zoom: int = _often(0, "crop refinement: pixels of the window around the box; 0 = off", min=0)
    zoom_margin: float = _crop(
        0.15, "margin of the window, as a share of the box's longer side", min=0.0, max=1.0
    )
    rotate: float = _crop(
        0.0, "rotate referents of known contour by up to so many degrees", min=0.0, max=180.0, added=True
    )
    paste: float = _crop(
        0.0, "chance that a referent with a visible mask is pasted onto another image", min=0.0, max=1.0, added=True,
    )  # fmt: skip
    frozen: Literal["none", "all", "all-but-last-two"] | None = _architecture(
        None, "backbone layers that are not trained; default: as in the REC model"
    )
    auxiliary_mask: int = _crop(
        4, "auxiliary mask head: cells per memory cell and axis; 0 = off", min=0, formerly="grounding"
    )
    point_content: bool = _architecture(
        True, "add the finer image feature at each finished point (beyond the paper)"
    )
    train_split: str = _start("train", "split that is trained on")
    box_only_images: int = _start(
        4, "images in a step that train the box alone (sequences that start with it)", min=0
    )
    from_weights: Literal["best", "ema", "raw"] = _start(
        "best", "weights of --rec and --init to start from: best or last average, or raw"
    )
    ellipse_weight: float = _start(
        0.0, "weight of the ellipse in the box, for referents known by their box alone; 0 = off", min=0.0, added=True,
    )  # fmt: skip
    mask_images: int = _start(
        0, "images in a step at least that show a visible mask, with --points or --ellipse-weight; 0 = by chance",
        min=0, added=True,
    )  # fmt: skip
    init_keep: Literal["all", "encoder"] = _start(
        "all", "what of --init is kept: all, or all but the decoder and token embeddings", added=True
    )
    from_scratch: bool = _start(False, "take the architecture of the REC model, not its weights (a baseline)")
    pseudo_weight: float = _start(
        1.0, "weight of pseudo points in the loss, times the weight of each", min=0.0
    )
    mask_head: Literal["embedding", "attention"] = _detectors(
        "embedding", "mask head: embedding times pixel features, or refined attention maps"
    )
    freeze_detector: bool = _detectors(False, "train the mask head alone")
    mask_weight: float = _detectors(1.0, "weight of the pixel-level cross-entropy of the masks", min=0.0)
    dice_weight: float = _detectors(0.0, "weight of their Dice loss", min=0.0)
    focal_weight: float = _detectors(0.0, "weight of their focal loss", min=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rotate", "paste"):
            if getattr(self, name) and not self.zoom:
                raise UsageError(
                    f"{name} {getattr(self, name):g} needs crop refinement, which is off",
                    hint="add --zoom, the side of the window in pixels, e.g. --zoom 112",
                )


def run(
    config: Config,
    *,
    dataset: Path,
    split: Path,
    rec: Path,
    out: Path,
    points: Path | None = None,
    init: Path | None = None,
    resume: bool = False,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Train contours on the visible masks (and pseudo points) and write the model.

    With `init`, a res_model of the same architecture, the weights start from there; `rec` still finds the windows of
    crop refinement.

    Raises ArtifactError when the inputs do not belong together or no mask is visible, UsageError when options
    contradict each other, TrainingError when the loss is not finite.
    """
    check_start(config, init)
    job = _job(config, dataset, split, rec, points, init, out, options)
    config = job.complete(with_used_precision(config))
    if settled := job.settled():
        return settled

    import torch

    from stages.data.dataset import ReferringDataset
    from stages.models.build import build_model
    from stages.training.selection import chosen_row, keep_back, selection_record
    from stages.weights.model_file import write_locator, write_model, write_selection

    data = ReferringDataset.open(dataset, split=split, masks="training")
    located = _read_rec(job.artifact("rec"), config)
    torch.manual_seed(config.seed)
    model = build_model(res_architecture(located.architecture, config), located.codec.size)
    _take_weights(model, located, job, config, reporter)
    held_out = keep_back(data, config.train_split, config.held_out, reporter)
    material = _material(data, config, points, held_out, model.config, reporter)
    trainer = _trainer(config, data, model, located, material, held_out, job, reporter)
    fitted = trainer.fit(resume=resume)
    if not job.world.first:
        return job.wait()
    best = chosen_row(fitted.history)
    selection = selection_record(data, config.train_split, held_out, best)
    summary: dict[str, Any] = {
        "task": "res",
        "sequence": model.config.sequence,
        **material.summary(),
        "epochs": len(fitted.history),
        "final": fitted.history[-1],
        "best": best,
        "selection": selection,
    }
    with job.writer() as w:
        w.attr("dataset_digest", data.digest)
        w.attr("split_digest", job.artifact("split").digest)
        w.attr("rec_digest", job.artifact("rec").digest)
        write_model(w, model.config, located.codec, fitted.weights, fitted.history)
        if model.config.zoom_margin is not None:
            write_locator(w, located.architecture, located.state)
        write_selection(w, selection, held_out)
        w.json("summary", summary)
        w.note_json("timing", {"training_seconds_after_epoch": fitted.seconds})
    trainer.forget()
    return job.result(summary)


def _job(
    config: Config, dataset: Path, split: Path, rec: Path, points: Path | None, init: Path | None, out: Path,
    options: RunOptions | None,
) -> StageJob:  # fmt: skip
    """The inputs, opened, and found to belong together."""
    kinds: dict[str, Any] = {
        "dataset": (dataset, "dataset"), "split": (split, "split"), "rec": (rec, ("rec_model", "res_model")),
        "points": (points, "resampled_points"), "init": (init, "res_model"),
    }  # fmt: skip
    job = StageJob(STAGE, STAGE_VERSION, config, "res_model", out, inputs=kinds, options=options)
    job.require_dataset("split", "points")
    return job


@dataclass(frozen=True)
class _Rec:
    """The comprehension model that training starts from, and that finds the windows of crop refinement."""

    architecture: ModelConfig
    codec: TextCodec
    state: dict[str, Tensor]
    where: str


def _read_rec(artifact: Artifact, config: Config) -> _Rec:
    from stages.data.text import codec_from_dict
    from stages.weights.model_file import architecture, read_weights

    state = read_weights(artifact, config.from_weights)
    codec = codec_from_dict(artifact.json("vocabulary"))
    return _Rec(architecture(artifact), codec, state, str(artifact.path))


def _take_weights(
    model: ReferringModel, rec: _Rec, job: StageJob, config: Config, reporter: Reporter
) -> None:
    """From the model of the round before, else from the REC model, unless the run starts from scratch."""
    from stages.training.start import start_from
    from stages.training.transfer import transfer_weights

    if "init" in job.inputs:
        init = job.artifact("init")
        warn_of_other_split(init, job.artifact("split"), reporter)
        reporter.info(start_from(model, rec.codec, init, config.init_keep, config.from_weights))
    elif not config.from_scratch:
        transfer = transfer_weights(model, rec.state)
        reporter.info(
            f"{len(transfer.copied)} tensors from the REC model, {len(transfer.started_anew)} started anew"
        )


@dataclass(frozen=True)
class _Material:
    """What is trained on: contours with their counts by origin, and sentences.

    Attributes:
        known: (S,) whose contour is known. masked: (M,) of them, those with a visible mask; none where all have one.
        box_only: sentences that train their box.
    """

    contours: ContourTable
    counts: dict[str, int]
    known: NDArray[np.int64]
    masked: NDArray[np.int64]
    box_only: NDArray[np.int64]

    def summary(self) -> dict[str, int]:
        return {
            "contours_from_masks": self.counts["masks"],
            "contours_from_pseudo_points": self.counts["pseudo"],
            "contours_from_ellipses": self.counts["ellipses"],
            "train_sentences": len(self.known),
            "box_only_sentences": len(self.box_only),
        }


def _material(
    data: ReferringDataset, config: Config, points: Path | None, held_out: NDArray[np.int64], m: ModelConfig,
    reporter: Reporter,
) -> _Material:  # fmt: skip
    referents = np.setdiff1d(data.referents_in(config.train_split), held_out)
    contours, counts = contour_table(data, config, points, referents)
    reporter.info(
        f"contours: {counts['masks']} from masks, {counts['pseudo']} pseudo, {counts['ellipses']} ellipses"
    )
    train = data.sentences_of(referents)
    owner = data.sentence_referent[train]
    known = contours.weight[owner] > 0
    masked = known & data.mask_visible[owner] & (counts["pseudo"] + counts["ellipses"] > 0)
    box_only = train[~known] if m.answers_boxes and not m.detector.frozen else train[:0]
    return _Material(contours, counts, train[known], train[masked], box_only)


def _trainer(
    config: Config,
    data: ReferringDataset,
    model: ReferringModel,
    rec: _Rec,
    material: _Material,
    held_out: NDArray[np.int64],
    job: StageJob,
    reporter: Reporter,
) -> Trainer:
    from stages.data.crop_refinement import CropRefinement
    from stages.inference.devices import choose_device
    from stages.models.build import build_model
    from stages.training.checkpoint import bytes_of_training, resume_path
    from stages.training.loader import StepDataset
    from stages.training.loop import Trainer
    from stages.training.objectives import MaskLossWeights, build_objective
    from stages.training.plan import StepPlan
    from stages.training.selection import validator
    from stages.training.targets import SlotWeights
    from stages.weights.model_file import LoadedModel, load_state

    plan = StepPlan(
        data, material.known, images=config.batch_images, per_image=config.expressions_per_image, seed=config.seed,
        steps=config.steps_per_epoch,
        beside=[(material.box_only, config.box_only_images), (material.masked, config.mask_images)],
    )  # fmt: skip
    weights = SlotWeights(first_box=config.first_box_weight, end=config.end_weight)
    referents = np.setdiff1d(data.referents_in(config.train_split), held_out)
    crops = CropRefinement(config.rotate, config.paste, np.unique(data.referent_image[referents]))
    steps = StepDataset(
        data, rec.codec, model.config, material.contours, config, weights, config.seed, crops, job.world
    )
    device, locator = choose_device(config.device), None
    if model.config.zoom_margin is not None:
        found = build_model(rec.architecture, rec.codec.size)
        load_state(found, rec.state, where=rec.where)
        locator = LoadedModel(found.to(device).eval(), rec.architecture, rec.codec, device)
    masks = MaskLossWeights(config.mask_weight, config.dice_weight, config.focal_weight)
    job.require_writable(bytes_of_training(model))
    return Trainer(
        model, rec.codec, config, plan, steps,
        validator(data, config, held_out, reporter, with_mask=True, locator=locator, world=job.world),
        device=device, reporter=reporter, resume_file=resume_path(job.out), fingerprint=job.fingerprint,
        objective=build_objective(model, config, masks), world=job.world,
    )  # fmt: skip


def check_start(config: Config, init: Path | None) -> None:
    """UsageError when the options name two places, or none, to take the weights from."""
    if init is not None and config.from_scratch:
        raise UsageError("from-scratch and init contradict each other", hint="leave one of them out")
    if init is None and config.init_keep != "all":
        raise UsageError(
            f"init-keep {config.init_keep} says what of another model is kept, but none is given",
            hint="add --init, the model of the round before",
        )


def warn_of_other_split(init: Artifact, split: Artifact, reporter: Reporter) -> None:
    """A model of the same dataset and another split may have learned from masks that this split hides."""
    same_data = init.attrs["dataset_digest"] == split.attrs["dataset_digest"]
    if same_data and init.attrs.get("split_digest") != split.digest:
        reporter.warn(
            f"{init.path} was trained with another split: it may know masks that {split.path} hides"
        )


def res_architecture(rec: ModelConfig, config: Config) -> ModelConfig:
    """The REC model's architecture with the sequence of this run; a detector gets a mask head instead."""
    vision = rec.vision if config.frozen is None else dataclasses.replace(rec.vision, frozen=config.frozen)
    if rec.family == "mdetr":
        if config.zoom:
            raise UsageError("a detector has no crop refinement", hint="leave --zoom out")
        if not config.mask_weight + config.dice_weight + config.focal_weight:
            raise UsageError("no mask loss is left: mask-weight, dice-weight and focal-weight are all 0")
        detector = dataclasses.replace(
            rec.detector, mask_head=config.mask_head, frozen=config.freeze_detector
        )
        return rec.replace(
            sequence="mask", n_points=config.points or rec.n_points, detector=detector, vision=vision
        )
    of_box = 0 if config.sequence == "contour" else rec.auxiliary_mask
    return rec.replace(
        vision=vision,
        sequence=config.sequence,
        task_token=config.task_token,
        n_points=config.points or rec.n_points,
        text_in_memory=config.text_in_memory or rec.text_in_memory,
        cctf=config.cctf,
        pmca=config.pmca,
        point_content=config.point_content,
        auxiliary_mask=config.auxiliary_mask if config.zoom else of_box,
        zoom_margin=config.zoom_margin if config.zoom else None,
        image=dataclasses.replace(rec.image, size=config.zoom) if config.zoom else rec.image,
    )


def contour_table(
    data: ReferringDataset, config: Config, points: Path | None, referents: NDArray[np.int64] | None = None
) -> tuple[ContourTable, dict[str, int]]:
    """Contours of the visible masks of `referents` (None = the train split's), then pseudo points, then ellipses of the
    others; counts of each.
    """
    from stages.artifacts import open_artifact
    from stages.errors import ArtifactError
    from stages.geometry.boxes import ellipse_in
    from stages.geometry.contours import largest_outer_contour
    from stages.training.loader import ContourTable

    if referents is None:
        referents = data.referents_in(config.train_split)
    contours, weights = {}, {}
    for r in referents:
        if data.mask_visible[r]:
            contour = largest_outer_contour(data.mask(int(r)))
            if len(contour) >= 3:
                contours[int(r)], weights[int(r)] = contour, 1.0
    n_masks = len(contours)
    if not n_masks and points is None:
        raise ArtifactError(
            f"the split shows no mask of {config.train_split!r}"
            + (" outside the images that are held out" if config.held_out else ""),
            hint="make one with: seqres split-masks --ratio 0.1 --dataset …",
        )
    if points is not None:
        with open_artifact(points, kind="resampled_points") as a:
            trained = set(referents.tolist())
            for r, contour, weight in zip(a["referent_index"], a["points_xy"], a["weight"], strict=True):
                if int(r) in trained and int(r) not in contours:
                    contours[int(r)], weights[int(r)] = contour, float(weight) * config.pseudo_weight
    n_drawn = len(contours)
    if config.ellipse_weight:
        for r in referents:
            if int(r) not in contours:
                contours[int(r)] = ellipse_in(data.boxes_xyxy[r], ELLIPSE_POINTS)
                weights[int(r)] = config.ellipse_weight
    counts = {"masks": n_masks, "pseudo": n_drawn - n_masks, "ellipses": len(contours) - n_drawn}
    return ContourTable.of_contours(len(data.boxes_xyxy), contours, weights), counts
