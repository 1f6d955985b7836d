"""Loading promptable segmenters of transformers, and what their prompts, pictures and masks become."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.errors import ArtifactError, UsageError
from stages.geometry.rasterise import box_to_rle, rle_to_mask
from stages.refinement.hub import HubSegmenter, load_hub_segmenter
from stages.refinement.segmenter import MEAN, STD, Frame, cut_to_box, interior_points
from tests.oracles.tiny_segmenters import KINDS, write_tiny_segmenter


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("segmenters")
    return {kind: write_tiny_segmenter(root / kind, kind) for kind in KINDS}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    shutil.copytree(folders["sam"], tmp_path / "copy")
    return tmp_path / "copy"


def load(path: Path, points: int = 0) -> HubSegmenter:
    return load_hub_segmenter(str(path), torch.device("cpu"), points)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("points", [0, 2])
def test_prompts_alone_equal_prompts_together(kind: str, points: int, folders: dict[str, Path]) -> None:
    model = load(folders[kind], points)
    rng = np.random.default_rng(0)
    encoded = model.encode(rng.integers(0, 256, (48, 80, 3), np.uint8))
    boxes = np.array([[4, 4, 30, 30], [20, 10, 70, 40], [0, 0, 80, 48]], np.float64)
    starts = rng.random((3, 48, 80)) < 0.5
    masks, scores = model.segment(encoded, boxes, starts)
    assert masks.shape[2:] == (48, 80) and masks.dtype == bool
    assert masks.shape[:2] == scores.shape and len(masks) == 3
    mask, score = model.segment(encoded, boxes[1:2], starts[1:2])
    assert (mask[0] == masks[1]).mean() > 0.999
    assert score[0] == pytest.approx(scores[1], abs=1e-5)
    assert not np.allclose(scores[0], scores[1], atol=1e-7), "the prompt matters"


@pytest.mark.parametrize(
    ("kind", "own", "box"),
    [("sam", (64, 48), [5, 10, 25, 30]), ("sam2", (64, 64), [20 / 3, 10, 100 / 3, 30])],
)
def test_points_and_boxes_are_scaled_to_the_input(
    kind: str,
    own: tuple[int, int],
    box: list[float],
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load(folders[kind], 1)
    encoded = model.encode(np.zeros((128, 96, 3), np.uint8))
    assert encoded.frame.own_hw == own
    seen: dict[str, Any] = {}
    original = model.model.forward

    def watch(**arguments: Any) -> Any:
        seen.update(arguments)
        return original(**arguments)

    monkeypatch.setattr(model.model, "forward", watch)
    start = np.zeros((1, 128, 96), np.bool_)
    start[0, 30, 20] = True
    model.segment(encoded, np.array([[10.0, 20, 50, 60]]), start)
    assert seen["input_boxes"][0, 0].tolist() == pytest.approx(box)
    x, y = seen["input_points"][0, 0, 0].tolist()
    assert (x, y) == pytest.approx((20.5 * own[1] / 96 - 0.5, 30.5 / 2 - 0.5)), (
        "half a pixel is added by the model"
    )
    assert seen["input_labels"].tolist() == [[[1]]]


def test_interior_points_lie_deep_inside_and_apart() -> None:
    mask = rle_to_mask(box_to_rle([10, 12, 40, 22], (60, 80)))
    points = interior_points(mask, 3)
    assert all(mask[int(y), int(x)] for x, y in points)
    assert (points % 1 == 0.5).all(), "pixel centres"
    assert 16 <= points[0, 1] <= 18, "the middle line"
    distances = [np.hypot(*(a - b)) for k, a in enumerate(points) for b in points[:k]]
    assert min(distances) >= 4
    two = np.zeros((60, 80), np.bool_)
    two[0, 0] = two[0, 1] = True
    assert {tuple(p) for p in interior_points(two, 4).tolist()} == {(0.5, 0.5), (1.5, 0.5)}
    assert interior_points(two, 0).shape == (0, 2)


def test_masks_come_back_without_the_padding() -> None:
    logits = np.full((1, 1, 16, 16), -1.0)
    logits[..., :8, 4:] = 1.0  # the right part of a picture that fills the upper half of the square
    mask = Frame.of((100, 200), 64, stretch=False).masks(logits)[0, 0]
    assert mask.shape == (100, 200)
    assert mask[50, 52:].all() and not mask[50, :48].any()
    assert mask[:90, 60:].all()
    stretched = Frame.of((100, 200), 64, stretch=True).masks(logits)[0, 0]
    assert stretched[:48, 52:].all() and not stretched[52:].any()


def test_what_leaves_the_box_is_cut_at_the_rule_of_the_rasteriser() -> None:
    everything = np.ones((2, 60, 80), np.bool_)
    for box in ([10.2, 5.5, 40.5, 30.6], [-5, 50, 90, 70], [70, 10, 70, 20]):
        wanted = rle_to_mask(box_to_rle(box, (60, 80)))
        assert np.array_equal(cut_to_box(everything, np.array(box)), np.stack([wanted] * 2))


def test_pictures_are_encoded_at_their_own_size_with_zeros_behind(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(folders["sam"])
    seen: list[torch.Tensor] = []
    original = model.model.get_image_embeddings
    monkeypatch.setattr(model.model, "get_image_embeddings", lambda x: seen.append(x) or original(x))
    model.encode(np.full((32, 128, 3), 255, np.uint8))
    (pixels,) = seen
    assert pixels.shape == (1, 3, 64, 64)
    assert pixels[0, :, 0, 0].tolist() == pytest.approx(
        [(1 - m) / s for m, s in zip(MEAN, STD, strict=True)], abs=1e-5
    )
    assert pixels[0, :, :16].min() > 2 and pixels[0, :, 16:].abs().max() == 0


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_the_processors_json_says_how_pictures_are_prepared(name: str, copy: Path) -> None:
    settings: dict[str, Any] = {
        "size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "rescale_factor": 0.01,
    }  # fmt: skip
    (copy / name).write_text(
        json.dumps(settings if name.startswith("pre") else {"image_processor": settings})
    )
    how = load(copy).preparation
    assert (how.side, how.stretch, how.mean, how.std, how.factor) == (64, True, (0.5,) * 3, (0.25,) * 3, 0.01)
    (copy / name).write_text(json.dumps({"size": {"longest_edge": 64}, "do_normalize": False}))
    how = load(copy).preparation
    assert (how.stretch, how.mean, how.std) == (False, (0.0,) * 3, (1.0,) * 3)
    (copy / name).write_text(json.dumps({"size": {"longest_edge": 1024}}))
    with pytest.raises(ArtifactError, match="prepares pictures of 1024 px, but its model takes 64 px"):
        load(copy)


def test_weights_are_safetensors_only(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(ArtifactError, match=r"are pickles, which are not read: pytorch_model\.bin") as caught:
        load(copy)
    assert "save_pretrained" in str(caught.value.hint)


def test_a_pickle_beside_safetensors_is_not_opened(copy: Path) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"never opened")
    assert load(copy).preparation.side == 64


def test_what_is_no_checkpoint_is_told(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no segmenter at .*absent"):
        load(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="no segmenter at 'nobody/nothing'"):
        load_hub_segmenter("nobody/nothing", torch.device("cpu"), 0)
    (tmp_path / "sam.pth").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"sam\.pth is a file, a segmenter of transformers is a folder"):
        load(tmp_path / "sam.pth")
    (copy / "preprocessor_config.json").write_text("{")
    with pytest.raises(ArtifactError, match="no segmenter at"):
        load(copy)
    (copy / "preprocessor_config.json").unlink()
    (copy / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="no segmenter at"):
        load(copy)
    (copy / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    with pytest.raises(
        ArtifactError, match="is a model of type 'resnet', which draws no masks for boxes"
    ) as caught:
        load(copy)
    assert "sam2" in caught.value.facts[0]


def test_weights_that_are_not_complete_are_listed(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    lost = next(name for name in sorted(state) if name.startswith("mask_decoder"))
    save_file(
        {k: v for k, v in state.items() if k != lost}, copy / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(ArtifactError, match="does not hold the whole sam") as caught:
        load(copy)
    assert caught.value.facts == (f"missing: {lost}",)


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_a_package_that_a_model_needs_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from transformers import EdgeTamConfig

    EdgeTamConfig().save_pretrained(tmp_path)
    save_file({"nothing": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="needs a package that is not installed") as caught:
        load(tmp_path)
    assert caught.value.hint == "pip install timm"
