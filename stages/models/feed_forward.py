"""The feed-forward layer for training on a CPU: linear, ReLU, dropout, linear, a few rows at a time.

The hidden layer is four times as wide as the rest, so torch's operators move more memory there than they compute: each
reads and writes all of it. Here a block of rows stays in the cache until it is through, forward and backward, and what
was dropped is read off the hidden values themselves. Gain and share of a step: docs/BENCHMARKS.md, "Training step".
On other devices, in other than full precision and outside training, torch's own kernels do the work.
Letters: R rows, D width, F hidden width.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stages.models.dropout import Dropout, keep_mask

_BLOCK = 1 << 18  # hidden values of a block: 1 MB of float32


def feed_forward(x: Tensor, linear1: nn.Linear, linear2: nn.Linear, dropout: Dropout) -> Tensor:
    """x (…, D) -> (…, D)."""
    full = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(x.device.type)
    if not (dropout.training and full and x.device.type == "cpu"):
        plain: Tensor = linear2(dropout(F.relu(linear1(x))))
        return plain
    out: Tensor = _FeedForward.apply(x, linear1.weight, linear1.bias, linear2.weight, linear2.bias, dropout.p)
    return out


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(_BLOCK // width, 4) // 4 * 4  # a random number of dropout is for four elements
    return (slice(start, start + step) for start in range(0, rows, step))


class _FeedForward(torch.autograd.Function):
    """`alpha` of a product undoes what dropout takes: 1 / (1 - p)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, p: float) -> Tensor:
        rows = x.flatten(0, -2)
        hidden, out = rows.new_empty(len(rows), len(w1)), torch.empty_like(rows)
        for block in _blocks(*hidden.shape):
            part = torch.addmm(b1, rows[block], w1.t(), out=hidden[block]).relu_()
            if p:
                part.mul_(keep_mask(tuple(part.shape), p).to(part.dtype))
            torch.addmm(b2, part, w2.t(), alpha=1 / (1 - p), out=out[block])
        ctx.save_for_backward(rows, hidden, w1, w2)
        ctx.p, ctx.shape = p, x.shape
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, w1, w2 = ctx.saved_tensors
        alpha, of_out = 1 / (1 - ctx.p), of_out.flatten(0, -2)
        of_x, of_w1, of_w2, of_b1 = (
            torch.empty_like(rows),
            torch.zeros_like(w1),
            torch.zeros_like(w2),
            w1.new_zeros(len(w1)),
        )
        for block in _blocks(*hidden.shape):
            part, of_part = hidden[block], of_out[block]
            of_w2.addmm_(of_part.t(), part, alpha=alpha)
            # neither what ReLU nor what dropout set to 0 has a gradient
            of_hidden = torch.ops.aten.threshold_backward(of_part @ w2, part, 0)
            of_w1.addmm_(of_hidden.t(), rows[block], alpha=alpha)
            of_b1.add_(of_hidden.sum(0), alpha=alpha)
            torch.mm(of_hidden, w1, out=of_x[block])
        if ctx.p:
            of_x.mul_(alpha)
        return of_x.view(ctx.shape), of_w1, of_b1, of_w2, of_out.sum(0), None
