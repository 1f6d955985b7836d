"""What a step minimises, chosen by the model's family: token cross-entropy, or the detector's losses.

An objective runs the model (under autocast), turns what came out into one number, and names the guilty part when that
number is not finite.
"""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stages.models.auxiliary_mask import AuxiliaryMaskHead, auxiliary_mask_loss, box_share
from stages.models.build import ReferringModel
from stages.models.detection_boxes import corners_to_centre
from stages.models.losses import LossSum
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
)
from stages.models.seqtr import PointSequenceModel, Taught
from stages.models.to_device import to_device
from stages.training.batch import Batch
from stages.training.settings import TrainingSettings
from stages.world import ALONE, World


class Objective(ABC):
    """Sums of named terms; their weights are what several processes add up before they divide."""

    @abstractmethod
    def predict(self, images: Tensor, batch: Batch) -> Any:
        """Run the model on normalised images (I, 3, H, W)."""

    @abstractmethod
    def terms(self, outputs: Any, batch: Batch) -> dict[str, LossSum]: ...

    def loss(self, outputs: Any, batch: Batch, world: World = ALONE) -> Tensor:
        """() float: what a step minimises; of several processes, each one's share of it."""
        terms = list(self.terms(outputs, batch).values())
        if world.size > 1:
            counted = world.sum(torch.stack([term.weight.float() for term in terms]))
            terms = [
                dataclasses.replace(term, weight=all_) for term, all_ in zip(terms, counted, strict=True)
            ]
        return torch.stack([term.mean() for term in terms]).sum()

    def blame(self, outputs: Any, batch: Batch) -> list[str]:
        """Loss of each part, for the message about one that is not finite."""
        return [f"loss of the {n}: {term.mean().item()}" for n, term in self.terms(outputs, batch).items()]


@dataclass
class SequenceObjective(Objective):
    """Weighted cross-entropy over the slots of the sequence, and the auxiliary mask where the model has that head."""

    model: PointSequenceModel
    settings: TrainingSettings

    def predict(self, images: Tensor, batch: Batch) -> Taught:
        """Teacher-forced pass."""
        out: Taught = self.model(
            images, batch.sizes_hw, batch.image_of_sentence, batch.words, batch.word_mask, batch.targets
        )
        return out

    def terms(self, outputs: Taught, batch: Batch) -> dict[str, LossSum]:
        s = self.settings
        tokens = self.model.semantics.token_sums(
            outputs.logits, batch.targets, batch.slot_weights, smoothing=s.label_smoothing, spread=s.coordinate_spread,
            count=batch.slot_count,
        )  # fmt: skip
        mask = self.auxiliary_term(outputs, batch)
        return {"tokens": tokens} | ({} if mask is None else {"auxiliary mask": mask})

    def auxiliary_term(self, outputs: Taught, batch: Batch) -> LossSum | None:
        """The auxiliary mask against the inside of the box, or for crop refinement against that of the contour."""
        head = self.model.grounding_head
        if outputs.auxiliary is None or head is None:
            return None
        if self.model.config.zoom_margin is None:
            return box_mask_term(head, outputs.auxiliary, batch, self.settings.auxiliary_mask_weight)
        share = torch.nn.functional.avg_pool2d(batch.masks.float(), head.part_size)
        weight = to_device(batch.mask_weight, share.device)
        loss = auxiliary_mask_loss(*outputs.auxiliary, share, weight)
        return dataclasses.replace(loss, scale=self.settings.auxiliary_mask_weight)

    def blame(self, outputs: Taught, batch: Batch) -> list[str]:
        facts, layout = super().blame(outputs, batch), self.model.layout
        for name, slots in (("box", layout.box), ("contour", layout.contour), ("end", layout.ends)):
            if slots:
                index = list(slots)
                part = self.model.semantics.token_sums(
                    outputs.logits[:, index], batch.targets[:, index], batch.slot_weights[:, index]
                )
                facts.append(f"loss of the {name} tokens: {part.mean().item()}")
        return facts


def box_mask_term(
    head: AuxiliaryMaskHead, auxiliary: tuple[Tensor, Tensor], batch: Batch, scale: float
) -> LossSum:
    """The auxiliary mask against the inside of each sentence's box."""
    share = box_share(batch.boxes, auxiliary[0].shape[1:], head.part_size)
    return dataclasses.replace(
        auxiliary_mask_loss(*auxiliary, share, share.new_ones(len(share))), scale=scale
    )


@dataclass(frozen=True)
class MaskLossWeights:
    """Weights of the mask terms; the supplement uses the pixel-level cross-entropy alone."""

    pixel: float = 1.0
    dice: float = 0.0
    focal: float = 0.0


