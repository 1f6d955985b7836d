"""What the public release computes otherwise, as two sets of adapters: `CORRECTED` (the default) and `RELEASE`.

A model, its training and its answers ask `semantics_of(config)` once and then call what it holds. docs/SEMANTICS.md
lists the differences with their numbers; METHOD.md section 4 says which are errors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.geometry.quantisation import (
    Dequantise,
    Quantise,
    dequantise,
    dequantise_release,
    quantise,
    quantise_release,
)
from stages.geometry.resampling import contour_targets, contour_targets_release
from stages.models.cctf import Content, memory_content, memory_content_release
from stages.models.config import ModelConfig
from stages.models.losses import LossSum, token_sums, token_sums_release
from stages.models.memory import Memory
from stages.models.query_decoder import grid_code, grid_code_release
from stages.models.vocabulary import SequenceLayout


@dataclass(frozen=True)
class Semantics:
    """One adapter for each difference; the functions named like a field say what it takes and gives.

    Attributes:
        quantise, dequantise: coordinates <-> tokens.
        ordered: corners (2, 2) of a predicted box -> the same, upper left first or as they were predicted.
        end_allowed: output slots (T,) at which decoding may predict END.
        contour_targets: a contour in the model's frame -> the points to be predicted.
        content: row and column means of the memory that CCTF looks up.
        token_sums: cross-entropy over the slots, and what it is divided by.
        sees_padding: an image is encoded with the padding of its batch, which takes part in the norm of the memory.
        grid_code: queries of multi-task SiRi's second decoder.
        active_when_frozen: parts of a frozen detector that keep their dropout while its mask head is trained.
    """

    quantise: Quantise
    dequantise: Dequantise
    ordered: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    end_allowed: Callable[[SequenceLayout], NDArray[np.bool_]]
    contour_targets: Callable[..., NDArray[np.float64]]
    content: Callable[[Memory, int], Content]
    token_sums: Callable[..., LossSum]
    sees_padding: bool
    grid_code: Callable[[int], Tensor]
    active_when_frozen: tuple[str, ...]


def upper_left_first(corners_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two corners (2, 2) span a box in whatever order they were predicted."""
    return np.sort(corners_xy, axis=0)


def as_predicted(corners_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """The release keeps the corners as they are, so a box may have a negative side."""
    return corners_xy


CORRECTED = Semantics(
    quantise=quantise,
    dequantise=dequantise,
    ordered=upper_left_first,
    end_allowed=SequenceLayout.end_allowed,
    contour_targets=contour_targets,
    content=memory_content,
    token_sums=token_sums,
    sees_padding=False,
    grid_code=grid_code,
    active_when_frozen=("mask_head",),
)
RELEASE = Semantics(
    quantise=quantise_release,
    dequantise=dequantise_release,
    ordered=as_predicted,
    end_allowed=SequenceLayout.end_allowed_release,
    contour_targets=contour_targets_release,
    content=memory_content_release,
    token_sums=token_sums_release,
    sees_padding=True,
    grid_code=grid_code_release,
    active_when_frozen=("mask_head", "detector", "text"),
)


def semantics_of(config: ModelConfig) -> Semantics:
    """The adapters that `config.semantics` names."""
    return {"corrected": CORRECTED, "release": RELEASE}[config.semantics]
