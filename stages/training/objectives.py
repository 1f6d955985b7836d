"""What a step minimises, chosen by the model's family: token cross-entropy, or the detector's losses.

An objective runs the model (under autocast), turns what came out into one number, and names the guilty part when that
number is not finite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from stages.models.build import ReferringModel
from stages.models.detection_boxes import corners_to_centre
from stages.models.grounding import GroundingHead, box_share, grounding_loss
from stages.models.losses import token_loss
from stages.models.matcher import MatchCosts, match
from stages.models.mdetr import Detections, DetectorModel
from stages.models.mdetr_criterion import (
    DetectionTargets,
    LossWeights,
    dice_mask_loss,
    focal_mask_loss,
    layer_losses,
    pixel_cross_entropy,
    resize_masks,
    single_class_map,
    weighted_sum,
)
from stages.models.seqtr import PointSequenceModel, Taught
from stages.training.loader import Batch
from stages.training.settings import TrainingSettings


class Objective(Protocol):
    def predict(self, images: Tensor, batch: Batch) -> Any: ...

    def loss(self, outputs: Any, batch: Batch) -> Tensor: ...

    def blame(self, outputs: Any, batch: Batch) -> list[str]: ...


@dataclass
class SequenceObjective:
    """Weighted cross-entropy over the slots of the sequence, and the cells of the referent where the model marks them."""

    model: PointSequenceModel
    settings: TrainingSettings

    def predict(self, images: Tensor, batch: Batch) -> Taught:
        """Teacher-forced pass."""
        out: Taught = self.model(
            images, batch.sizes_hw, batch.image_of_sentence, batch.words, batch.word_mask, batch.targets
        )
        return out

    def loss(self, outputs: Taught, batch: Batch) -> Tensor:
        s = self.settings
        loss = token_loss(
            outputs.logits, batch.targets, batch.slot_weights, smoothing=s.label_smoothing, spread=s.coordinate_spread,
            release=self.model.release, count=batch.slot_count,
        )  # fmt: skip
        marks = self.marks_loss(outputs, batch)
        return loss if marks is None else loss + s.auxiliary_mask_weight * marks

    def marks_loss(self, outputs: Taught, batch: Batch) -> Tensor | None:
        """Loss of the marked parts: those inside the box, or in a window around it those inside the outline."""
        head = self.model.grounding_head
        if outputs.marks is None or head is None:
            return None
        if self.model.config.zoom_margin is None:
            return box_marks_loss(head, outputs.marks, batch)
        share = torch.nn.functional.avg_pool2d(batch.masks.float(), head.part_size)
        return grounding_loss(*outputs.marks, share, batch.mask_weight)

    def blame(self, outputs: Taught, batch: Batch) -> list[str]:
        """Loss of each part of the sequence, and of the marks."""
        facts, layout = [], self.model.layout
        for name, slots in (("box", layout.box), ("contour", layout.contour), ("end", layout.ends)):
            if slots:
                index = list(slots)
                part = token_loss(
                    outputs.logits[:, index], batch.targets[:, index], batch.slot_weights[:, index]
                )
                facts.append(f"loss of the {name} tokens: {part.item()}")
        marks = self.marks_loss(outputs, batch)
        if marks is not None:
            facts.append(f"loss of the auxiliary mask head: {marks.item()}")
        return facts


def box_marks_loss(head: GroundingHead, marks: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
    """Loss of the parts that are marked as the inside of each sentence's box."""
    share = box_share(batch.boxes, marks[0].shape[1:], head.part_size)
    return grounding_loss(*marks, share, share.new_ones(len(share)))


@dataclass(frozen=True)
class MaskLossWeights:
    """Weights of the mask terms; the supplement uses the pixel-level cross-entropy alone."""

    pixel: float = 1.0
    dice: float = 0.0
    focal: float = 0.0


@dataclass
class Detected:
    """Detections, the matched query of each sentence that shows a mask, and the logits drawn for it."""

    detections: Detections
    rows: Tensor  # (K,) int64
    masks: Tensor | None = None  # (K, h, w)


