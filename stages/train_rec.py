"""train-rec: learn to predict the box of every referent, from sentences and cheap boxes only.

In: a dataset artifact (its masks are never opened). Out: a rec_model artifact. It exists because boxes are cheap
and a point-sequence model carries what it learned from them over to contours (METHOD: refine from REC).
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
from stages.models.config import SHIPPED, DetectorConfig, ModelConfig
from stages.models.presets import PRESETS, preset, released
from stages.reporter import Reporter, SilentReporter
from stages.training.settings import TrainingSettings, with_used_precision

if TYPE_CHECKING:
    from stages.data.dataset import ReferringDataset
    from stages.data.text import TextCodec
    from stages.training.loop import Trainer

STAGE = "train-rec"
STAGE_VERSION = 5
_often = in_panel("Set most often")
_architecture = in_panel("Sequence and model")
_start = in_panel("Training data and start")
_detectors = in_panel("Detectors (MDETR, SiRi)")
_release = in_panel("Release compatibility")


@dataclass(frozen=True)
class Config(TrainingSettings):
    """Architecture and recipe of the comprehension model; the defaults suit RefShapes."""

    model: str = _often("refshapes-small", "architecture preset", choices=tuple(PRESETS))
    semantics: Literal["corrected", "release"] | None = _release(
        None, "release: as the public release wherever it differs; default: the preset's"
    )
    backbone: str | None = _architecture(
        None, "AutoBackbone (folder or hub id) or darknet .weights file; default: the preset's"
    )
    text_encoder: str | None = _architecture(
        None, "AutoModel for text: folder or hub id; default: the preset's"
    )
    glove: str | None = _architecture(None, "GloVe text file with vectors for the words of the GRU")
    train_split: str = _start("train", "split whose boxes are learned")
    bins: int | None = _architecture(None, "coordinate bins; default: the preset's", min=2)
    image_size: int | None = _architecture(None, "pixels of the longer side; default: the preset's", min=32)
    max_words: int | None = _architecture(
        None, "words of an expression that are read; default: the preset's", min=1
    )
    text_in_memory: Literal["none", "sentence", "words"] | None = _architecture(
        None, "text tokens beside the image cells; default: the preset's"
    )
    cctf: bool | None = _architecture(
        None, "add the image content at each predicted coordinate; default: the preset's"
    )
    pmca: bool | None = _architecture(
        None, "let each predicted point modulate the cross-attention; default: the preset's"
    )
    auxiliary_mask: int | None = _architecture(
        None,
        "auxiliary mask head on the box's inside: cells per memory cell and axis; 0 = off, default: the preset's",
        min=0, formerly="grounding",
    )  # fmt: skip
    frozen: Literal["none", "all", "all-but-last-two"] | None = _architecture(
        None, "backbone layers that are not trained; default: the preset's"
    )
    queries: int | None = _detectors(None, "boxes proposed for an expression; default: the preset's", min=1)
    second_decoder: bool | None = _detectors(
        None, "second decoder with a fixed 4 x 4 grid of queries (multi-task SiRi)"
    )
    contrastive: bool | None = _detectors(
        None, "align queries with the words that name them; default: the preset's"
    )
    retrain_rounds: int = _detectors(
        0, "SiRi: rounds that start over, each from the encoder of the one before", min=0
    )
    retrain_keep: Literal["encoder", "all"] = _detectors(
        "encoder", "what a new round, or --init, keeps of the averaged weights; all: a control"
    )
    frozen_statistics: bool | None = _release(
        None, "keep the batch-norm statistics of frozen layers; default: the preset's"
    )


def model_config(config: Config) -> ModelConfig:
    """The preset with the options that were given."""
    m = preset(config.model)
    given = {name: getattr(config, name) for name in ("text_in_memory", "cctf", "pmca", "auxiliary_mask")}
    changes = {k: v for k, v in (given | {"n_bins": config.bins}).items() if v is not None}
    if config.image_size:
        changes["image"] = dataclasses.replace(m.image, size=config.image_size)
    vision = m.vision if config.frozen is None else dataclasses.replace(m.vision, frozen=config.frozen)
    if config.frozen_statistics is not None:
        vision = dataclasses.replace(vision, frozen_batch_norm=config.frozen_statistics)
    if config.backbone and config.backbone.endswith(".weights"):
        vision = dataclasses.replace(vision, kind="darknet53", source=config.backbone, settings={})
    elif config.backbone:
        vision = dataclasses.replace(vision, kind="auto", source=config.backbone, settings={})
    text = m.text if config.max_words is None else dataclasses.replace(m.text, max_words=config.max_words)
    if config.text_encoder:
        text = dataclasses.replace(text, kind="auto", source=config.text_encoder, settings={})
    m = m.replace(
        sequence="box", task_token="zero", vision=vision, text=text, detector=_detector(m, config), **changes
    )
    if config.semantics is None or config.semantics == m.semantics:
        return m
    return released(m) if config.semantics == "release" else m.replace(semantics="corrected")


def _detector(m: ModelConfig, config: Config) -> DetectorConfig:
    """The preset's queries and heads with the options that were given; UsageError for options of the other family."""
    align = None if config.contrastive is None else (m.detector.align_dim or 64) * config.contrastive
    given = {"queries": config.queries, "second_decoder": config.second_decoder, "align_dim": align}
    changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    of_seqtr, of_mdetr = (
        ("cctf", "pmca", "bins", "text_in_memory"),
        ("queries", "second_decoder", "contrastive"),
    )
    for name in of_mdetr if m.family == "seqtr" else of_seqtr:
        if getattr(config, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is no option of the {m.family} family that {config.model!r} belongs to")
    return dataclasses.replace(m.detector, **changes)


def _local(source: str | None) -> Path | None:
    """A pretrained part that lies on this machine, so that its content is part of the fingerprint."""
    return Path(source) if source and Path(source).exists() else None


def check_sources(config: Config) -> None:
    """ArtifactError, before torch is loaded, for a pretrained part that is not there and that no hub can give."""
    from stages.hub import reachable_source

    if config.backbone and config.backbone not in SHIPPED and not Path(config.backbone).is_file():
        reachable_source(config.backbone, "backbone")
    if config.text_encoder:
        reachable_source(config.text_encoder, "text encoder")


def run(
    config: Config,
    *,
    dataset: Path,
    out: Path,
    init: Path | None = None,
    resume: bool = False,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Train on every box of the split and write the model.

    With `init`, a rec_model of the same architecture and words, the first training is a round after that one.

    Raises UsageError for an unknown split or preset, ArtifactError for a bad input, TrainingError when the loss is
    not finite.
    """
    parts = {"backbone": _local(config.backbone), "text_encoder": _local(config.text_encoder)}
    job = StageJob(
        STAGE, STAGE_VERSION, config, "rec_model", out, options=options, external={"glove": config.glove, **parts},
        inputs={"dataset": (dataset, "dataset"), "init": (init, "rec_model")},
    )  # fmt: skip
    check_sources(config)
    config = job.complete(with_used_precision(config))
    if settled := job.settled():
        return settled

    from stages.training.selection import chosen_row, selection_record
    from stages.training.siri import fit_rounds, forget_states, round_summaries
    from stages.training.start import require_same
    from stages.weights.model_file import read_weights, write_model, write_selection

    task = _open(config, dataset, reporter)
    start = None
    if init is not None:
        require_same(job.artifact("init"), task.architecture, task.codec)
        start = read_weights(job.artifact("init"), "ema")
    done = fit_rounds(
        lambda number: _trainer(config, task, number, job, reporter),
        rounds=config.retrain_rounds, keep=config.retrain_keep, out=out, resume=resume,
        start=start, fingerprint=job.fingerprint, reporter=reporter, world=job.world,
    )  # fmt: skip
    if not job.world.first:
        return job.wait()
    fitted, rounds = done.fitted, round_summaries(done.fitted.history)
    best = rounds[-1]["best"] if rounds else chosen_row(fitted.history)
    selection = selection_record(task.data, config.train_split, task.held_out, best)
    summary = {
        "task": "rec",
        "model": config.model,
        "parameters": sum(p.numel() for p in done.model.parameters()),
        "train_images": len(set(task.data.referent_image[task.data.sentence_referent[task.sentences]])),
        "train_sentences": len(task.sentences),
        "epochs": len(fitted.history),
        "final": fitted.history[-1],
        "best": best,
        "selection": selection,
        **({"rounds": rounds} if rounds else {}),
    }
    with job.writer() as w:
        w.attr("dataset_digest", task.data.digest)
        write_model(w, task.architecture, task.codec, fitted.weights, fitted.history)
        write_selection(w, selection, task.held_out)
        w.json("summary", summary)
        w.note_json("timing", {"training_seconds": round(done.seconds, 1)})
    forget_states(out)
    return job.result(summary)


@dataclass(frozen=True)
class _Task:
    """What is learned: (H,) referents held out, (S,) sentences to train on, the architecture, its words."""

    data: ReferringDataset
    held_out: NDArray[np.int64]
    sentences: NDArray[np.int64]
    architecture: ModelConfig
    codec: TextCodec


def _open(config: Config, dataset: Path, reporter: Reporter) -> _Task:
    from stages.data.dataset import ReferringDataset
    from stages.data.text import HubCodec, WordCodec
    from stages.training.selection import keep_back
    from stages.weights.pretrained import describe_text, describe_vision

    data = ReferringDataset.open(dataset, masks="none")
    held_out = keep_back(data, config.train_split, config.held_out, reporter)
    sentences = data.sentences_of(np.setdiff1d(data.referents_in(config.train_split), held_out))
    m = model_config(config)
    m = m.replace(vision=describe_vision(m.vision), text=describe_text(m.text))
    if m.text.kind == "gru":
        codec: TextCodec = WordCodec.from_sentences([data.texts[i] for i in sentences], m.text.max_words)
    else:
        assert m.text.source is not None
        codec = HubCodec.from_source(m.text.source, m.text.max_words)
    return _Task(data, held_out, sentences, m, codec)


def _trainer(config: Config, task: _Task, number: int, job: StageJob, reporter: Reporter) -> Trainer:
    """A new model and its training; each SiRi round has seeds of its own."""
    import torch

    from stages.inference.devices import choose_device
    from stages.models.build import build_model
    from stages.training.checkpoint import bytes_of_training, resume_path
    from stages.training.loader import ContourTable, StepDataset
    from stages.training.loop import Trainer
    from stages.training.plan import StepPlan
    from stages.training.selection import validator
    from stages.training.targets import SlotWeights
    from stages.weights.pretrained import load_pretrained_parts, load_word_vectors

    data, codec, seed = task.data, task.codec, config.seed + number
    torch.manual_seed(seed)
    model = build_model(task.architecture, codec.size)
    for line in load_pretrained_parts(model):
        reporter.info(line)
    if config.glove:
        found = load_word_vectors(model, codec.to_dict()["words"], Path(config.glove))
        reporter.info(f"word vectors: {found} of {codec.size} words found in {config.glove}")
    plan = StepPlan(
        data, task.sentences, images=config.batch_images, per_image=config.expressions_per_image, seed=seed,
        steps=config.steps_per_epoch,
    )  # fmt: skip
    weights = SlotWeights(first_box=config.first_box_weight, end=config.end_weight)
    no_contours = ContourTable.of_contours(len(data.boxes_xyxy), {}, {})
    job.require_writable(bytes_of_training(model))
    steps = StepDataset(data, codec, task.architecture, no_contours, config, weights, seed, world=job.world)
    return Trainer(
        model, codec, config, plan, steps,
        validator(data, config, task.held_out, reporter, with_mask=False, world=job.world), world=job.world,
        device=choose_device(config.device), reporter=reporter, resume_file=resume_path(job.out),
        fingerprint=f"{job.fingerprint} round {number}" if number else job.fingerprint,
    )  # fmt: skip
