"""Schedules, moving average and parameter groups."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from stages.training.optimiser import MovingAverage, build_optimiser, schedule_factor


def test_step_schedule_is_the_releases() -> None:
    factors = [schedule_factor(e, kind="step", warmup=5, epochs=60, decay_epoch=50) for e in range(60)]
    assert factors[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert factors[48:50] == pytest.approx([1, 0.1])  # the 50th epoch already runs at a tenth (ODDITIES F5)
    assert schedule_factor(48.99, kind="step", warmup=5, epochs=60, decay_epoch=50) == 1


def test_cosine_rises_then_falls_to_one_percent() -> None:
    factors = [schedule_factor(e / 10, kind="cosine", warmup=1, epochs=5, decay_epoch=0) for e in range(51)]
    assert factors[10] == pytest.approx(1)
    assert sorted(factors[:11]) == factors[:11] and sorted(factors[10:], reverse=True) == factors[10:]
    assert factors[-1] == pytest.approx(0.01)


def test_average_warms_up_and_survives_a_resume() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    average = MovingAverage(model, 0.999)
    values = []
    for _ in range(4):
        torch.nn.init.constant_(model.weight, 1.0)
        average.update()
        values.append(average.values["weight"].item())
    want, expected = 0.0, []
    for k in range(4):
        decay = min(0.999, (1 + k) / (10 + k))
        want = decay * want + (1 - decay)
        expected.append(want)
    assert values == pytest.approx(expected)
    again = MovingAverage(model, 0.999)
    again.load(average.state())
    again.update()
    average.update()
    assert torch.equal(again.values["weight"], average.values["weight"])


def test_parts_have_their_own_rate_and_frozen_ones_none() -> None:
    model = torch.nn.ModuleDict(
        {"vision": torch.nn.Linear(2, 2), "text": torch.nn.Linear(2, 2), "decoder": torch.nn.Linear(2, 2)}
    )
    model["text"].requires_grad_(False)
    optimiser = build_optimiser(
        model, kind="adam", lr=1e-3, weight_decay=0, backbone_factor=0.1, text_factor=0.5
    )
    assert {g["name"]: g["lr"] for g in optimiser.param_groups} == pytest.approx(
        {"vision": 1e-4, "rest": 1e-3}
    )
    assert optimiser.defaults["amsgrad"] and optimiser.defaults["betas"] == (0.9, 0.98)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_one_pass_updates_a_weight(kind: str) -> None:
    for device in ("cpu", "cuda"):
        with FakeTensorMode():  # a GPU's tensors without values, which need no GPU
            model = torch.nn.Module()
            model.weight = torch.nn.Parameter(torch.empty(3, 3, device=device))
            optimiser = build_optimiser(
                model, kind=kind, lr=1e-3, weight_decay=0.1, backbone_factor=0.1, text_factor=0.1
            )
            model.weight.grad = torch.empty_like(model.weight)
            optimiser.step()
        assert optimiser.defaults["fused"]
        assert optimiser.state[model.weight]["step"].device.type == device, (
            "no wait for the number of the step"
        )


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_the_fused_optimiser_steps_as_the_plain_one(kind: str) -> None:
    torch.manual_seed(0)
    fused_model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.LayerNorm(7))
    plain_model = copy.deepcopy(fused_model)
    fused = build_optimiser(
        fused_model, kind=kind, lr=0.01, weight_decay=0.1, backbone_factor=1.0, text_factor=1.0
    )
    plain = build_optimiser(
        plain_model, kind=kind, lr=0.01, weight_decay=0.1, backbone_factor=1.0, text_factor=1.0
    )
    for group in plain.param_groups:
        assert group["fused"]
        group["fused"], group["foreach"] = False, False
    for _ in range(4):
        x = torch.randn(6, 5)
        for model, optimiser in ((fused_model, fused), (plain_model, plain)):
            optimiser.zero_grad()
            model(x).square().sum().backward()
            optimiser.step()
    for a, b in zip(fused_model.parameters(), plain_model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
