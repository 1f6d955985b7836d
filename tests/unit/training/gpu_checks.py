"""What runs on a GPU, tried without one: no operation mixes devices, and the host waits no oftener than it must.

`test_on_a_gpu.py` runs this file in a process of its own: where a device is registered, nothing may be forked any more.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.data.dataset import ReferringDataset
from stages.inference.predictions import predict_sentences
from stages.models.build import build_model
from stages.models.image_maps import normalise
from stages.training.objectives import MaskLossWeights, build_objective
from stages.training.optimiser import MovingAverage, build_optimiser, trainable
from stages.training.settings import TrainingSettings
from stages.weights.model_file import load_model
from tests.oracles.pretended_gpu import Pretended, counted_waits, pretended_gpu
from tests.oracles.random_models import BATCH_WORDS, CONFIGS, random_batch, write_random_model

FAMILIES = sorted(CONFIGS)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_stays_on_its_device_and_computes_what_the_cpu_does(name: str) -> None:
    torch.manual_seed(0)
    on_cpu = step(name, torch.device("cpu"))
    torch.manual_seed(0)
    with pretended_gpu() as device:
        on_gpu = step(name, device)
    assert on_gpu == pytest.approx(on_cpu, rel=1e-4)


def step(name: str, device: torch.device) -> list[float]:
    """Losses of two steps, each with everything that the training loop does."""
    settings = TrainingSettings(device="cpu", auxiliary_mask_weight=1.0)
    model = build_model(CONFIGS[name], BATCH_WORDS).train().to(device)
    objective = build_objective(model, settings, MaskLossWeights(dice=1.0, focal=1.0))
    optimiser = build_optimiser(
        model, kind="adamw", lr=1e-3, weight_decay=0.01, backbone_factor=0.1, text_factor=0.1
    )
    average, losses = MovingAverage(model, 0.9), []
    for _ in range(2):
        batch = random_batch(name).to(device)
        with counted_waits() as waits:
            outputs = objective.predict(normalise(batch.images, batch.sizes_hw, model.config), batch)
            loss = objective.loss(outputs, batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable(model), 0.1)
            optimiser.step()
            average.update()
            assert not waits, "the loss of the step is all that the host may wait for"
        losses.append(loss.item())
    assert all(isinstance(v, Pretended) == (device.type == "pretended") for v in average.values.values())
    return losses


@pytest.mark.parametrize("name", FAMILIES)
def test_prediction_stays_on_its_device(name: str, tiny_dataset: Path, tmp_path: Path) -> None:
    path, data = write_random_model(tmp_path / "m.h5", name), ReferringDataset.open(tiny_dataset)
    expected = predict_sentences(load_model(path), data, np.arange(5))
    with pretended_gpu() as device:
        loaded = load_model(path, device=device)
        with counted_waits() as waits:
            found = predict_sentences(loaded, data, np.arange(5))
    # tokens and their probabilities of each model; a detector's box; its masks, which have sizes of their own
    models = 1 if loaded.locator is None else 2
    masks = len(found.rles) + 2 if name == "detector with masks" else 0
    assert waits == {"copy to the host": 2 * models + name.startswith("detector") + masks}
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)
    np.testing.assert_allclose(found.token_probability, expected.token_probability, atol=1e-4)


def test_the_pretended_gpu_notices_what_a_gpu_would() -> None:
    with pretended_gpu() as device:
        x, waited = torch.arange(6.0).to(device), Counter[str]()
        for mixed in (
            lambda: x + torch.ones(6),
            lambda: x[torch.tensor([0])],
            lambda: torch.cat((x, torch.ones(1))),
        ):
            with pytest.raises(RuntimeError, match="lies on the CPU"):
                mixed()
        with counted_waits() as waits:
            assert (x * 2 + 1).sum().device == device
            assert not waits
            assert bool((x > 4).any()) and x[x > 3].shape == (2,) and x.nonzero().shape == (5, 1)
            assert x.cpu().device.type == "cpu" and x.tolist()[5] == 5
            assert torch.ones(2).to(device, non_blocking=True).device == device  # no wait
            assert torch.ones(2).to(device).device == torch.tensor([1.0], device=device).device == device
            x[:2].copy_(torch.ones(2))
            waited.update(waits)
    assert waited == {
        "aten::_local_scalar_dense": 1,
        "aten::index.Tensor": 1,
        "aten::nonzero": 1,
        "copy to the host": 2,
        "copy from the host": 3,
    }
