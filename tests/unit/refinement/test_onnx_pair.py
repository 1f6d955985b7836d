"""Segmenters of two ONNX files, however they were exported: what is bright in the box is the object."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages.errors import ArtifactError, UsageError
from stages.geometry.rasterise import ellipse_to_rle, rle_to_mask
from stages.refinement.load import load_segmenter, segmenter_files
from stages.refinement.onnx_pair import OnnxSegmenter, load_onnx_segmenter
from tests.oracles.tiny_onnx import STYLES, Style, write_pair

SIZE = (96, 128)
BOX = np.array([16.0, 8.0, 80.0, 72.0])
DISC = rle_to_mask(ellipse_to_rle(BOX, SIZE))


def load(source: Path | str, **changes: Any) -> OnnxSegmenter:
    how = {"threads": 1, "cuda": False, "prompt_points": 0, "max_prompts": 3, **changes}
    return load_onnx_segmenter(str(source), **how)


def bright(mask: NDArray[np.bool_] = DISC) -> NDArray[np.uint8]:
    """White where the mask is, black elsewhere."""
    return np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("style", STYLES)
def test_every_way_of_exporting_is_understood(style: Style, tmp_path: Path) -> None:
    segmenter = load(write_pair(tmp_path, style))
    masks, scores = segmenter.segment(segmenter.encode(bright()), BOX[None], DISC[None])
    best = max(zip(scores[0], masks[0], strict=True), key=lambda pair: pair[0])
    assert best[1].shape == SIZE and best[1].dtype == np.bool_
    assert best[0] == pytest.approx(0.9)
    assert iou(best[1], DISC) > 0.85
    assert (
        len(masks[0])
        == len(scores[0])
        == (3 if style in ("multimask", "edge-sam", "optimum", "points-only") else 1)
    )


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (33, 200), (64, 64), (16, 16)])
def test_masks_lie_where_the_object_is_in_pictures_of_any_shape(
    size: tuple[int, int], tmp_path: Path
) -> None:
    h, w = size
    box = np.array([w * 0.25, h * 0.25, w * 0.75, h * 0.75])
    disc = rle_to_mask(ellipse_to_rle(box, size))
    for style in ("sam", "sam2"):  # padded, stretched
        segmenter = load(write_pair(tmp_path / style, style))
        masks, _ = segmenter.segment(segmenter.encode(bright(disc)), box[None], disc[None])
        assert iou(masks[0][0], disc) > 0.6, style


def test_a_box_is_asked_again_only_where_its_mask_misses_the_sides(tmp_path: Path) -> None:
    square = np.zeros(SIZE, np.bool_)
    square[8:72, 16:80] = True
    for shrunk, asked in ((0.0, 1), (6.0, 2)):
        segmenter = load(write_pair(tmp_path / str(shrunk), shrunk=shrunk))
        masks, scores = segmenter.segment(segmenter.encode(bright(square)), BOX[None], square[None])
        assert len(masks[0]) == len(scores[0]) == asked
        assert masks[0][-1].sum() == pytest.approx(square.sum(), rel=0.1)
    assert masks[0][0].sum() < 0.7 * square.sum()
    once = load(tmp_path / "6.0", max_prompts=1)
    assert len(once.segment(once.encode(bright(square)), BOX[None], square[None])[0][0]) == 1


def test_where_the_mask_cannot_be_given_back_a_wider_box_is_asked(tmp_path: Path) -> None:
    nothing = np.zeros(SIZE, np.bool_)
    segmenter = load(write_pair(tmp_path))
    masks, _ = segmenter.segment(segmenter.encode(bright(nothing)), BOX[None], DISC[None])
    assert len(masks[0]) == 3 and not masks[0].any()


def test_two_paths_in_any_order_and_a_folder_are_the_same(tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "pair")
    encoder, decoder = folder / "encoder.onnx", folder / "decoder.onnx"
    picture = bright()
    found = []
    for source in (str(folder), f"{encoder},{decoder}", f"{decoder}, {encoder}"):
        segmenter = load(source)
        found.append(segmenter.segment(segmenter.encode(picture), BOX[None], DISC[None])[0][0])
        assert sorted(segmenter_files(source)) == [decoder, encoder]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    segmenter, device = load_segmenter(str(folder), torch.device("cpu"), prompt_points=0, max_prompts=1)
    assert isinstance(segmenter, OnnxSegmenter) and device == "cpu"


def test_prompts_alone_equal_prompts_together(tmp_path: Path) -> None:
    segmenter = load(write_pair(tmp_path), prompt_points=2)
    encoded = segmenter.encode(bright())
    boxes = np.stack([BOX, BOX + 8, BOX - 4])
    masks, _ = segmenter.segment(encoded, boxes, np.stack([DISC] * 3))
    for k, box in enumerate(boxes):
        assert np.array_equal(masks[k], segmenter.segment(encoded, box[None], DISC[None])[0][0])


def test_what_is_no_pair_is_told_before_work(tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "pair")
    for name in ("encoder", "decoder"):
        folder = tmp_path / f"two-{name}s"
        folder.mkdir()
        for k in range(2):
            shutil.copy(pair / f"{name}.onnx", folder / f"{k}.onnx")
        with pytest.raises(ArtifactError, match=r"holds two (prompt decoders|image encoders), no pair"):
            load(folder)
    (tmp_path / "pair" / "third.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match="holds 3 ONNX files, a segmenter is two") as caught:
        load(pair)
    assert "third.onnx" in caught.value.facts
    (tmp_path / "pair" / "third.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"no such file: .*absent\.onnx"):
        load(f"{pair / 'encoder.onnx'},{tmp_path / 'absent.onnx'}")
    with pytest.raises(ArtifactError, match="is 1 files, a segmenter is two"):
        load(str(pair / "encoder.onnx"))
    (pair / "decoder.onnx").write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match=r"decoder\.onnx is no ONNX model that can be run"):
        load(pair)


def test_a_decoder_of_another_encoder_is_told_with_names_and_shapes(tmp_path: Path) -> None:
    pair, other = write_pair(tmp_path / "a"), write_pair(tmp_path / "b", "sam2")
    with pytest.raises(ArtifactError, match=r"decoder\.onnx takes what the encoder does not give") as caught:
        load(f"{pair / 'encoder.onnx'},{other / 'decoder.onnx'}")
    assert "the encoder gives output [1, 1, 16, 16] tensor(float)" in caught.value.facts
    assert any(fact.startswith("input high_res_feats_0 [") for fact in caught.value.facts)


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = write_pair(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="onnxruntime, which is not installed") as caught:
        load(pair)
    assert caught.value.hint == "pip install 'seqres[onnx]'"
