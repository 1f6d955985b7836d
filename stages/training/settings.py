"""Options that both training stages share; torch-free, so that `--help` can read them."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeVar

from stages.config import StageConfig, in_panel, option
from stages.data.transforms import Augmentation

_often = in_panel("Set most often")
_optimisation = in_panel("Optimisation")
_validation = in_panel("Validation")
_release = in_panel("Release compatibility")
_running = in_panel("Run")


@dataclass(frozen=True)
class TrainingSettings(Augmentation, StageConfig):
    """How to optimise. Defaults are the recipe of the small RefShapes model."""

    epochs: int = _often(10, "passes over the training images, or blocks of --steps-per-epoch", min=1)
    steps_per_epoch: int | None = _optimisation(
        None, "steps in an epoch; default: one pass over the images with a target", min=1
    )
    batch_images: int = _often(16, "images in a step", min=1)
    expressions_per_image: int = _optimisation(
        6, "expressions of an image in a step, at most", min=1, formerly="sentences_per_image"
    )
    optimiser: Literal["adamw", "adam"] = _optimisation("adamw", "adam: AMSGrad, as SeqTR")
    lr: float = _often(1e-3, "peak learning rate", min=0, min_open=True)
    backbone_lr_factor: float = _optimisation(0.3, "learning rate of the backbone, relative to --lr", min=0.0)
    text_lr_factor: float = _optimisation(1.0, "learning rate of the text encoder, relative to --lr", min=0.0)
    weight_decay: float = _optimisation(1e-4, "weight decay", min=0.0)
    schedule: Literal["cosine", "step", "linear"] = _optimisation(
        "cosine", "after the warm-up: half a cosine, a tenth from --decay-epoch on, or linear to 0"
    )
    warmup_epochs: float = _optimisation(0.5, "epochs of warm-up", min=0.0)
    decay_epoch: int = _optimisation(
        0, "epoch, counted from 1, at which --schedule step decays; 0 = never", min=0
    )
    clip: float = _optimisation(0.5, "largest gradient norm; 0 = no clipping", min=0.0)
    ema_decay: float = _optimisation(
        0.998, "decay of the moving average of the weights", min=0.0, max=1.0, max_open=True
    )
    ema_buffers: bool = _release(False, "average the batch-norm statistics instead of copying them")
    label_smoothing: float = _optimisation(
        0.05, "probability moved from the target token to all tokens", min=0.0, max=1.0, max_open=True
    )
    coordinate_spread: float = _optimisation(
        0.7, "width in bins of the Gaussian target of a coordinate; 0 = one bin", min=0.0
    )
    end_weight: float = _optimisation(0.1, "weight of END tokens in the loss", min=0.0)
    first_box_weight: float = _release(
        1.0, "weight of the first token of a box in the loss; the release: 1.5", min=0.0
    )
    auxiliary_mask_weight: float = _optimisation(
        4.0, "weight of the loss of the auxiliary mask head, in models that have one", min=0.0,
        formerly="grounding_weight",
    )  # fmt: skip
    held_out: float = _validation(
        0.0, "share of the training images kept back to choose the weights called best; 0 = the last average is best",
        min=0.0, max=1.0, max_open=True,
    )  # fmt: skip
    validation_split: str = _validation(
        "val", "split scored after each epoch; it is shown but chooses nothing"
    )
    validation_expressions: int = _validation(
        400, "expressions of it that are scored; 0 = all", min=0, formerly="validation_sentences"
    )
    validate_every: int = _validation(1, "epochs between validations; the last epoch is always scored", min=1)
    seed: int = _often(0, "seed of weights, order and augmentation", min=0)
    device: str = _often("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)
    precision: Literal["auto", "fp32", "bf16"] = _running(
        "auto", "auto: bf16 on a GPU that has it, else fp32; the one used is recorded"
    )
    workers: int | None = option(
        None, "processes that prepare batches; 0 = none beside the main one, which is the default on a CPU; on a GPU one a core, at most 8",
        semantic=False, min=0,
    )  # fmt: skip
    save_every: int = option(
        200, "steps between saves of the state that --resume needs", semantic=False, min=1
    )


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
