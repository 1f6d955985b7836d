"""The weight of a pseudo label scales the loss and its gradient, also in a step of nothing but pseudo labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.data.transforms import Augmentation
from stages.geometry.boxes import ellipse_in
from stages.models.build import build_model
from stages.models.image_maps import normalise
from stages.models.seqtr import PointSequenceModel
from stages.training.loader import Batch, ContourTable, StepDataset
from stages.training.objectives import DetectionObjective, SequenceObjective, build_objective
from stages.training.settings import TrainingSettings
from stages.training.targets import SlotWeights
from tests.oracles.random_models import CONFIGS, WORDS

SETTINGS = TrainingSettings(device="cpu", auxiliary_mask_weight=4.0)


def batch_of(dataset: Path, name: str, weights: list[float]) -> Batch:
    """One sentence of each of the first referents, their contours the ellipses in their boxes."""
    data, config = ReferringDataset.open(dataset), CONFIGS[name]
    rings = {r: ellipse_in(data.boxes_xyxy[r], 20) for r in range(len(weights))}
    contours = ContourTable.of_contours(len(data.boxes_xyxy), rings, dict(enumerate(weights)))
    codec = WordCodec.from_sentences([WORDS], config.text.max_words)
    steps = StepDataset(data, codec, config, contours, Augmentation(zoom_jitter=0.0), SlotWeights(), 0)
    items = [(int(data.referent_image[r]), data.sentences_of(np.array([r]))[:1]) for r in range(len(weights))]
    return steps[0, 0, items]


def model_and_objective(name: str) -> tuple[Any, SequenceObjective | DetectionObjective]:
    torch.manual_seed(0)
    codec = WordCodec.from_sentences([WORDS], CONFIGS[name].text.max_words)
    model = build_model(CONFIGS[name], codec.size).eval()
    return model, build_objective(model, SETTINGS)


def outputs_of(model: Any, objective: Any, batch: Batch) -> Any:
    return objective.predict(normalise(batch.images, batch.sizes_hw, model.config), batch)


def gradient(loss: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    parts = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([g.flatten() for g in parts if g is not None])


@pytest.mark.parametrize("name", ["contour", "second look", "second look with marks"])
def test_an_all_pseudo_step_of_weight_a_tenth_counts_a_tenth(tiny_dataset: Path, name: str) -> None:
    model, objective = model_and_objective(name)
    found = []
    for weight in (1.0, 0.1):
        batch = batch_of(tiny_dataset, name, [weight] * 4)
        loss = objective.loss(outputs_of(model, objective, batch), batch)
        if isinstance(model, PointSequenceModel) and model.layout.box:  # boxes are known, and weigh 1
            batch.slot_weights[:, list(model.layout.box)] = 0
            loss = objective.loss(outputs_of(model, objective, batch), batch)
        found.append((loss.item(), gradient(loss, model)))
    (whole, all_of_it), (tenth, tenth_of_it) = found
    assert tenth == pytest.approx(whole / 10, rel=1e-5)
    assert torch.allclose(tenth_of_it, all_of_it / 10, rtol=1e-3, atol=1e-6)


def test_a_pseudo_mask_of_a_detector_counts_by_its_weight(tiny_dataset: Path) -> None:
    model, objective = model_and_objective("detector with masks")
    assert isinstance(objective, DetectionObjective)
    found = {}
    for weight in (1.0, 0.1):
        batch = batch_of(tiny_dataset, "detector with masks", [weight] * 3)
        terms = objective.terms(outputs_of(model, objective, batch), batch)
        found[weight] = {name: term.mean() for name, term in terms.items()}
    assert found[0.1]["mask"].item() == pytest.approx(found[1.0]["mask"].item() / 10, rel=1e-4)
    assert found[0.1]["layer 1"].item() == pytest.approx(found[1.0]["layer 1"].item(), rel=1e-5)


def test_beside_masks_a_pseudo_label_takes_its_share(tiny_dataset: Path) -> None:
    """Loss of a mixed step = mean over its contours, each times its own weight."""
    model, objective = model_and_objective("contour")
    alone = []
    for weights in ([1.0, 0.0], [0.0, 1.0], [1.0, 0.1]):
        batch = batch_of(tiny_dataset, "contour", weights)
        alone.append(objective.loss(outputs_of(model, objective, batch), batch).item())
    assert alone[2] == pytest.approx((alone[0] + 0.1 * alone[1]) / 2, rel=1e-5)
