"""Dropout for training on a CPU, where torch's own costs as much as the rest of the head (docs/BENCHMARKS.md, T1).

The distribution is torch's. Which elements are dropped comes from 16 random bits each, four elements a random number;
attention works through one sentence after another, so that its weights stay in the cache, and computes them again in
the backward pass. What is kept becomes numbers before it is multiplied with: torch takes twice as long for a product of
float and bool. On other devices, and in other than full precision, torch's own kernels do the work.
Letters: S sentences, h heads, T queries, M keys, D width of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LANES = 1 << 16


def keep_mask(shape: tuple[int, ...], p: float) -> Tensor:
    """bool of the shape, False with probability p (rounded to 1/65536), from torch's global generator."""
    count = torch.Size(shape).numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    return (bits.view(torch.int16)[:count] >= round(p * _LANES) - _LANES // 2).view(shape)


def _applies(x: Tensor, p: float) -> bool:
    return p > 0 and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


class Dropout(nn.Dropout):
    """`nn.Dropout`, faster on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not _applies(x, self.p):
            return super().forward(x)
        kept: Tensor = _Dropped.apply(x, self.p)
        return kept


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        keep = keep_mask(tuple(x.shape), p)
        ctx.save_for_backward(keep)
        ctx.p = p
        return keep.to(x.dtype).mul_(x).div_(1 - p)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return keep.to(gradients[0].dtype).mul_(gradients[0]).div_(1 - ctx.p), None


def dropped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, *, causal: bool = False
) -> Tensor:
    """Scaled dot-product attention with a share p of its weights dropped; p = 0 is plain attention.

    q (S, h, T, D), k and v (S, h, M, D); mask broadcasts to (S, h, T, M): bool True = may be attended, or float
    added to the logits; causal, instead of a mask: a query sees the keys up to its own -> (S, h, T, D).
    """
    if not _applies(q, p):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=causal)
    if causal:
        mask = torch.ones(1, 1, q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if mask is not None:
        mask = mask.expand(len(q), *mask.shape[1:])
    out: Tensor = _DroppedAttention.apply(q, k, v, mask, p)
    return out


def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """One sentence: (h, T, D), (h, M, D), mask -> (h, T, M)."""
    logits = (q / q.shape[-1] ** 0.5) @ k.transpose(-1, -2)
    if mask is not None:
        logits = logits.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else logits.add_(mask)
    return logits.softmax(-1)


class _DroppedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> Tensor:
        keep = keep_mask((*q.shape[:-1], k.shape[-2]), p)
        out, kept = torch.empty_like(q), torch.empty(keep.shape[1:], dtype=q.dtype)
        for s in range(len(q)):
            weights = _weights(q[s], k[s], None if mask is None else mask[s])
            torch.matmul(weights.mul_(kept.copy_(keep[s])), v[s], out=out[s])
        ctx.save_for_backward(q, k, v, mask, keep)
        ctx.p = p
        return out.div_(1 - p)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, keep = ctx.saved_tensors
        of_out = gradients[0] / (1 - ctx.p)
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        of_mask = torch.empty_like(keep, dtype=q.dtype) if ctx.needs_input_grad[3] else None
        scale, kept = q.shape[-1] ** -0.5, torch.empty(keep.shape[1:], dtype=q.dtype)
        for s in range(len(q)):
            weights = _weights(q[s], k[s], None if mask is None else mask[s])
            kept.copy_(keep[s])
            of_v[s] = (weights * kept).transpose(-1, -2) @ of_out[s]
            share = (of_out[s] @ v[s].transpose(-1, -2)).mul_(kept).mul_(weights)
            of_logits = share.addcmul_(weights, share.sum(-1, keepdim=True), value=-1)
            of_q[s] = (of_logits @ k[s]).mul_(scale)
            of_k[s] = (of_logits.transpose(-1, -2) @ q[s]).mul_(scale)
            if of_mask is not None:
                of_mask[s] = of_logits
        if of_mask is not None:
            of_mask = of_mask.sum_to_size(mask.shape)
        return of_q, of_k, of_v, of_mask, None
