"""Where to compute, and in which precision."""

from typing import Any, Literal

import torch

from stages.errors import UsageError

Precision = Literal["auto", "fp32", "bf16"]
UsedPrecision = Literal["fp32", "bf16"]


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


def used_precision(device: torch.device, precision: Precision) -> UsedPrecision:
    """`auto` = bf16 on CUDA devices that have it, else fp32."""
    if precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return precision


def autocast(device: torch.device, precision: UsedPrecision) -> torch.autocast:
    """bf16 for what bears it: softmax, norms and losses stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def random_state() -> dict[str, Any]:
    """State of torch's generators on this machine: the CPU's, every CUDA device's, the MPS device's."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Inverse of `random_state`; states of devices that are not here are left out."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available():
        for index, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one, index)
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
