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

    epochs: int = option(
        10, "passes over the training images, or blocks of --steps-per-epoch", min=1, panel="Set most often"
    )
    steps_per_epoch: int | None = option(
        None, "steps in an epoch; default: one pass over the images with a target", min=1, panel="Optimisation"
    )
    batch_images: int = option(16, "images in a step", min=1, panel="Set most often")
    expressions_per_image: int = option(
        6, "expressions of an image in a step, at most", min=1, panel="Optimisation", formerly="sentences_per_image"
    )
    optimiser: Literal["adamw", "adam"] = option("adamw", "adam: AMSGrad, as SeqTR", panel="Optimisation")
    lr: float = option(1e-3, "peak learning rate", min=0, min_open=True, panel="Set most often")
    backbone_lr_factor: float = option(
        0.3, "learning rate of the backbone, relative to --lr", min=0.0, panel="Optimisation"
    )
    text_lr_factor: float = option(
        1.0, "learning rate of the text encoder, relative to --lr", min=0.0, panel="Optimisation"
    )
    weight_decay: float = option(1e-4, "weight decay", min=0.0, panel="Optimisation")
    schedule: Literal["cosine", "step", "linear"] = option(
        "cosine", "after the warm-up: half a cosine, a tenth from --decay-epoch on, or linear to 0", panel="Optimisation"
    )
    warmup_epochs: float = option(0.5, "epochs of warm-up", min=0.0, panel="Optimisation")
    decay_epoch: int = option(
        0, "epoch, counted from 1, at which --schedule step decays; 0 = never", min=0, panel="Optimisation"
    )
    clip: float = option(0.5, "largest gradient norm; 0 = no clipping", min=0.0, panel="Optimisation")
    ema_decay: float = option(
        0.998, "decay of the moving average of the weights", min=0.0, max=1.0, max_open=True, panel="Optimisation"
    )
    ema_buffers: bool = option(
        False, "average the batch-norm statistics instead of copying them", panel="Release compatibility"
    )
    label_smoothing: float = option(
        0.05, "probability moved from the target token to all tokens", min=0.0, max=1.0, max_open=True,
        panel="Optimisation",
    )  # fmt: skip
    coordinate_spread: float = option(
        0.7, "width in bins of the Gaussian target of a coordinate; 0 = one bin", min=0.0, panel="Optimisation"
    )
    end_weight: float = option(0.1, "weight of END tokens in the loss", min=0.0, panel="Optimisation")
    first_box_weight: float = option(
        1.0, "weight of the first token of a box in the loss; the release: 1.5", min=0.0, panel="Release compatibility"
    )
    auxiliary_mask_weight: float = option(
        4.0, "weight of the loss of the auxiliary mask head, in models that have one", min=0.0, panel="Optimisation",
        formerly="grounding_weight",
    )  # fmt: skip
    held_out: float = option(
        0.0, "share of the training images kept back to choose the weights called best; 0 = the last average is best",
        min=0.0, max=1.0, max_open=True, panel="Validation",
    )  # fmt: skip
    validation_split: str = option(
        "val", "split scored after each epoch; it is shown but chooses nothing", panel="Validation"
    )
    validation_expressions: int = option(
        400, "expressions of it that are scored; 0 = all", min=0, panel="Validation", formerly="validation_sentences"
    )
    validate_every: int = option(
        1, "epochs between validations; the last epoch is always scored", min=1, panel="Validation"
    )
    seed: int = option(0, "seed of weights, order and augmentation", min=0, panel="Set most often")
    device: str = option(
        "auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False, panel="Set most often"
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "auto: bf16 on a GPU that has it, else fp32; the one used is recorded", panel="Run"
    )
    workers: int = option(
        0, "processes that prepare batches; 0 = none beside the main one", semantic=False, min=0
    )
    save_every: int = option(200, "steps between saves of the state that --resume needs", semantic=False, min=1)


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
