"""Darknet's own weight files (`.weights`) into the DarkNet-53 trunk.

A file is a header of five int32 (major, minor, revision, and an int64 count of images seen) and then float32
numbers: for each convolution its batch norm's bias, weight, running mean and running variance, then the kernel
(out, in, h, w), module after module.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.errors import ArtifactError
from stages.file_kinds import refuse_other_kinds
from stages.models.darknet import ConvBlock
from stages.nearest import cannot_read
from stages.untrusted import require_regular

HEADER_BYTES = 20
_LARGEST_FILE = 4 << 30  # bytes; YOLOv3 has 250 million
_NO_DARKNET = "for a PyTorch checkpoint give a file that ends in .pth"
TENSORS = ("bn.bias", "bn.weight", "bn.running_mean", "bn.running_var", "conv.weight")


@dataclass(frozen=True)
class DarknetLoad:
    """What a file gave: tensors in reading order, numbers left over, convolutions it does not reach."""

    read: list[str]
    left_over: int
    not_covered: list[str]


def layout(trunk: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of a trunk in the order of a darknet file; names as in its state dict."""
    for prefix, module in trunk.named_modules():
        if isinstance(module, ConvBlock):
            for name in TENSORS:
                part, leaf = name.split(".")
                yield f"{prefix}.{name}", getattr(getattr(module, part), leaf)


def read_floats(path: Path) -> NDArray[np.float32]:
    """The numbers after the header. ArtifactError for a file that is none of darknet's."""
    try:
        require_regular(path, largest=_LARGEST_FILE, what="darknet weight file")
        data = path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error
    refuse_other_kinds(path, hint=_NO_DARKNET)
    if len(data) < HEADER_BYTES or (len(data) - HEADER_BYTES) % 4:
        raise ArtifactError(
            f"{path} is no darknet weight file: {len(data)} bytes",
            facts=["expected a header of 20 bytes and whole float32 numbers after it"],
            hint="is the download complete?",
        )
    major, minor, _ = np.frombuffer(data, "<i4", 3)
    if not (0 <= major < 100 and 0 <= minor < 1000):
        raise ArtifactError(
            f"{path} is no darknet weight file: it begins with version {major}.{minor}", hint=_NO_DARKNET
        )
    return np.frombuffer(data, "<f4", offset=HEADER_BYTES)


@torch.no_grad()
def load_darknet(trunk: nn.Module, path: Path, *, allow_partial: bool = False) -> DarknetLoad:
    """Fill a trunk from a file.

    A file may be longer (YOLOv3's detection layers follow the trunk). One that ends between two convolutions is
    taken only with `allow_partial=True`; the rest then keeps its initial values (the release gives it a running
    variance of 0, which multiplies by 316: ODDITIES F6).

    Raises:
        ArtifactError: the file ends inside a convolution, covers too little, or holds numbers that are not finite.
    """
    floats = read_floats(path)
    entries = list(layout(trunk))
    at, read = 0, []
    values: list[tuple[Tensor, NDArray[np.float32]]] = []
    for name, tensor in entries:
        size = tensor.numel()
        if at + size > len(floats):
            break
        part = floats[at : at + size]
        if not np.isfinite(part).all():
            raise ArtifactError(
                f"{path}: {name} holds numbers that are not finite", facts=[f"floats {at} to {at + size}"]
            )
        if name.endswith("running_var") and (part < 0).any():
            raise ArtifactError(
                f"{path}: {name} holds a negative variance", facts=[f"floats {at} to {at + size}"]
            )
        values.append((tensor, part))
        read.append(name)
        at += size
    missing = [name for name, _ in entries[len(read) :]]
    inside = len(read) % len(TENSORS) != 0 or (missing and at < len(floats))
    if missing and (inside or not allow_partial):
        needed = sum(t.numel() for _, t in entries)
        raise ArtifactError(
            f"{path} ends before {missing[0]}",
            facts=[f"it holds {len(floats):,} numbers, the trunk needs {needed:,}"],
            hint="use the weights of the whole YOLOv3, or darknet53 with its neck",
        )
    for tensor, part in values:
        tensor.copy_(torch.from_numpy(part.copy()).view(tensor.shape))
    return DarknetLoad(
        read, len(floats) - at, [n.removesuffix(".bn.bias") for n in missing if n.endswith("bn.bias")]
    )
