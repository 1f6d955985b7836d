"""Optimiser, learning-rate schedule and moving average of the weights (METHOD.md section 2)."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Schedule = Literal["step", "linear", "cosine"]


def parameter_groups(
    model: nn.Module, lr: float, *, backbone_factor: float, text_factor: float
) -> list[dict[str, object]]:
    """Trainable parameters with their peak rate: backbone and text encoder at a fraction of the rest."""
    groups: dict[str, list[nn.Parameter]] = {"vision": [], "text": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = name.split(".", 1)[0]
            groups[part if part in groups else "rest"].append(parameter)
    factor = {"vision": backbone_factor, "text": text_factor, "rest": 1.0}
    return [
        {"params": p, "lr": lr * factor[n], "peak": lr * factor[n], "name": n} for n, p in groups.items() if p
    ]


def build_optimiser(
    model: nn.Module, *, kind: str, lr: float, weight_decay: float, backbone_factor: float, text_factor: float
) -> torch.optim.Optimizer:
    """`adam`: amsgrad, betas (0.9, 0.98) as SeqTR; `adamw`: decoupled decay. One pass updates a weight."""
    groups = parameter_groups(model, lr, backbone_factor=backbone_factor, text_factor=text_factor)
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in trainable(model))
    if kind == "adam":
        return torch.optim.Adam(
            groups, lr=lr, betas=(0.9, 0.98), eps=1e-9, weight_decay=weight_decay, amsgrad=True, fused=fused
        )
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=fused)


def schedule_factor(
    progress_epochs: float, *, kind: Schedule, warmup: float, epochs: float, decay_epoch: float
) -> float:
    """Share of the peak rate after `progress_epochs` (fractions count).

    step: (e + 1) / (warmup + 1) during warm-up epoch e, then 1, then 0.1 from `decay_epoch` (counted from 1) on,
    constant inside an epoch, as the release. linear: the same warm-up, then down to 0 at the end, as the release without
    decay steps. cosine: linear warm-up, then half a cosine down to 1 %.
    """
    if kind == "step":
        return step_factor(
            int(progress_epochs), warmup=warmup, decay_epochs=(decay_epoch,) if decay_epoch else ()
        )
    if kind == "linear":
        return linear_factor(int(progress_epochs), warmup=warmup, epochs=epochs)
    if progress_epochs < warmup:
        return max(progress_epochs / warmup, 0.01)
    share = min(1.0, (progress_epochs - warmup) / max(epochs - warmup, 1e-9))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))


def step_factor(epoch: int, *, warmup: float, decay_epochs: Sequence[float], ratio: float = 0.1) -> float:
    """The release's step schedule in 0-based epoch `epoch`: `ratio` to the power of the decay epochs reached.

    A decay epoch counts from 1, so the one numbered 50 already runs at the lower rate (ODDITIES F5).
    """
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    return float(ratio ** sum(epoch + 1 >= d for d in decay_epochs))


def linear_factor(epoch: int, *, warmup: float, epochs: float) -> float:
    """The release's schedule without decay epochs: after the warm-up, straight down to 0 at `epochs`."""
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    return 1.0 - (epoch - warmup) / max(epochs - warmup, 1e-9)


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Set every group to factor * its peak; returns the largest rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor
    return max(float(g["lr"]) for g in optimiser.param_groups)


class MovingAverage:
    """Exponential moving average of a model's parameters; buffers are copied, what is frozen is its own average.

    With `average_buffers=True` everything is averaged. The model must stay where its weights are in memory.

    The release averages every buffer and cuts the counts to whole numbers (ODDITIES F7).
    The decay of update k is min(decay, (1 + k) / (10 + k)), so that a young average follows the model. k is part of
    the state (the release restarts it after a resume and wipes the average, ODDITIES F1).
    """

    def __init__(self, model: nn.Module, decay: float, *, average_buffers: bool = False) -> None:
        self.decay, self.updates = decay, 0
        live = {k: v.detach() for k, v in model.state_dict().items()}  # the model's own memory
        self.values = {k: v.clone() for k, v in live.items()}
        learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        averaged = [k for k, v in live.items() if v.is_floating_point() and (average_buffers or k in learned)]
        followed = [k for k, _ in model.named_buffers() if k in live and k not in averaged]
        self._averaged = [self.values[k] for k in averaged], [live[k] for k in averaged]
        self._followed = [self.values[k] for k in followed], [live[k] for k in followed]
        self._cuts = average_buffers

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        values, live = self._followed
        if self._cuts:
            for value, new in zip(values, live, strict=True):
                value.copy_(decay * value + (1 - decay) * new)
        elif values:
            torch._foreach_copy_(values, live)
        torch._foreach_lerp_(*self._averaged, 1 - decay)

    def state(self) -> dict[str, object]:
        return {"updates": self.updates, "values": self.values}

    def load(self, state: dict[str, object]) -> None:
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        values: dict[str, Tensor] = state["values"]  # type: ignore[assignment]
        for name, value in values.items():
            self.values[name].copy_(value)


def trainable(model: nn.Module) -> Iterator[nn.Parameter]:
    return (p for p in model.parameters() if p.requires_grad)
