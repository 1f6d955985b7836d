"""refine-masks: when another segmenter's mask is taken, what is written, and the loading of a tiny SAM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from stages import prepare_data, resample_points
from stages.artifacts import RunOptions, open_artifact, verify_artifact
from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.geometry.boxes import polygon_extent
from stages.geometry.projection import projection_scores
from stages.geometry.rasterise import box_to_rle, ellipse_to_rle, polygon_to_rle, rle_to_mask
from stages.metrics.refinement import interior_points, judge, outline_of
from stages.metrics.segmentation import overlaps
from stages.models import sam
from stages.refine_masks import Config, run
from tests.oracles.small_artifacts import diamond, write_dataset, write_pseudo

SIZE = (60, 80)
BOX = np.array([10.0, 12.0, 40.0, 48.0])


def box_mask(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return rle_to_mask(box_to_rle([x1, y1, x2, y2], SIZE))


def ellipse(box: Any = BOX) -> dict[str, Any]:
    return ellipse_to_rle(box, SIZE)


# ---- agreement ----


@pytest.mark.parametrize(
    ("masks", "reason", "best"),
    [
        ([rle_to_mask(ellipse())], "refined", 0),
        ([np.zeros(SIZE, bool)], "nothing drawn", None),
        ([box_mask(10, 12, 40, 20)], "differs from the box", 0),  # a part of the object
        ([box_mask(0, 0, 80, 60)], "differs from the box", 0),  # the ground
        (
            [box_mask(10, 12, 40, 15) | box_mask(10, 12, 13, 48)],
            "differs from the outline",
            0,
        ),  # round the object
        ([box_mask(50, 12, 70, 48), rle_to_mask(ellipse()), np.zeros(SIZE, bool)], "refined", 1),
        ([rle_to_mask(ellipse()) | box_mask(70, 2, 72, 4)], "refined", 0),  # a speck elsewhere does not count
    ],
)
def test_a_mask_must_agree_with_box_and_outline(
    masks: list[np.ndarray], reason: str, best: int | None
) -> None:
    scores = np.arange(len(masks)) / 10
    verdict = judge(np.array(masks), scores, BOX, ellipse(), least_box_iou=0.8, least_outline_iou=0.5)
    assert verdict.reason == reason
    if best is None:
        assert np.isnan([verdict.box_iou, verdict.outline_iou, verdict.score]).all()
        assert verdict.rle is None and len(verdict.outline_xy) == 0
    else:
        assert verdict.score == scores[best]
        assert verdict.rle is not None
        drawn = polygon_to_rle(verdict.outline_xy, SIZE)
        assert verdict.outline_iou == pytest.approx(overlaps([drawn], [ellipse()]).iou[0])


def test_thresholds_are_reached_at_equality() -> None:
    mask = box_mask(10, 12, 40, 48)
    exact = {"least_box_iou": 1.0, "least_outline_iou": 1.0}
    old = polygon_to_rle(outline_of(mask), SIZE)
    assert judge(mask[None], np.ones(1), BOX, old, **exact).reason == "refined"
    assert (
        judge(mask[None], np.ones(1), BOX + np.array([0, 0, 1, 0]), old, **exact).reason
        == "differs from the box"
    )
    assert judge(mask[None], np.ones(1), BOX, ellipse(), **exact).reason == "differs from the outline"


def test_outlines_have_few_points_and_lose_little() -> None:
    mask = rle_to_mask(ellipse())
    outline = outline_of(mask)
    assert 8 <= len(outline) <= 50
    assert overlaps([polygon_to_rle(outline, SIZE)], [ellipse()]).iou[0] > 0.95
    one = np.zeros(SIZE, bool)
    one[3, 4] = True
    assert len(outline_of(one)) >= 3
    assert outline_of(np.zeros(SIZE, bool)).shape == (0, 2)


def test_interior_points_lie_deep_inside_and_apart() -> None:
    mask = box_mask(10, 12, 40, 22)
    points = interior_points(mask, 3)
    assert all(mask[int(y), int(x)] for x, y in points)
    assert (points % 1 == 0.5).all(), "pixel centres"
    assert 16 <= points[0, 1] <= 18, "the middle line"
    distances = [np.hypot(*(a - b)) for k, a in enumerate(points) for b in points[:k]]
    assert min(distances) >= 4
    two = np.zeros(SIZE, bool)
    two[0, 0] = two[0, 1] = True
    assert {tuple(p) for p in interior_points(two, 4).tolist()} == {(0.5, 0.5), (1.5, 0.5)}
    assert interior_points(two, 0).shape == (0, 2)


# ---- the stage with a predictor whose masks are known ----


class Known:
    """Draws for each box what `answer` says, and counts."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.encoded, self.prompts = answer, 0, []  # type: ignore[var-annotated]

    def encode(self, picture: np.ndarray) -> tuple[int, int]:
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        self.encoded += 1
        return picture.shape[0], picture.shape[1]

    def draw(
        self, encoded: tuple[int, int], boxes: np.ndarray, points: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        self.prompts += list(zip(boxes.tolist(), points.tolist(), strict=True))
        masks = [[rle_to_mask(rle) for rle in self.answer(box, encoded)] for box in boxes]
        return np.array(masks), np.full((len(boxes), len(masks[0])), 0.75, np.float32)


def use(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Known:
    known = Known(answer)
    monkeypatch.setattr(sam, "load_sam", lambda source, device: known)
    return known


def true_ellipse(box: np.ndarray, size: tuple[int, int]) -> list[dict[str, Any]]:
    return [ellipse_to_rle(box, size), ellipse_to_rle(box + 25, size)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "d.h5"
    prepare_data.run(prepare_data.Config(scale="tiny"), out=path)
    return path


@pytest.fixture(scope="module")
def pseudo(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows a referent for the first six: the second row of each is the better one; referent 2 draws nothing."""
    data = ReferringDataset.open(dataset)
    rows = []
    for r in range(6):
        box, sentence = data.boxes_xyxy[r], int(data.sentence_offsets[r])
        worse = diamond((box + np.array([3, 0, 3, 0])).tolist())
        rows.append((r, sentence, 0.9, [] if r == 2 else worse))
        rows.append((r, sentence + 1, 0.6, [] if r == 2 else diamond(box.tolist())))
    return write_pseudo(tmp_path_factory.mktemp("pseudo") / "p.h5", dataset, rows, n_points=12)


def config(**changes: Any) -> Config:
    return Config(**{"sam": "somewhere", "device": "cpu", **changes})


def test_refined_outlines_take_the_place_of_the_old(
    dataset: Path, pseudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, data, out = use(monkeypatch, true_ellipse), ReferringDataset.open(dataset), tmp_path / "r.h5"
    summary = run(config(), dataset=dataset, pseudo=pseudo, out=out).summary
    assert verify_artifact(out) == []
    assert (summary["referents"], summary["sentences"], summary["refined"]) == (6, 12, 5)
    assert summary["left_as_they_were"]["no outline to refine"] == 1
    assert known.encoded == len(np.unique(data.referent_image[[0, 1, 3, 4, 5]])) < 5, "once a picture"
    with open_artifact(out, kind="pseudo_points") as a, open_artifact(pseudo) as old:
        assert a["refined"].tolist() == [r != 2 for r in range(6) for _ in range(2)]
        assert a.strings("decisions/reason") == ["refined"] * 2 + ["no outline to refine"] + ["refined"] * 3
        assert a["decisions/sam_score"][0] == 0.75 and np.isnan(a["decisions/sam_score"][2])
        assert (a["decisions/box_iou"][[0, 1, 3]] > 0.8).all()
        second = [int(data.sentence_offsets[r]) + 1 for r in (0, 1, 3, 4, 5)]
        assert a["decisions/sentence_index"][[0, 1, 3, 4, 5]].tolist() == second, (
            "as resample-points would choose"
        )
        rings, size = a.ragged("points_xy"), tuple(data.image_sizes_hw[0])
        for s, r in enumerate(a["referent_index"]):
            if r == 2:
                assert len(rings[s]) == 0
                continue
            wanted = ellipse_to_rle(data.boxes_xyxy[r], size)
            assert overlaps([polygon_to_rle(rings[s], size)], [wanted]).iou[0] > 0.9
            assert polygon_extent(rings[s]) == pytest.approx(data.boxes_xyxy[r], abs=1)
        for name in (
            "referent_index",
            "sentence_index",
            "tokens",
            "token_probability",
            "box_xyxy",
            "confidence",
        ):
            assert np.array_equal(a[name], old[name]), name
        filled = [polygon_to_rle(rings[s], size) for s in range(4)]
        new = projection_scores(filled, data.boxes_xyxy[a["referent_index"][:4]])
        assert a["projection_score"][:4] == pytest.approx(new)
        assert (new > 0).all(), "the old file says 0"
        assert (a.attrs["n_points"], a.attrs["pseudo_digest"]) == (12, old.digest)
        assert a.attrs["model_digest"] == old.attrs["model_digest"]


def test_prompts_are_the_known_box_and_points_inside_the_better_outline(
    dataset: Path, pseudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, data = use(monkeypatch, true_ellipse), ReferringDataset.open(dataset)
    run(config(prompt_points=2), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    boxes = {tuple(box): np.array(points) for box, points in known.prompts}
    assert set(boxes) == {tuple(data.boxes_xyxy[r].tolist()) for r in (0, 1, 3, 4, 5)}
    for box, points in boxes.items():
        inside = rle_to_mask(polygon_to_rle(diamond(box), data.image_sizes_hw[0]))
        assert points.shape == (2, 2)
        assert all(inside[int(y), int(x)] for x, y in points)


def test_what_disagrees_stays_as_it_was(
    dataset: Path, pseudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ReferringDataset.open(dataset)
    first = data.boxes_xyxy[0]

    def answer(box: np.ndarray, size: tuple[int, int]) -> list[dict[str, Any]]:
        return [ellipse_to_rle(box, size) if np.array_equal(box, first) else box_to_rle([0, 0, 2, 2], size)]

    use(monkeypatch, answer)
    summary = run(config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5").summary
    assert summary["refined"] == 1
    assert summary["left_as_they_were"] == {
        "no outline to refine": 1, "nothing drawn": 0, "differs from the box": 4, "differs from the outline": 0,
    }  # fmt: skip
    with open_artifact(tmp_path / "r.h5") as a, open_artifact(pseudo) as old:
        for s in range(2, 12):
            assert np.array_equal(a.ragged("points_xy")[s], old.ragged("points_xy")[s])
            assert a["projection_score"][s] == old["projection_score"][s]
        assert not np.array_equal(a.ragged("points_xy")[0], old.ragged("points_xy")[0])
    off = use(monkeypatch, lambda box, size: [box_to_rle(box, size)])
    strict = config(min_outline_iou=0.9)
    summary = run(strict, dataset=dataset, pseudo=pseudo, out=tmp_path / "s.h5").summary
    assert summary["left_as_they_were"]["differs from the outline"] == 5
    assert off.encoded


def test_resample_points_takes_the_result(
    dataset: Path, pseudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, true_ellipse)
    run(config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    for name, source in (("old", pseudo), ("new", tmp_path / "r.h5")):
        resample_points.run(
            resample_points.Config(), dataset=dataset, pseudo=source, out=tmp_path / f"{name}.h5"
        )
    with open_artifact(tmp_path / "old.h5") as old, open_artifact(tmp_path / "new.h5") as new:
        assert new["points_xy"].shape == (5, 12, 2), "as many points as the model draws"
        assert new["referent_index"].tolist() == [0, 1, 3, 4, 5]
        data = ReferringDataset.open(dataset)
        truth = [ellipse_to_rle(data.boxes_xyxy[r], data.image_sizes_hw[0]) for r in new["referent_index"]]
        iou = [
            overlaps([polygon_to_rle(p, data.image_sizes_hw[0]) for p in a["points_xy"]], truth).iou.mean()
            for a in (old, new)
        ]
        assert iou[1] > iou[0] + 0.1


def test_rows_that_are_masks_are_refined_as_masks(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, true_ellipse)
    data = ReferringDataset.open(dataset)
    size, box = tuple(data.image_sizes_hw[0]), data.boxes_xyxy[0]
    from tests.oracles import small_artifacts

    monkeypatch.setattr(small_artifacts, "SIZE", size)
    rows = [(0, 0, 0.9, []), (1, int(data.sentence_offsets[1]), 0.9, [])]
    pseudo = write_pseudo(tmp_path / "p.h5", dataset, rows, masks=[box.tolist(), None], n_points=8)
    run(config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    with open_artifact(tmp_path / "r.h5") as a:
        assert a["refined"].tolist() == [True, False]
        masks = a.ragged("masks/rle")
        rle = {"size": list(size), "counts": masks[0].tobytes()}
        assert overlaps([rle], [ellipse_to_rle(box, size)]).iou[0] > 0.9
        assert len(masks[1]) == 0
        assert a.attrs["n_points"] == 8


def test_no_pseudo_labels_at_all(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, true_ellipse)
    pseudo = write_pseudo(tmp_path / "p.h5", dataset, [])
    summary = run(config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5").summary
    assert (summary["referents"], summary["refined"], summary["refined_share"]) == (0, 0, 0.0)
    assert verify_artifact(tmp_path / "r.h5") == []


def test_no_mask_of_the_dataset_is_read(
    dataset: Path, pseudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, true_ellipse)
    read: list[str] = []
    original = h5py.Dataset.__getitem__

    def watch(self: h5py.Dataset, *arguments: Any, **options: Any) -> Any:
        read.append(f"{Path(self.file.filename).name}:{self.name}")
        return original(self, *arguments, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watch)
    run(config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    assert "d.h5:/images/encoded/values" in read
    assert "d.h5:/masks/rle/values" not in read


def test_inputs_must_belong_together(pseudo: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "d.h5", ["train"] * 3)
    with pytest.raises(ArtifactError, match=r"p\.h5 was not made from .*d\.h5"):
        run(config(), dataset=other, pseudo=pseudo, out=tmp_path / "r.h5")
    with pytest.raises(UsageError, match="refine-masks needs --sam"):
        run(Config(), dataset=other, pseudo=pseudo, out=tmp_path / "r.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_box_iou": 1.2}, r"min-box-iou must be in \[0, 1\], got 1.2"),
        ({"min_outline_iou": -0.1}, "min-outline-iou must be in .* got -0.1"),
        ({"prompt_points": 17}, "prompt-points must be in .* got 17"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(**options)


# ---- a tiny SAM through the real loading code ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    torch.manual_seed(0)
    tiny = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=16, output_channels=16, num_hidden_layers=1, num_attention_heads=2, image_size=64,
            patch_size=8, window_size=4, global_attn_indexes=[0], num_pos_feats=8, mlp_dim=16, initializer_range=0.5,
        ).to_dict(),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4
        ).to_dict(),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=16, num_hidden_layers=2, num_attention_heads=2, iou_head_hidden_dim=16
        ).to_dict(),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("sam") / "tiny-sam"
    SamModel(tiny).save_pretrained(path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_checkpoint_draws_and_is_recorded(
    dataset: Path, pseudo: Path, folder: Path, tmp_path: Path
) -> None:
    out, loose = tmp_path / "r.h5", config(sam=str(folder), min_box_iou=0.0, min_outline_iou=0.0)
    summary = run(loose, dataset=dataset, pseudo=pseudo, out=out).summary
    assert summary["refined"] + summary["left_as_they_were"]["nothing drawn"] == 5
    with open_artifact(out) as a:
        (external,) = a.provenance["external"]
        assert (external["role"], external["path"]) == ("sam", str(folder))
        assert a.provenance["device"] == "cpu"
        assert np.isfinite(a["decisions/sam_score"]).sum() == summary["refined"]
    again = run(loose, dataset=dataset, pseudo=pseudo, out=out)
    assert again.status == "up-to-date"
    first = again.digest
    assert run(loose, dataset=dataset, pseudo=pseudo, out=out, options=RunOptions(force=True)).digest == first


def test_another_checkpoint_at_the_same_place_is_noticed(
    dataset: Path, pseudo: Path, copy: Path, tmp_path: Path
) -> None:
    run(config(sam=str(copy)), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    (copy / "note.txt").write_text("changed")
    with pytest.raises(StaleOutputError, match="made from something else") as caught:
        run(config(sam=str(copy)), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    assert any(fact.startswith("sam: ") for fact in caught.value.facts)


def test_prompts_alone_equal_prompts_together(folder: Path) -> None:
    model = sam.load_sam(str(folder), torch.device("cpu"))
    rng = np.random.default_rng(0)
    encoded = model.encode(rng.integers(0, 256, (48, 80, 3), np.uint8))
    boxes = np.array(
        [[4, 4, 30, 30], [20, 10, 70, 40], [0, 0, 80, 48]] * 4, np.float64
    )  # more than one piece
    points = rng.uniform(5, 40, (12, 2, 2))
    masks, scores = model.draw(encoded, boxes, points)
    assert masks.shape == (12, 3, 48, 80) and masks.dtype == bool
    assert scores.shape == (12, 3)
    for k in (0, 9):
        mask, score = model.draw(encoded, boxes[k : k + 1], points[k : k + 1])
        assert (mask[0] == masks[k]).mean() > 0.999
        assert score[0] == pytest.approx(scores[k], abs=1e-5)
    assert model.draw(encoded, boxes[:1], points[:1, :0])[0].shape == (1, 3, 48, 80), "a box alone"
    assert not np.allclose(scores[0], scores[1], atol=1e-7), "the prompt matters"


def test_points_and_boxes_are_scaled_to_the_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sam.load_sam(str(folder), torch.device("cpu"))
    encoded = model.encode(np.zeros((128, 96, 3), np.uint8))
    assert encoded.own_hw == (64, 48)
    seen: dict[str, Any] = {}
    original = model.model.forward

    def watch(**arguments: Any) -> Any:
        seen.update(arguments)
        return original(**arguments)

    monkeypatch.setattr(model.model, "forward", watch)
    model.draw(encoded, np.array([[10.0, 20, 50, 60]]), np.array([[[20.5, 30.5]]]))
    assert seen["input_boxes"].tolist() == [[[5, 10, 25, 30]]]
    assert seen["input_points"].tolist() == [[[[9.75, 14.75]]]], "half a pixel is added by the model"
    assert seen["input_labels"].tolist() == [[[1]]]


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
    model = sam.load_sam(str(folder), torch.device("cpu"))
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
        sam.load_sam(str(copy), torch.device("cpu"))
    assert "save_pretrained" in str(caught.value.hint)


def test_a_pickle_beside_safetensors_is_not_opened(copy: Path) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"never opened")
    assert sam.load_sam(str(copy), torch.device("cpu")).side == 64


def test_what_is_no_checkpoint_is_told(copy: Path, tmp_path: Path) -> None:
    def load(path: Path) -> None:
        sam.load_sam(str(path), torch.device("cpu"))

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
        sam.load_sam(str(copy), torch.device("cpu"))
    assert caught.value.facts == (f"missing: {lost}",)
