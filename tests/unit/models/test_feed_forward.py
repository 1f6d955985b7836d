"""The feed-forward layer in blocks: values and gradients of the plain one, in training only, and the same dropout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models import feed_forward as module
from stages.models.dropout import Dropout, keep_mask
from stages.models.feed_forward import feed_forward


def layer(p: float, d: int = 6, width: int = 24) -> tuple[nn.Linear, nn.Linear, Dropout]:
    torch.manual_seed(0)
    return nn.Linear(d, width).double(), nn.Linear(width, d).double(), Dropout(p)


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(
    "block", [24 * 4, 24 * 10, 1 << 18]
)  # several blocks, the last one shorter; one block
def test_values_and_gradients_are_those_of_the_plain_layer(
    p: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    first, second, dropout = layer(p)
    x = torch.randn(3, 7, 6, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(5)
    keep = keep_mask((3, 7, 24), p) if p else torch.ones(3, 7, 24, dtype=torch.bool)
    plain = second(F.relu(first(x)) * keep / (1 - p))
    torch.manual_seed(5)
    ours = feed_forward(x, first, second, dropout)
    assert torch.allclose(ours, plain)
    inputs = [x, *first.parameters(), *second.parameters()]
    weight = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad((o * weight).sum(), inputs) for o in (ours, plain)), strict=True):
        assert torch.allclose(a, b)


def test_only_full_precision_training_leaves_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is predicted, and a step in bf16, keep torch's own rounding."""
    calls: list[Tensor] = []
    plain = module._FeedForward.apply
    monkeypatch.setattr(
        module._FeedForward,
        "apply",
        lambda x, *rest: calls.append(x) or plain(x, *rest),  # type: ignore[func-returns-value]
    )
    first, second, dropout = layer(0.0)
    x = torch.randn(2, 6, dtype=torch.float64)
    feed_forward(x, first, second, dropout.eval())
    assert not calls
    feed_forward(x, first, second, dropout.train())
    assert len(calls) == 1
    with torch.autocast("cpu", torch.bfloat16):
        out = feed_forward(x.float(), first.float(), second.float(), dropout)
    assert len(calls) == 1 and out.dtype == torch.bfloat16
