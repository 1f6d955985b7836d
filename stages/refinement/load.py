"""The segmenter that a name stands for: `grabcut`, an ONNX pair, or a checkpoint for transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.refinement.onnx_pair import load_onnx_segmenter, onnx_files
from stages.refinement.segmenter import Segmenter

if TYPE_CHECKING:
    import torch

GRABCUT = "grabcut"


def segmenter_files(name: str) -> Path | Sequence[Path] | None:
    """What decides the result and lies on this machine: a folder or files; None for GrabCut and hub ids.

    Raises:
        ArtifactError: a folder or list of ONNX files that is no pair.
    """
    if name == GRABCUT:
        return None
    return onnx_files(name) or (Path(name) if Path(name).exists() else None)


def load_segmenter(
    name: str, device: torch.device, *, prompt_points: int, max_prompts: int
) -> tuple[Segmenter, str]:
    """The segmenter and the device that it uses. For the points and prompts see `OnnxSegmenter`.

    Raises:
        UsageError: a package is missing.
        ArtifactError: there is no such segmenter, or it cannot be used.
    """
    import torch

    if name == GRABCUT:
        from stages.refinement.grabcut import GrabCut

        return GrabCut(torch.get_num_threads()), "cpu"
    if onnx_files(name):
        onnx = load_onnx_segmenter(
            name, threads=torch.get_num_threads(), cuda=device.type == "cuda",
            prompt_points=prompt_points, max_prompts=max_prompts,
        )  # fmt: skip
        return onnx, onnx.device
    from stages.refinement.hub import load_hub_segmenter

    return load_hub_segmenter(name, device, prompt_points), str(device)
