"""Contours traced round the auxiliary mask, instead of those that the decoder predicts (beyond the paper)."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.data.transforms import Frame
from stages.errors import UsageError
from stages.geometry.contours import largest_outer_contour
from stages.geometry.resampling import resample_uniform
from stages.models.memory import Memory
from stages.models.seqtr import PointSequenceModel
from stages.weights.model_file import LoadedModel

ContourSource = Literal["decoder", "auxiliary"]
# of an auxiliary contour: the few points of the decoder cut corners that the mask shows
POINTS_PER_DECODER_POINT = 4


def require_auxiliary_masks(loaded: LoadedModel) -> None:
    """UsageError for a model without such masks (one without crop refinement learned to fill boxes, if anything)."""
    config = loaded.config
    if config.zoom_margin is None or not config.auxiliary_mask or not config.answers_masks:
        raise UsageError(
            "--contour auxiliary needs a model with crop refinement and an auxiliary mask head",
            facts=[
                f"this one: crop refinement {_on(config.zoom_margin is not None)}, auxiliary mask head {_on(config.auxiliary_mask)}"
            ],
            hint="train it with: seqres train-res --zoom 112 --auxiliary-mask 4",
        )


def _on(part: object) -> str:
    return "on" if part else "off"


def auxiliary_contours(loaded: LoadedModel, memory: Memory, frames: list[Frame]) -> list[NDArray[np.float32]]:
    """S contours (4 N, 2) in original pixels, N the points that the model predicts; (0, 2) where the mask is empty.

    The logits of the parts are interpolated to the pixels of the window; the contour runs where they change sign, round
    the largest piece.
    """
    model = loaded.model
    assert isinstance(model, PointSequenceModel) and model.grounding_head is not None
    logits = model.grounding_head.logits(memory)[0].float().cpu().numpy()
    side, n = model.grounding_head.part_size, POINTS_PER_DECODER_POINT * loaded.config.n_points
    contours = []
    for frame, parts in zip(frames, logits, strict=True):
        fine = cv2.resize(parts, None, fx=side, fy=side, interpolation=cv2.INTER_LINEAR)
        contour = largest_outer_contour(fine[: frame.size_hw[0], : frame.size_hw[1]] > 0)
        if len(contour) >= 3:
            contour = frame.to_original(resample_uniform(contour, n)).astype(np.float32)
        contours.append(contour)
    return contours
