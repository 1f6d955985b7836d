"""What a detector found, in original pixels: the best query's box, and its mask where the model draws one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.data.transforms import Frame
from stages.errors import UsageError
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import Rle, mask_to_rle
from stages.models.detection_boxes import centre_to_corners
from stages.models.mdetr import DetectorMemory, DetectorModel
from stages.models.mdetr_mask_head import masks_in_image
from stages.models.memory import Memory


@dataclass
class Found:
    """Answers for S sentences.

    Attributes:
        query: (S,) int64, the best-scoring one; score: (S,) float32, its probability of seeing an object.
        boxes_xyxy: (S, 4) float32 original pixels, clipped to the image.
        rles: masks at the original size, empty list when the model draws none; rings: their largest outer contours.
        maps: (S, H, W) float32 cross-attention of that query (last layer, mean of heads), when asked for.
    """

    query: NDArray[np.int64]
    score: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    rles: list[Rle]
    rings: list[NDArray[np.float32]]
    maps: NDArray[np.float32] | None = None


def refuse_prompt(box_prompt: bool) -> None:
    if box_prompt:
        raise UsageError("a detector takes no box prompt", hint="leave --box-prompt out")


def find(model: DetectorModel, memory: Memory, frames: list[Frame], *, keep_maps: bool = False) -> Found:
    """Answers for the sentences of a memory; `frames` are those of their images."""
    assert isinstance(memory, DetectorMemory)
    detections, best = model.best(memory, keep_maps=keep_maps)
    rows = best.new_tensor(range(len(best)))
    corners = centre_to_corners(detections.answer.boxes[rows, best].float()).clamp(0, 1).cpu().numpy()
    boxes = np.zeros((len(best), 4), np.float32)
    for i, frame in enumerate(frames):
        wh = np.array(frame.size_hw[::-1], np.float64)
        boxes[i] = frame.to_original(corners[i].reshape(2, 2) * wh).reshape(4)
    found = Found(best.cpu().numpy(), detections.scores()[rows, best].float().cpu().numpy(), boxes, [], [])
    if keep_maps:
        assert detections.maps is not None
        maps = detections.maps[rows, :, best].mean(1)[:, : memory.cells].unflatten(-1, memory.grid_hw)
        found.maps = maps.float().cpu().numpy()
    if model.mask_head is None:
        return found
    logits = model.mask_logits(detections, rows, best)
    ratio = logits.shape[-1] // memory.grid_hw[1]
    for i, frame in enumerate(frames):
        h, w = (int(v) for v in memory.own_cells_hw[i])
        x0, y0, x1, y1 = frame.window_xyxy
        own = logits[i : i + 1, : h * ratio, : w * ratio]
        mask = (
            masks_in_image(own, (h * model.stride, w * model.stride), frame.size_hw, (y1 - y0, x1 - x0))[0]
            .cpu()
            .numpy()
        )
        found.rles.append(mask_to_rle(mask))
        found.rings.append(largest_outer_contour(mask))
    return found
