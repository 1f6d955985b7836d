"""Predictions with the attention behind each slot, for the eyes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stages.data.dataset import ReferringDataset
from stages.data.transforms import Frame
from stages.inference.encoding import ReferringSource, encoded_groups
from stages.inference.families import answers_of
from stages.metrics.attention import Attended, attended
from stages.reporter import Reporter
from stages.weights.model_file import LoadedModel

AT_ONCE = 8  # images; maps of every slot take room
MEASURED_AT_ONCE = 128  # expressions, for the same reason
WINDOW_CELL = 4  # pixels of a cell where the maps of a window are laid onto the image


@dataclass
class AttentionSample:
    """One sentence's prediction with the cross-attention of every decoded slot.

    maps: (K, h, w) float32 over the image's own valid cells (last decoder layer, mean of heads), or for crop refinement
    over the whole image; step_of_point: (k,) the slot that predicted each point's x; layer_maps: (K, layers, h, w), the
    same of every layer, the last one included. cell_px: side of a map's cell, memory_cell_px: of a memory cell, original
    pixels; they differ for crop refinement.
    """

    tokens: NDArray[np.int32]
    points_xy: NDArray[np.float32]
    box_xyxy: NDArray[np.float32] | None
    maps: NDArray[np.float32]
    step_of_point: NDArray[np.int64]
    layer_maps: NDArray[np.float32] | None = None
    cell_px: float = 1.0
    memory_cell_px: float = 1.0

    @property
    def looks_once(self) -> bool:
        """One map belongs to the whole contour (a detector's query); a box or point takes at least two slots."""
        return len(self.maps) == 1


@torch.inference_mode()
def attention_for_sentences(
    loaded: LoadedModel, dataset: ReferringSource, sentences: NDArray[np.int64], box_prompt: bool = False
) -> list[AttentionSample]:
    """Predictions with attention maps, in the order of `sentences`."""
    answers = answers_of(loaded, box_prompt=box_prompt)
    loaded.model.eval()
    samples: dict[int, AttentionSample] = {}
    for group in encoded_groups(loaded, dataset, sentences, AT_ONCE, box_prompt):
        found = answers.answer(group, keep_maps=True)
        images = dataset.referent_image[dataset.sentence_referent[group.sentences]]
        for i, row in enumerate(group.rows.tolist()):
            points, layers = found.points_xy[i], found.maps[i]
            memory_cell = loaded.model.stride / float(group.frames[i].scale_xy.mean())
            cell = memory_cell
            if loaded.config.zoom_margin is not None:
                size = tuple(dataset.image_sizes_hw[images[i]])
                flat = maps_on_image(layers.reshape(-1, *layers.shape[2:]), group.frames[i], size)
                layers, cell = flat.reshape(*layers.shape[:2], *flat.shape[1:]), float(WINDOW_CELL)
            box = found.boxes_xyxy[i] if loaded.config.answers_boxes else None
            steps = answers.slot_of_points(len(points))
            samples[row] = AttentionSample(
                found.tokens[i], points, box, layers[:, -1], steps, layers, cell, memory_cell
            )
    return [samples[i] for i in range(len(sentences))]


def measure_attention(
    loaded: LoadedModel,
    dataset: ReferringDataset,
    sentences: NDArray[np.int64],
    box_prompt: bool,
    reporter: Reporter,
) -> list[Attended]:
    """Where the last decoder layer attends while it predicts each contour, against masks that `dataset` shows."""
    rows = []
    with reporter.progress("attention", len(sentences), "expression") as task:
        for start in range(0, len(sentences), MEASURED_AT_ONCE):
            part = sentences[start : start + MEASURED_AT_ONCE]
            for sentence, s in zip(
                part, attention_for_sentences(loaded, dataset, part, box_prompt), strict=True
            ):
                r = int(dataset.sentence_referent[sentence])
                rows.append(
                    attended(
                        s.maps, s.step_of_point, s.points_xy, dataset.mask(r), dataset.boxes_xyxy[r], s.cell_px,
                        s.memory_cell_px,
                    )
                )  # fmt: skip
            task.advance(len(part))
    return rows


def maps_on_image(
    maps: NDArray[np.float32], frame: Frame, size_hw: tuple[int, int], cell: int = WINDOW_CELL
) -> NDArray[np.float32]:
    """Maps (K, h, w) of a window -> maps of the whole image with cells of `cell` pixels, 0 outside the window."""
    height, width = -(-size_hw[0] // cell), -(-size_hw[1] // cell)
    y, x = np.mgrid[:height, :width] * float(cell) + cell / 2
    points = frame.to_model(np.stack((x, y), -1)) / (frame.size_hw[1], frame.size_hw[0])
    inside = ((points >= 0) & (points < 1)).all(-1)
    column = (points[..., 0].clip(0, 0.999999) * maps.shape[2]).astype(np.int64)
    row = (points[..., 1].clip(0, 0.999999) * maps.shape[1]).astype(np.int64)
    return np.asarray(maps[:, row, column] * inside, np.float32)