@dataclass
class DetectionObjective:
    """Every decoder layer answers for the box of its sentence; the last one also for the mask, where it is known."""

    model: DetectorModel
    grounding_weight: float = 0.0
    masks: MaskLossWeights = field(default_factory=MaskLossWeights)
    weights: LossWeights = field(default_factory=LossWeights)
    costs: MatchCosts = field(default_factory=MatchCosts)

    def targets(self, batch: Batch) -> DetectionTargets:
        """One target a sentence: its box relative to the image, its words as soft tokens (or the single class)."""
        s, classes = len(batch.boxes), self.model.config.detector.classes
        sizes = batch.sizes_hw[batch.image_of_sentence].flip(1).repeat(1, 2).float()
        positive = single_class_map(s, batch.boxes.device)
        if classes > 1:
            positive = torch.zeros(s, classes + 1, device=batch.boxes.device)
            n = min(classes, batch.word_mask.shape[1])
            positive[:, :n] = batch.word_mask[:, :n].float()
            positive = positive / positive.sum(1, keepdim=True)
        row = torch.arange(s, device=batch.boxes.device)
        return DetectionTargets(row, corners_to_centre(batch.boxes / sizes), positive, batch.word_mask)

    def predict(self, images: Tensor, batch: Batch) -> Detected:
        """Detections, and the masks of the matched queries of sentences whose mask is known."""
        found: Detections = self.model(
            images, batch.sizes_hw, batch.image_of_sentence, batch.words, batch.word_mask
        )
        rows = batch.mask_weight.nonzero()[:, 0]
        if self.model.mask_head is None:
            return Detected(found, rows)
        if not len(rows):  # one mask of weight 0 keeps the mask head in the graph
            rows = rows.new_zeros(1)
        t = self.targets(batch)
        query = match(
            found.answer.logits, found.answer.boxes, t.row, t.positive_map, t.boxes, self.costs
        ).query
        return Detected(found, rows, self.model.mask_logits(found, rows, query[rows]))

    def terms(self, outputs: Detected, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms by name; `layer i` sums everything that decoder layer answers for, `marks` is the grounding head's."""
        targets, n_boxes = self.targets(batch), float(len(batch.boxes))
        found, out = outputs.detections, {}
        for i, layer in enumerate(found.layers):
            terms, _ = layer_losses(layer, found.aligned_text, targets, self.weights, self.costs, n_boxes)
            out[f"layer {i + 1}"] = weighted_sum(terms, self.weights)
        head = self.model.grounding_head
        if head is not None and not self.model.frozen:
            out["marks"] = self.grounding_weight * box_marks_loss(head, head.marks(found.memory), batch)
        if outputs.masks is not None:
            out["mask"] = self.mask_term(outputs.masks, outputs.rows, batch)
        return out

    def mask_term(self, logits: Tensor, rows: Tensor, batch: Batch) -> Tensor:
        """Weighted sum over the number of known masks (K, h, w), compared in the model's frame without its padding."""
        truth = batch.masks[rows].float()
        h, w = truth.shape[-2:]
        sizes = batch.sizes_hw[batch.image_of_sentence[rows]]
        inside_y = torch.arange(h, device=truth.device) < sizes[:, :1]
        inside_x = torch.arange(w, device=truth.device) < sizes[:, 1:]
        valid = (inside_y[:, :, None] & inside_x[:, None]).flatten(1)
        drawn, truth = resize_masks(logits, (h, w)).flatten(1), truth.flatten(1)
        loss = drawn.new_zeros(len(rows))
        for weight, term in (
            (self.masks.pixel, pixel_cross_entropy), (self.masks.dice, dice_mask_loss), (self.masks.focal, focal_mask_loss),
        ):  # fmt: skip
            if weight:
                loss = loss + weight * term(drawn, truth, valid)
        share = batch.mask_weight[rows]
        return (loss * share).sum() / (share > 0).sum().clamp(min=1)

    def loss(self, outputs: Detected, batch: Batch) -> Tensor:
        return torch.stack(list(self.terms(outputs, batch).values())).sum()

    def blame(self, outputs: Detected, batch: Batch) -> list[str]:
        """Loss of each decoder layer and of the masks."""
        return [f"loss of the {name}: {value.item()}" for name, value in self.terms(outputs, batch).items()]


def build_objective(
    model: ReferringModel, settings: TrainingSettings, masks: MaskLossWeights | None = None
) -> SequenceObjective | DetectionObjective:
    """The objective of the model's family; `masks` weighs the mask terms of a detector."""
    if isinstance(model, DetectorModel):
        return DetectionObjective(model, settings.auxiliary_mask_weight, masks or MaskLossWeights())
    return SequenceObjective(model, settings)
