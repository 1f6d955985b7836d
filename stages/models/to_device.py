"""Copies to the device that the host does not wait for."""

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device. A GPU of CUDA takes it whenever it gets there; what lies in pageable memory is put aside for it.

    MPS reads the source itself, also after it is gone, and silently gives other values (pytorch/pytorch#189690), so the
    host waits there.
    """
    return x.to(device, non_blocking=device.type != "mps")
