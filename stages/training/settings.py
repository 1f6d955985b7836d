"""Options that both training stages share; torch-free, so that `--help` can read them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeVar

from stages.config import option
from stages.data.transforms import Augmentation


@dataclass(frozen=True)
class TrainingSettings(Augmentation):
    """How to optimise. Defaults are the recipe of the small RefShapes model."""

    epochs: int = option(10, "passes over the training images (or blocks of --steps-per-epoch steps)", min=1)
    steps_per_epoch: int | None = option(
        None, "steps an epoch; default: one pass over the images that carry a target", min=1
    )
    batch_images: int = option(16, "images a step", min=1)
    sentences_per_image: int = option(6, "at most so many sentences of each image a step", min=1)
    optimiser: Literal["adamw", "adam"] = option("adamw", "adam = amsgrad, as SeqTR")
    lr: float = option(1e-3, "peak learning rate", min=0, min_open=True)
    backbone_lr_factor: float = option(0.3, "learning rate of the backbone, relative to --lr", min=0.0)
    text_lr_factor: float = option(1.0, "learning rate of the text encoder, relative to --lr", min=0.0)
    weight_decay: float = option(1e-4, "weight decay", min=0.0)
    schedule: Literal["cosine", "step", "linear"] = option(
        "cosine",
        "cosine: linear warm-up, half a cosine; step: SeqTR's, x0.1 at --decay-epoch; linear: down to 0",
    )
    warmup_epochs: float = option(0.5, "epochs of warm-up", min=0.0)
    decay_epoch: int = option(
        0, "epoch (counted from 1) from which the step schedule runs at a tenth; 0 = never", min=0
    )
    clip: float = option(0.5, "largest gradient norm; 0 = no clipping", min=0.0)
    ema_decay: float = option(
        0.998, "decay of the moving average of the weights", min=0.0, max=1.0, max_open=True
    )
    ema_buffers: bool = option(
        False, "average the batch-norm statistics, too, as the release does, instead of copying them"
    )
    label_smoothing: float = option(
        0.05, "probability mass moved from the target token to all tokens", min=0.0, max=1.0, max_open=True
    )
    coordinate_spread: float = option(
        0.7, "bins: neighbouring coordinates share the target as a Gaussian of this width; 0 = off", min=0.0
    )
    end_weight: float = option(0.1, "weight of END tokens in the loss", min=0.0)
    first_box_weight: float = option(
        1.0, "weight of the box's first token in the loss (release: 1.5)", min=0.0
    )
    grounding_weight: float = option(
        4.0,
        "weight of the loss that marks the cells of the referent; models without that head have none",
        min=0.0,
    )
    held_out: float = option(
        0.0,
        "share of the training images kept back to choose the weights called best: neither trained on nor labelled, the same "
        "images in every stage; 0 = none, and best is the last moving average",
        min=0.0,
        max=1.0,
        max_open=True,
    )
    validation_split: str = option("val", "split scored after each epoch, to watch; it chooses nothing")
    validation_sentences: int = option(400, "sentences of it that are scored; 0 = all", min=0)
    validate_every: int = option(1, "epochs between validations; the last epoch is always scored", min=1)
    seed: int = option(0, "seed of weights, order and augmentation", min=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "auto = bf16 on CUDA devices that have it, else fp32; what was used is part of the result"
    )
    workers: int = option(0, "processes that prepare batches; 0 = in the main process", semantic=False, min=0)
    save_every: int = option(200, "steps between savings of the resume state", semantic=False, min=1)


Settings = TypeVar("Settings", bound=TrainingSettings)


def with_used_precision(config: Settings) -> Settings:
    """The configuration with `auto` replaced by what this machine makes of it, so that the fingerprint tells which."""
    if config.precision != "auto":
        return config
    if config.device == "cpu":  # known without torch
        return dataclasses.replace(config, precision="fp32")
    from stages.inference.devices import choose_device, used_precision

    return dataclasses.replace(
        config, precision=used_precision(choose_device(config.device), config.precision)
    )