@dataclass
class Detected:
    """Detections, the matched query of each sentence that shows a mask, and the mask logits predicted for it."""

    detections: Detections
    rows: Tensor  # (K,) int64
    masks: Tensor | None = None  # (K, h, w)


@dataclass
class DetectionObjective(Objective):
    """Every decoder layer answers for the box of its sentence; the last one also for the mask, where it is known."""

    model: DetectorModel
    auxiliary_mask_weight: float = 0.0
    masks: MaskLossWeights = field(default_factory=MaskLossWeights)
    weights: LossWeights = field(default_factory=LossWeights)
    costs: MatchCosts = field(default_factory=MatchCosts)

    def targets(self, batch: Batch) -> DetectionTargets:
        """One target a sentence: its box relative to the image, its words as soft tokens (or the single class)."""
        s, classes, device = len(batch.boxes), self.model.config.detector.classes, batch.boxes.device
        sizes_hw, words = (to_device(x, device) for x in (batch.sizes_hw, batch.word_mask))
        sizes = sizes_hw[batch.image_of_sentence].flip(1).repeat(1, 2).float()
        positive = single_class_map(s, device)
        if classes > 1:
            positive = torch.zeros(s, classes + 1, device=device)
            n = min(classes, words.shape[1])
            positive[:, :n] = words[:, :n].float()
            positive = positive / positive.sum(1, keepdim=True)
        return DetectionTargets(torch.arange(s), corners_to_centre(batch.boxes / sizes), positive, words)

    def predict(self, images: Tensor, batch: Batch) -> Detected:
        """Detections, and the masks of the matched queries of sentences whose mask is known."""
        found: Detections = self.model(
            images, batch.sizes_hw, batch.image_of_sentence, batch.words, batch.word_mask
        )
        rows = to_device(batch.mask_weight.nonzero()[:, 0], images.device)
        if self.model.mask_head is None:
            return Detected(found, rows)
        if not len(rows):  # one mask of weight 0 keeps the mask head in the graph
            rows = rows.new_zeros(1)
        t = self.targets(batch)
        query = match(
            found.answer.logits, found.answer.boxes, t.row, t.positive_map, t.boxes, self.costs
        ).query
        return Detected(found, rows, self.model.mask_logits(found, rows, query[rows]))

    def terms(self, outputs: Detected, batch: Batch) -> dict[str, LossSum]:
        """`layer i` holds everything that decoder layer answers for."""
        targets, found, out = self.targets(batch), outputs.detections, {}
        count = batch.boxes.new_full((), len(batch.boxes))
        for i, layer in enumerate(found.layers):
            sums, _ = layer_losses(layer, found.aligned_text, targets, self.weights, self.costs, 1.0)
            scale = torch.tensor([getattr(self.weights, name) for name in sums])
            scale = to_device(scale, count.device)
            out[f"layer {i + 1}"] = LossSum(torch.stack(list(sums.values())), count, scale)
        head = self.model.grounding_head
        if head is not None and not self.model.frozen:
            predicted = head.logits(found.memory)
            out["auxiliary mask"] = box_mask_term(head, predicted, batch, self.auxiliary_mask_weight)
        if outputs.masks is not None:
            out["mask"] = self.mask_term(outputs.masks, outputs.rows, batch)
        return out

    def mask_term(self, logits: Tensor, rows: Tensor, batch: Batch) -> LossSum:
        """Weighted sum of known masks (K, h, w), compared in the model's frame without its padding."""
        truth = batch.masks[rows].float()
        h, w = truth.shape[-2:]
        sizes = to_device(batch.sizes_hw, truth.device)[batch.image_of_sentence[rows]]
        inside_y = torch.arange(h, device=truth.device) < sizes[:, :1]
        inside_x = torch.arange(w, device=truth.device) < sizes[:, 1:]
        valid = (inside_y[:, :, None] & inside_x[:, None]).flatten(1)
        predicted, truth = resize_masks(logits, (h, w)).flatten(1), truth.flatten(1)
        loss = predicted.new_zeros(len(rows))
        for weight, term in (
            (self.masks.pixel, pixel_cross_entropy), (self.masks.dice, dice_mask_loss), (self.masks.focal, focal_mask_loss),
        ):  # fmt: skip
            if weight:
                loss = loss + weight * term(predicted, truth, valid)
        share = to_device(batch.mask_weight, truth.device)[rows]
        return LossSum((loss * share).sum(), (share > 0).sum().float())


def build_objective(
    model: ReferringModel, settings: TrainingSettings, masks: MaskLossWeights | None = None
) -> SequenceObjective | DetectionObjective:
    """The objective of the model's family; `masks` weighs the mask terms of a detector."""
    if isinstance(model, DetectorModel):
        return DetectionObjective(model, settings.auxiliary_mask_weight, masks or MaskLossWeights())
    return SequenceObjective(model, settings)
