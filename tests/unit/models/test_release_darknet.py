"""Darknet weight files: order, length, and every way in which they can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stages.errors import ArtifactError
from stages.models.darknet import ConvBlock, ResidualStack
from stages.weights.darknet import layout, load_darknet


def trunk() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(ConvBlock(3, 4, 3), ResidualStack(4, 1, shortcut=True), ConvBlock(4, 2, 1))


def write(path: Path, floats: np.ndarray, header: tuple[int, ...] = (0, 2, 0, 32013312, 0)) -> Path:
    path.write_bytes(np.array(header, "<i4").tobytes() + floats.astype("<f4").tobytes())
    return path


LENGTHS = [t.numel() for _, t in layout(trunk())]
TOTAL = sum(LENGTHS)
LAST = TOTAL - sum(LENGTHS[-5:])  # where the last convolution begins


def test_numbers_land_in_file_order(tmp_path: Path) -> None:
    model = trunk()
    loaded = load_darknet(model, write(tmp_path / "t.weights", np.arange(TOTAL + 7)))
    flat = torch.cat([t.flatten() for _, t in layout(model)])
    assert torch.equal(flat, torch.arange(float(TOTAL)))
    assert (loaded.left_over, loaded.not_covered) == (7, [])
    assert loaded.read[:5] == [
        "0.bn.bias",
        "0.bn.weight",
        "0.bn.running_mean",
        "0.bn.running_var",
        "0.conv.weight",
    ]


def test_a_file_that_ends_between_convolutions_needs_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "t.weights", np.arange(LAST))
    with pytest.raises(ArtifactError, match=r"ends before 2\.bn\.bias"):
        load_darknet(trunk(), path)
    model = trunk()
    before = model[2].conv.weight.clone()
    loaded = load_darknet(model, path, allow_partial=True)
    assert loaded.not_covered == ["2"]
    assert torch.equal(model[2].conv.weight, before)
    assert torch.equal(model[2].bn.running_var, torch.ones(2))  # the release sets it to 0 (ODDITIES F6)


@pytest.mark.parametrize("length", [3, LAST + 1, LAST + 3, TOTAL - 1])
def test_a_file_that_ends_inside_a_convolution_is_refused_by_tensor(tmp_path: Path, length: int) -> None:
    model = trunk()
    before = [t.clone() for _, t in layout(model)]
    with pytest.raises(ArtifactError, match=r"ends before \d\.\S+"):
        load_darknet(model, write(tmp_path / "t.weights", np.arange(length)), allow_partial=True)
    assert all(torch.equal(a, t) for a, (_, t) in zip(before, layout(model), strict=True))


def test_impossible_numbers_name_their_tensor(tmp_path: Path) -> None:
    floats = np.arange(TOTAL, dtype=np.float64)
    floats[5] = np.nan
    with pytest.raises(ArtifactError, match=r"0\.bn\.weight holds numbers that are not finite"):
        load_darknet(trunk(), write(tmp_path / "t.weights", floats))
    floats[5], floats[13] = 0, -1
    with pytest.raises(ArtifactError, match=r"0\.bn\.running_var holds a negative variance"):
        load_darknet(trunk(), write(tmp_path / "t.weights", floats))


@pytest.mark.parametrize("data", [b"", b"short", bytes(21), b"PK\x03\x04" + bytes(400)])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.weights"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"x\.weights"):
        load_darknet(trunk(), path)
    with pytest.raises(ArtifactError, match="cannot read"):
        load_darknet(trunk(), tmp_path / "absent.weights")
