"""What makes the step of several processes the step of one: sums of gradients, and of the statistics of batch norm.

A sum of all gradients after the backward pass, in place of DistributedDataParallel: losses are divided by what all
processes count together, so gradients are added and not averaged; a parameter that nobody used keeps no gradient, so that
weight decay leaves it alone; and names of weights stay as they are. It does not overlap with the backward pass.
"""

from typing import Any

import torch
from torch import Tensor, nn

from stages.training.optimiser import trainable
from stages.world import World


def sum_gradients(model: nn.Module, world: World) -> None:
    """Every process gets the sum of all gradients; None stays where no process has one."""
    if world.size == 1:
        return
    parameters = list(trainable(model))
    there = [p.grad is not None for p in parameters]
    parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
    flat = world.sum(torch.cat([*parts, parts[0].new_tensor(there)]))
    counted = flat[-len(parameters) :].tolist()
    sums = flat[: -len(parameters)].split([p.numel() for p in parameters])
    for p, part, count in zip(parameters, sums, counted, strict=True):
        p.grad = part.view_as(p) if count else None


def share_batch_norm(model: nn.Module, world: World) -> None:
    """Batch norm with the statistics of all processes' images, under the same names; torch's own needs a GPU."""
    if world.size == 1:
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SharedBatchNorm(child, world))


class SharedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` in training mode over the images of all processes; takes over another one's parameters."""

    def __init__(self, of: nn.BatchNorm2d, world: World) -> None:
        super().__init__(of.num_features, of.eps, of.momentum, of.affine, of.track_running_stats)
        self.world = world
        self._parameters, self._buffers = of._parameters, of._buffers
        self.train(of.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.float()
        own = wide.new_tensor([wide.numel() / self.num_features])
        sums: Tensor = _Sum.apply(torch.cat([wide.sum((0, 2, 3)), own]), self.world)
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = wide - mean[:, None, None]
        squares: Tensor = _Sum.apply(centred.square().sum((0, 2, 3)), self.world)
        variance = squares / count
        self._remember(mean.detach(), squares.detach() / (count - 1).clamp(min=1))
        out = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, world: World) -> Tensor:
        ctx.world = world
        return world.sum(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.world.sum(gradients[0]), None
