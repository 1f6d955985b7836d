"""Answers of a point-sequence model: greedy tokens, read as box and contour in original pixels."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from stages.data.transforms import Frame
from stages.geometry.boxes import polygon_extent
from stages.geometry.quantisation import tokens_to_points
from stages.inference.answers import EncodedGroup, Predictions
from stages.inference.auxiliary_contours import ContourSource, auxiliary_contours, require_auxiliary_masks
from stages.models.semantics import semantics_of
from stages.models.seqtr import Decoded, PointSequenceModel
from stages.models.to_device import to_device
from stages.models.vocabulary import BOX_SLOTS, SequenceLayout
from stages.weights.model_file import LoadedModel


class SequenceAnswers:
    def __init__(self, loaded: LoadedModel, contour: ContourSource = "decoder") -> None:
        """`contour`: see `predict_sentences`; UsageError for a model that has no auxiliary mask to trace."""
        if contour == "auxiliary":
            require_auxiliary_masks(loaded)
        self.loaded, self.contour = loaded, contour
        self.model = cast(PointSequenceModel, loaded.model)

    def answer(self, group: EncodedGroup, *, keep_maps: bool = False) -> Predictions:
        decoded = self.decode(group, keep_maps=keep_maps)
        tokens = decoded.tokens.cpu().numpy()
        out = Predictions.empty(group.sentences, tokens.shape[1])
        out.tokens, out.token_probability = tokens.astype(np.int32), decoded.probability.float().cpu().numpy()
        out.n_tokens = answer_length(self.model.layout, tokens)
        for row, (frame, sequence) in enumerate(zip(group.frames, tokens, strict=True)):
            contour, box = answer_of(self.loaded, sequence, frame)
            out.points_xy[row] = contour
            if box is not None:
                out.boxes_xyxy[row] = box
            elif len(contour) >= 2:
                out.boxes_xyxy[row] = polygon_extent(contour)
        if self.contour == "auxiliary":
            out.points_xy = auxiliary_contours(self.loaded, group.memory, group.frames)
        if decoded.maps is not None:
            h, w = group.memory.grid_hw
            grids = decoded.maps[..., : h * w].unflatten(-1, (h, w)).float().cpu().numpy()
            used = group.memory.valid_cells_hw.tolist()
            out.maps = [grid[..., :vh, :vw] for grid, (vh, vw) in zip(grids, used, strict=True)]
        return out

    def slot_of_points(self, n: int) -> NDArray[np.int64]:
        """The slot of each point's x."""
        layout = self.model.layout
        return np.array([layout.decoded.index(c) for c in layout.contour[: 2 * n : 2]], np.int64)

    def decode(self, group: EncodedGroup, *, keep_logits: bool = False, keep_maps: bool = False) -> Decoded:
        """Greedy tokens after the box prompt, where there is one."""
        prompt = None
        if group.prompt_xyxy is not None:
            given = box_tokens(self.loaded, group.prompt_xyxy, group.frames)
            prompt = to_device(torch.from_numpy(given), self.loaded.device)
        decoded: Decoded = self.model.generate(
            group.memory, prompt, keep_logits=keep_logits, keep_maps=keep_maps
        )
        return decoded


def box_tokens(
    loaded: LoadedModel, boxes_xyxy: NDArray[np.floating], frames: list[Frame]
) -> NDArray[np.int64]:
    """Box prompts as the four tokens that start a box-then-contour sequence: (S, 4)."""
    model_boxes = np.stack([f.boxes_to_model(b[None])[0] for f, b in zip(frames, boxes_xyxy, strict=True)])
    sizes = np.stack([np.tile(f.padded_hw(loaded.config.image.multiple)[::-1], 2) for f in frames])
    return semantics_of(loaded.config).quantise(model_boxes, sizes, loaded.config.n_bins)


def answer_of(
    loaded: LoadedModel, tokens: NDArray[np.int64], frame: Frame
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Tokens (K,) of one sequence -> contour (k, 2) and box (4,) or None, original pixels."""
    layout, config, semantics = loaded.model.layout, loaded.config, semantics_of(loaded.config)
    wh = np.array(frame.padded_hw(config.image.multiple)[::-1], np.float64)
    box = None
    if layout.box:
        corners = semantics.dequantise(tokens[:BOX_SLOTS].reshape(2, 2), wh, config.n_bins)
        box = frame.to_original(semantics.ordered(corners)).reshape(4).astype(np.float32)
    contour = np.zeros((0, 2), np.float32)
    if layout.contour:
        predicted = tokens[[layout.decoded.index(c) for c in layout.contour]]
        points = tokens_to_points(predicted, wh, config.n_bins, semantics.dequantise)
        contour = frame.to_original(points).astype(np.float32)
    return contour, box


def answer_length(layout: SequenceLayout, tokens: NDArray[np.integer]) -> NDArray[np.int64]:
    """Decoded tokens (S, K) -> (S,) how many come before or are the contour's first END; K where there is none."""
    k = tokens.shape[1]
    of_contour = np.isin(layout.decoded, [*layout.contour, layout.length - 1] if layout.contour else [])
    ends = (tokens == layout.end) & of_contour
    return np.where(ends.any(1), ends.argmax(1) + 1, k).astype(np.int64)
