"""Loading a SAM checkpoint, and what its prompts, pictures and masks become."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.errors import ArtifactError
from stages.geometry.rasterise import box_to_rle, rle_to_mask
from stages.models import sam
from tests.oracles.tiny_sam import write_tiny_sam


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sam(tmp_path_factory.mktemp("sam") / "tiny-sam")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_prompts_alone_equal_prompts_together(folder: Path) -> None:
    model = sam.load_sam(str(folder), torch.device("cpu"), 1)
    rng = np.random.default_rng(0)
    encoded = model.encode(rng.integers(0, 256, (48, 80, 3), np.uint8))
    boxes = np.array(
        [[4, 4, 30, 30], [20, 10, 70, 40], [0, 0, 80, 48]] * 4, np.float64
    )  # more than one piece
    drawn = rng.random((12, 48, 80)) < 0.5
    masks, scores = model.draw(encoded, boxes, drawn)
    assert masks.shape == (12, 3, 48, 80) and masks.dtype == bool
    assert scores.shape == (12, 3)
    for k in (0, 9):
        mask, score = model.draw(encoded, boxes[k : k + 1], drawn[k : k + 1])
        assert (mask[0] == masks[k]).mean() > 0.999
        assert score[0] == pytest.approx(scores[k], abs=1e-5)
    model.prompt_points = 0
    assert model.draw(encoded, boxes[:1], drawn[:1])[0].shape == (1, 3, 48, 80), "a box alone"
    assert not np.allclose(scores[0], scores[1], atol=1e-7), "the prompt matters"


def test_points_and_boxes_are_scaled_to_the_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sam.load_sam(str(folder), torch.device("cpu"), 1)
    encoded = model.encode(np.zeros((128, 96, 3), np.uint8))
    assert encoded.own_hw == (64, 48)
    seen: dict[str, Any] = {}
    original = model.model.forward

    def watch(**arguments: Any) -> Any:
        seen.update(arguments)
        return original(**arguments)

    monkeypatch.setattr(model.model, "forward", watch)
    drawn = np.zeros((1, 128, 96), np.bool_)
    drawn[0, 30, 20] = True
    model.draw(encoded, np.array([[10.0, 20, 50, 60]]), drawn)
    assert seen["input_boxes"].tolist() == [[[5, 10, 25, 30]]]
    assert seen["input_points"].tolist() == [[[[9.75, 14.75]]]], "half a pixel is added by the model"
    assert seen["input_labels"].tolist() == [[[1]]]


def test_interior_points_lie_deep_inside_and_apart() -> None:
    mask = rle_to_mask(box_to_rle([10, 12, 40, 22], (60, 80)))
    points = sam.interior_points(mask, 3)
    assert all(mask[int(y), int(x)] for x, y in points)
    assert (points % 1 == 0.5).all(), "pixel centres"
    assert 16 <= points[0, 1] <= 18, "the middle line"
    distances = [np.hypot(*(a - b)) for k, a in enumerate(points) for b in points[:k]]
    assert min(distances) >= 4
    two = np.zeros((60, 80), np.bool_)
    two[0, 0] = two[0, 1] = True
    assert {tuple(p) for p in sam.interior_points(two, 4).tolist()} == {(0.5, 0.5), (1.5, 0.5)}
    assert sam.interior_points(two, 0).shape == (0, 2)


def test_masks_come_back_without_the_padding() -> None:
    logits = torch.full((1, 1, 16, 16), -1.0)
    logits[..., :8, 4:] = 1.0  # the right part of a picture that fills the upper half of the square
    mask = sam.at_original_size(logits, 64, (32, 64), (100, 200))[0, 0]
    assert mask.shape == (100, 200)
    assert mask[50, 52:].all() and not mask[50, :48].any()
    assert mask[:90, 60:].all()


def test_pictures_are_encoded_at_their_own_size_with_zeros_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sam.load_sam(str(folder), torch.device("cpu"), 1)
    seen: list[torch.Tensor] = []
    original = model.model.get_image_embeddings
    monkeypatch.setattr(model.model, "get_image_embeddings", lambda x: seen.append(x) or original(x))
    model.encode(np.full((32, 128, 3), 255, np.uint8))
    (pixels,) = seen
    assert pixels.shape == (1, 3, 64, 64)
    assert pixels[0, :, 0, 0].tolist() == pytest.approx(
        [(1 - m) / s for m, s in zip(sam.MEAN, sam.STD, strict=True)]
    )
    assert pixels[0, :, :16].min() > 2 and pixels[0, :, 16:].abs().max() == 0


def test_weights_are_safetensors_only(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(ArtifactError, match=r"are pickles, which are not read: pytorch_model\.bin") as caught:
        sam.load_sam(str(copy), torch.device("cpu"), 1)
    assert "save_pretrained" in str(caught.value.hint)


def test_a_pickle_beside_safetensors_is_not_opened(copy: Path) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"never opened")
    assert sam.load_sam(str(copy), torch.device("cpu"), 1).side == 64


def test_what_is_no_checkpoint_is_told(copy: Path, tmp_path: Path) -> None:
    def load(path: Path) -> None:
        sam.load_sam(str(path), torch.device("cpu"), 1)

    with pytest.raises(ArtifactError, match="no SAM checkpoint at"):
        load(tmp_path / "absent")
    (tmp_path / "sam.pth").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"sam\.pth is a file, a SAM checkpoint is a folder"):
        load(tmp_path / "sam.pth")
    (copy / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="no SAM checkpoint at"):
        load(copy)
    (copy / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    with pytest.raises(ArtifactError, match="is a model of type 'resnet', not 'sam'"):
        load(copy)


def test_weights_that_are_not_complete_are_listed(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    lost = next(name for name in sorted(state) if name.startswith("mask_decoder"))
    save_file(
        {k: v for k, v in state.items() if k != lost}, copy / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(ArtifactError, match="does not hold the whole SAM") as caught:
        sam.load_sam(str(copy), torch.device("cpu"), 1)
    assert caught.value.facts == (f"missing: {lost}",)
