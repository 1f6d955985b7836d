"""Answers of a detector: the best query's box, and its mask where the model has a mask head, in original pixels."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.data.transforms import Frame
from stages.errors import UsageError
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import mask_to_rle
from stages.inference.answers import EncodedGroup, Predictions
from stages.models.detection_boxes import centre_to_corners
from stages.models.mdetr import DetectorMemory, DetectorModel
from stages.models.mdetr_mask_head import masks_in_image
from stages.weights.model_file import LoadedModel


class DetectorAnswers:
    def __init__(self, loaded: LoadedModel, *, box_prompt: bool = False) -> None:
        if box_prompt:
            raise UsageError("a detector takes no box prompt", hint="leave --box-prompt out")
        self.model = cast(DetectorModel, loaded.model)

    def answer(self, group: EncodedGroup, *, keep_maps: bool = False) -> Predictions:
        """The only token is the number of the query, its probability that of seeing an object."""
        memory = group.memory
        assert isinstance(memory, DetectorMemory)
        detections, best = self.model.best(memory, keep_maps=keep_maps)
        rows = torch.arange(len(best), device=best.device)
        out = Predictions.empty(group.sentences, 1)
        out.tokens[:, 0] = best.cpu().numpy()
        out.token_probability[:, 0] = detections.scores()[rows, best].float().cpu().numpy()
        boxes = detections.answer.boxes[rows, best].float()
        corners = centre_to_corners(boxes).clamp(0, 1).cpu().numpy().reshape(-1, 2, 2)
        for i, frame in enumerate(group.frames):
            wh = np.array(frame.size_hw[::-1], np.float64)
            out.boxes_xyxy[i] = frame.to_original(corners[i] * wh).reshape(4)
        if detections.maps is not None:
            looks = detections.maps[rows, :, best].mean(1)[:, : memory.cells].unflatten(-1, memory.grid_hw)
            used = memory.valid_cells_hw.tolist()
            grids = looks.float().cpu().numpy()
            out.maps = [grid[None, None, :vh, :vw] for grid, (vh, vw) in zip(grids, used, strict=True)]
        if self.model.mask_head is not None:
            masks = self._masks(self.model.mask_logits(detections, rows, best), memory, group.frames)
            out.rles = [mask_to_rle(mask) for mask in masks]
            out.points_xy = [largest_outer_contour(mask) for mask in masks]
        return out

    def _masks(self, logits: Tensor, memory: DetectorMemory, frames: list[Frame]) -> list[NDArray[np.bool_]]:
        """S masks at the sizes of their images."""
        ratio, stride, masks = logits.shape[-1] // memory.grid_hw[1], self.model.stride, []
        for i, (frame, (h, w)) in enumerate(zip(frames, memory.own_cells_hw.tolist(), strict=True)):
            x0, y0, x1, y1 = frame.window_xyxy
            own = logits[i : i + 1, : h * ratio, : w * ratio]
            mask = masks_in_image(own, (h * stride, w * stride), frame.size_hw, (y1 - y0, x1 - x0))[0]
            masks.append(mask.cpu().numpy())
        return masks

    def slot_of_points(self, n: int) -> NDArray[np.int64]:
        """One query stands for all points."""
        return np.zeros(n, np.int64)
