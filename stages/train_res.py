"""train-res: refine a comprehension model into one that writes contours, from few masks (and pseudo points).

In: dataset, split (which masks may be seen), rec_model, optionally resampled_points. Out: a res_model artifact.
It exists because the box model already knows where a referent is; only the outline is new. Masks that the split
hides cannot be read here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.artifacts import RunOptions, StageJob, StageResult
from stages.config import check_ranges, in_panel
from stages.errors import UsageError
from stages.models.config import ModelConfig
from stages.reporter import Reporter, SilentReporter
from stages.training.settings import TrainingSettings, with_used_precision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.artifacts import Artifact
    from stages.data.dataset import ReferringDataset
    from stages.training.loader import ContourTable

STAGE = "train-res"
STAGE_VERSION = 2
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
        0, "images in a step that show a visible mask, with --points or --ellipse-weight; 0 = by chance", min=0,
        added=True,
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
        check_ranges(self)
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
    reporter: Reporter | None = None,
    options: RunOptions | None = None,
) -> StageResult:
    """Train contours on the visible masks (and pseudo points) and write the model.

    With `init`, a res_model of the same architecture, the weights start from there; `rec` still finds the windows of a
    second look.

    Raises ArtifactError when the inputs do not belong together or no mask is visible, UsageError when options
    contradict each other, TrainingError when the loss is not finite.
    """
    check_start(config, init)
    config = with_used_precision(config)
    job = StageJob(
        stage=STAGE, version=STAGE_VERSION, config=config, kind="res_model", out=out, options=options,
        inputs={
            "dataset": (dataset, "dataset"),
            "split": (split, "split"),
            "rec": (rec, ("rec_model", "res_model")),
            "points": (points, "resampled_points"),
            "init": (init, "res_model"),
        },
    )  # fmt: skip
    job.require_same("dataset_digest", "split", "dataset")
    if points is not None:
        job.require_same("dataset_digest", "points", "dataset")
    settled = job.settled()
    if settled:
        return settled

    import numpy as np
    import torch

    from stages.artifacts import open_artifact
    from stages.data.dataset import ReferringDataset
    from stages.data.second_look import SecondLook
    from stages.data.text import codec_from_dict
    from stages.inference.devices import choose_device
    from stages.inference.validation import score, some_sentences, validation_sentences
    from stages.models.build import build_model
    from stages.training.checkpoint import bytes_of_training, resume_path
    from stages.training.loader import StepDataset, StepPlan
    from stages.training.loop import Trainer
    from stages.training.objectives import MaskLossWeights, build_objective
    from stages.training.selection import (
        chosen_row,
        describe_held_out,
        held_out_referents,
        held_out_score,
        selection_record,
    )
    from stages.training.start import start_from
    from stages.training.targets import SlotWeights
    from stages.training.transfer import transfer_weights
    from stages.weights.model_file import (
        LoadedModel,
        load_state,
        read_weights,
        write_locator,
        write_model,
        write_selection,
    )
    from stages.weights.model_file import architecture as read_architecture

    reporter = reporter or SilentReporter()
    data = ReferringDataset.open(dataset, split=split, masks="split")
    with open_artifact(rec, kind=("rec_model", "res_model")) as a:
        rec_architecture = read_architecture(a)
        architecture = res_architecture(rec_architecture, config)
        codec = codec_from_dict(a.json("vocabulary"))
        state, rec_digest = read_weights(a, config.from_weights), a.digest
    torch.manual_seed(config.seed)
    model = build_model(architecture, codec.size)
    if init is not None:
        warn_of_other_split(job.artifact("init"), job.artifact("split"), reporter)
        reporter.info(start_from(model, codec, job.artifact("init"), config.init_keep, config.from_weights))
    elif not config.from_scratch:
        transfer = transfer_weights(model, state)
        reporter.info(
            f"{len(transfer.copied)} tensors from the REC model, {len(transfer.started_anew)} started anew"
        )
    held_out = held_out_referents(data, config.train_split, config.held_out)
    if len(held_out):
        reporter.info(describe_held_out(data, held_out))
    referents = np.setdiff1d(data.referents_in(config.train_split), held_out)
    contours, counts = contour_table(data, config, points, referents)
    reporter.info(
        f"contours: {counts['masks']} from masks, {counts['pseudo']} pseudo, {counts['ellipses']} ellipses"
    )
    train = data.sentences_of(referents)
    known = contours.weight[data.sentence_referent[train]] > 0
    masked = known & data.mask_visible[data.sentence_referent[train]]
    guessed = counts["pseudo"] + counts["ellipses"] > 0
    main = known & ~masked if config.mask_images and counts["masks"] and guessed else known
    trains_boxes = architecture.answers_boxes and not architecture.detector.frozen
    plan = StepPlan(
        data, train[main], images=config.batch_images, per_image=config.expressions_per_image, seed=config.seed,
        steps=config.steps_per_epoch,
        beside=[(train[~known], config.box_only_images if trains_boxes else 0), (train[known & ~main], config.mask_images)],
    )  # fmt: skip
    weights = SlotWeights(first_box=config.first_box_weight, end=config.end_weight)
    second_look = SecondLook(config.rotate, config.paste, np.unique(data.referent_image[referents]))
    steps = StepDataset(data, codec, architecture, contours, config, weights, config.seed, second_look)
    locator = None
    if architecture.zoom_margin is not None:
        found = build_model(rec_architecture, codec.size)
        load_state(found, state, where=str(rec))
        device = choose_device(config.device)
        locator = LoadedModel(found.to(device).eval(), rec_architecture, codec, device)
    watched = validation_sentences(
        data, config.validation_split, config.validation_expressions, with_mask=True, seed=config.seed
    )
    choosing = some_sentences(data, held_out, config.validation_expressions, config.seed)

    def validate(loaded: LoadedModel) -> dict[str, float]:
        loaded = dataclasses.replace(loaded, locator=locator)
        how: dict[str, Any] = {"batch_images": config.batch_images, "reporter": reporter}
        return score(loaded, data, watched, **how) | held_out_score(loaded, data, choosing, **how)

    trainer = Trainer(
        model, codec, config, plan, steps, validate,
        device=choose_device(config.device), reporter=reporter, resume_file=resume_path(out), fingerprint=job.fingerprint,
        objective=build_objective(model, config, MaskLossWeights(config.mask_weight, config.dice_weight, config.focal_weight)),
    )  # fmt: skip
    job.require_writable(bytes_of_training(model))
    fitted = trainer.fit(resume=resume)
    best = chosen_row(fitted.history)
    selection = selection_record(data, config.train_split, held_out, best)
    summary: dict[str, Any] = {
        "task": "res",
        "sequence": architecture.sequence,
        "contours_from_masks": counts["masks"],
        "contours_from_pseudo_points": counts["pseudo"],
        "contours_from_ellipses": counts["ellipses"],
        "train_sentences": int(known.sum()),
        "box_only_sentences": int((~known).sum()) if trains_boxes else 0,
        "epochs": len(fitted.history),
        "final": fitted.history[-1],
        "best": best,
        "selection": selection,
    }
    with job.writer() as w:
        w.attr("dataset_digest", data.digest)
        w.attr("split_digest", job.artifact("split").digest)
        w.attr("rec_digest", rec_digest)
        write_model(w, architecture, codec, fitted.weights, fitted.history)
        if locator is not None:
            write_locator(w, rec_architecture, state)
        write_selection(w, selection, held_out)
        w.json("summary", summary)
        w.note_json("timing", {"training_seconds_after_epoch": fitted.seconds})
    trainer.forget()
    return job.result(summary)


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
    return rec.replace(
        vision=vision,
        sequence=config.sequence,
        task_token=config.task_token,
        n_points=config.points or rec.n_points,
        text_in_memory=config.text_in_memory or rec.text_in_memory,
        cctf=config.cctf,
        pmca=config.pmca,
        point_content=config.point_content,
        grounding=config.auxiliary_mask
        if config.zoom
        else rec.grounding
        if config.sequence != "contour"
        else 0,
        zoom_margin=config.zoom_margin if config.zoom else None,
        image=dataclasses.replace(rec.image, size=config.zoom) if config.zoom else rec.image,
    )


def contour_table(
    data: ReferringDataset, config: Config, points: Path | None, referents: NDArray[np.int64] | None = None
) -> tuple[ContourTable, dict[str, int]]:
    """Outlines of the visible masks of `referents` (None = the train split's), then pseudo points, then ellipses of the
    others; counts of each.
    """
    from stages.artifacts import open_artifact
    from stages.errors import ArtifactError
    from stages.geometry.boxes import ellipse_in
    from stages.geometry.contours import largest_outer_contour
    from stages.training.loader import ContourTable

    if referents is None:
        referents = data.referents_in(config.train_split)
    rings, weights = {}, {}
    for r in referents:
        if data.mask_visible[r]:
            ring = largest_outer_contour(data.mask(int(r)))
            if len(ring) >= 3:
                rings[int(r)], weights[int(r)] = ring, 1.0
    n_masks = len(rings)
    if not n_masks and points is None:
        raise ArtifactError(
            f"the split shows no mask of {config.train_split!r}"
            + (" outside the images that are held out" if config.held_out else ""),
            hint="make one with: seqres split-masks --ratio 0.1 --dataset …",
        )
    if points is not None:
        with open_artifact(points, kind="resampled_points") as a:
            trained = set(referents.tolist())
            for r, ring, weight in zip(a["referent_index"], a["points_xy"], a["weight"], strict=True):
                if int(r) in trained and int(r) not in rings:
                    rings[int(r)], weights[int(r)] = ring, float(weight) * config.pseudo_weight
    n_drawn = len(rings)
    if config.ellipse_weight:
        for r in referents:
            if int(r) not in rings:
                rings[int(r)] = ellipse_in(data.boxes_xyxy[r], ELLIPSE_POINTS)
                weights[int(r)] = config.ellipse_weight
    return ContourTable.from_rings(len(data.boxes_xyxy), rings, weights), {
        "masks": n_masks,
        "pseudo": n_drawn - n_masks,
        "ellipses": len(rings) - n_drawn,
    }
