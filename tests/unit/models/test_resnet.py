"""The small ResNet against the class of transformers, and what a forward pass imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from stages.models.resnet import BasicResNet, basic_strides, is_basic_resnet
from tests.oracles.random_models import write_random_model

SMALL = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24], "depths": [1, 2, 1],
    "layer_type": "basic", "hidden_act": "relu", "out_features": ["stage1", "stage2", "stage3"],
}  # fmt: skip


@pytest.mark.parametrize(
    "changed", [{}, {"downsample_in_first_stage": True}, {"out_features": ["stem", "stage2"]}]
)
@pytest.mark.parametrize("training", [False, True])
def test_the_same_maps_and_names_as_transformers(changed: dict[str, Any], training: bool) -> None:
    from transformers import AutoBackbone, AutoConfig

    settings = {**SMALL, **changed}
    theirs = AutoBackbone.from_config(AutoConfig.for_model(**settings))
    ours = BasicResNet(settings)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for value in theirs.state_dict().values():
        if value.dtype.is_floating_point:
            value.uniform_(0.5, 1.0)
    ours.load_state_dict(theirs.state_dict())
    assert ours.channels == tuple(theirs.channels)
    images = torch.randn(2, 3, 70, 93)
    found, wanted = ours.train(training)(images), theirs.train(training)(images).feature_maps
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other)
    sides = [64 // m.shape[-1] for m in ours(torch.zeros(1, 3, 64, 64))]
    assert basic_strides(settings) == tuple(sides)


def test_other_networks_are_left_to_transformers() -> None:
    assert is_basic_resnet(SMALL)
    for changed in (
        {"layer_type": "bottleneck"},
        {"hidden_act": "gelu"},
        {"model_type": "swin"},
        {"num_channels": 1},
    ):
        assert not is_basic_resnet({**SMALL, **changed})
    assert not is_basic_resnet({"model_type": "resnet"})  # bottlenecks are the default of transformers


def test_a_prediction_of_the_small_model_imports_torch_and_little_else(
    tmp_path: Path, project_root: Path
) -> None:
    """Start-up is paid by every stage: no compiler, no distributed code, no algebra, no model zoo on the way."""
    model = write_random_model(tmp_path / "model.h5", "second look, box-contour")
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((40, 50, 3), np.uint8))
    code = f"""
import sys, torch
before = set(sys.modules)
from pathlib import Path
from stages import predict
predict.run(predict.Config(device="cpu"), model=Path({str(model)!r}), image=Path({str(picture)!r}), phrase=["the red star"], out=Path({str(tmp_path / "p.json")!r}))
heavy = "transformers scipy sympy torch._dynamo torch._inductor torch.distributed.tensor networkx matplotlib PIL onnx"
new = set(sys.modules) - before
print(*sorted(h for h in heavy.split() if any(m == h or m.startswith(h + ".") for m in new)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root, check=True
    )
    assert done.stdout.split() == []
