"""Where to compute, and in which precision."""

from __future__ import annotations

import torch

from stages.errors import UsageError


def choose_device(name: str) -> torch.device:
    """`auto` = CUDA, else MPS, else CPU; UsageError when the named device is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}", hint="use auto, cpu, cuda, cuda:1 or mps") from error
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UsageError(f"device {name!r} is not available on this machine", hint="use --device auto")
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """`auto` = bf16 on CUDA devices that have it, else float32. Softmax, norms and losses stay in float32."""
    if precision == "auto":
        enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    else:
        enabled = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
