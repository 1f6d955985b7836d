"""Dropout on a CPU: torch's distribution, and exact values and gradients once the dropped elements are known."""

from __future__ import annotations

import pytest
import torch

from stages.models.attention import MultiheadAttention
from stages.models.dropout import Dropout, dropped_attention, keep_mask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.003])
def test_the_share_that_is_dropped(p: float) -> None:
    torch.manual_seed(0)
    keep = keep_mask((300, 7, 211), p)
    n = keep.numel()
    assert abs(float(keep.double().mean()) - (1 - p)) < 5 * (p / n) ** 0.5 + 2**-16
    flat = keep.flatten()[: n // 4 * 4].view(-1, 4)  # the four that share a random number
    assert ((~flat).double().mean(0) - p).abs().max() < 10 * (p / n) ** 0.5 + 2**-16
    both = (~flat[:, 0] & ~flat[:, 3]).double().mean()
    assert float(both) == pytest.approx(p * p, abs=0.004)


def test_elements_are_kept_and_scaled_or_dropped() -> None:
    x = torch.randn(40, 33, requires_grad=True)
    torch.manual_seed(3)
    keep = keep_mask((40, 33), 0.25)
    torch.manual_seed(3)
    out = Dropout(0.25)(x)
    out.sum().backward()
    assert torch.allclose(out, x * keep / 0.75)
    assert x.grad is not None and torch.allclose(x.grad, keep / 0.75)
    assert torch.equal(Dropout(0.25).eval()(x), x)


@pytest.mark.parametrize("kind", ["none", "padding", "bias"])
def test_attention_with_dropped_weights(kind: str) -> None:
    q, k, v = (torch.randn(3, 2, n, 4, dtype=torch.float64, requires_grad=True) for n in (5, 7, 7))
    bias = torch.randn(3, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    seen = torch.ones(3, 1, 1, 7, dtype=torch.bool)
    seen[1, ..., 4:] = False
    mask = {"none": None, "padding": seen, "bias": bias}[kind]
    torch.manual_seed(1)
    keep = keep_mask((3, 2, 5, 7), 0.3)
    logits = q @ k.transpose(-1, -2) / 2
    if kind == "padding":
        logits = logits.masked_fill(~seen, -torch.inf)
    plain = (logits + (bias if kind == "bias" else 0)).softmax(-1) * keep / 0.7 @ v
    torch.manual_seed(1)
    ours = dropped_attention(q, k, v, mask, 0.3)
    assert torch.allclose(ours, plain)
    inputs = [q, k, v] + ([bias] if kind == "bias" else [])
    weight = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad((o * weight).sum(), inputs) for o in (ours, plain)), strict=True):
        assert torch.allclose(a, b)


def test_a_training_layer_looks_back_only_and_agrees_on_average() -> None:
    """Causal attention in training: no later position matters, and the mean over draws is the answer without dropout."""
    torch.manual_seed(0)
    block = MultiheadAttention(16, 2, dropout=0.2)
    x = torch.randn(1, 6, 16)
    q, k, v = block.self_project(x, torch.zeros_like(x))
    changed = v.clone()
    changed[:, :, 4:] += 9
    with torch.no_grad():
        answers = []
        for value in (v, changed):
            torch.manual_seed(2)
            answers.append(block.attend(q, k, value, causal=True))
        assert torch.equal(answers[0][:, :4], answers[1][:, :4])
        assert not torch.equal(answers[0][:, 4:], answers[1][:, 4:])
        mean = torch.stack([block.attend(q, k, v, causal=True) for _ in range(4000)]).mean(0)
        assert torch.allclose(mean, block.eval().attend(q, k, v, causal=True), atol=0.03)
