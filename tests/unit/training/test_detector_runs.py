"""A detector through every stage, SiRi rounds and their resume, on a tiny data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import evaluate, pseudo_label, resample_points, train_rec, train_res, visualize_attention
from stages.artifacts import open_artifact
from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.data.transforms import Augmentation
from stages.errors import ArtifactError, UsageError
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import rle_area
from stages.models.presets import preset
from stages.training import loop
from stages.training.loader import ContourTable, StepDataset
from stages.training.siri import rounds_path
from stages.training.targets import SlotWeights
from tests.unit.training.conftest import FAST

SMALL = {**FAST, "epochs": 1, "steps_per_epoch": 2, "batch_images": 4, "validation_expressions": 4}


def rec_config(**changes: Any) -> train_rec.Config:
    small = {"model": "refshapes-small-mdetr", "image_size": 64, "queries": 6, "retrain_rounds": 1}
    return train_rec.Config(**{**SMALL, **small, **changes})


@pytest.fixture(scope="module")
def rec(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rec") / "rec.h5"
    train_rec.run(rec_config(), dataset=tiny_dataset, out=out)
    return out


@pytest.fixture(scope="module")
def res(tiny_dataset: Path, tiny_split: Path, rec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("res") / "res.h5"
    config = train_res.Config(**{**SMALL, "box_only_images": 2, "dice_weight": 1.0, "lr": 0.003, "epochs": 2})
    result = train_res.run(config, dataset=tiny_dataset, split=tiny_split, rec=rec, out=out)
    assert result.summary["sequence"] == "mask" and result.summary["box_only_sentences"] > 0
    return out


@pytest.mark.parametrize("keep", ["encoder", "all"])
def test_a_round_of_its_own_starts_where_the_model_before_ended(
    tiny_dataset: Path, rec: Path, tmp_path: Path, keep: str
) -> None:
    """--init hands on what a round inside the run would: the moving average, whole or its encoder alone."""
    out = tmp_path / "siri.h5"
    still = rec_config(retrain_rounds=0, retrain_keep=keep, seed=9, lr=1e-12, weight_decay=0.0)
    train_rec.run(still, dataset=tiny_dataset, init=rec, out=out)
    moved = set()
    with open_artifact(out) as ours, open_artifact(rec) as theirs:
        for name in ours.names("weights/"):
            numbers = ours[name]
            if np.issubdtype(numbers.dtype, np.floating) and "running_" not in name:
                before = theirs[name.replace("weights/", "ema/", 1)]
                if not np.allclose(numbers, before, atol=1e-6):
                    moved.add(".".join(name.removeprefix("weights/").split(".")[:2]))
    if keep == "all":
        assert moved == set()
    else:
        assert "detector.decoders" in moved and "detector.encoder" not in moved


def test_a_round_refuses_a_model_of_another_shape(tiny_dataset: Path, rec: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"rec\.h5 has another architecture than this run: detector\.queries: 6 -> 7"
    ):
        train_rec.run(rec_config(queries=7), dataset=tiny_dataset, init=rec, out=tmp_path / "o.h5")


def test_rounds_are_in_the_history(rec: Path) -> None:
    with open_artifact(rec, kind="rec_model") as a:
        assert [(row["round"], row["epoch"]) for row in a.json("history")] == [(1, 1), (2, 1)]
        assert [row["round"] for row in a.json("summary")["rounds"]] == [1, 2]
        assert a.json("architecture")["family"] == "mdetr"
    assert not rounds_path(rec).exists()


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_rounds_resume_exactly(
    tiny_dataset: Path, rec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    out, done = tmp_path / "rec.h5", 0
    step = loop.Trainer._step

    def interrupted(self: loop.Trainer, batch: Any) -> float:
        nonlocal done
        if done == stop_after:
            raise KeyboardInterrupt
        done += 1
        return step(self, batch)

    monkeypatch.setattr(loop.Trainer, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_rec.run(rec_config(save_every=1), dataset=tiny_dataset, out=out)
    monkeypatch.setattr(loop.Trainer, "_step", step)
    assert rounds_path(out).exists() == (stop_after > 1)
    torch.manual_seed(999)
    train_rec.run(rec_config(save_every=1), dataset=tiny_dataset, out=out, resume=True)
    with open_artifact(out) as a, open_artifact(rec) as b:
        for name in b.names("weights/"):
            assert np.array_equal(a[name], b[name]), name
        assert [r["loss"] for r in a.json("history")] == [r["loss"] for r in b.json("history")]
    assert not rounds_path(out).exists()


def test_a_detector_goes_through_the_stages(
    tiny_dataset: Path, tiny_split: Path, rec: Path, res: Path, tmp_path: Path
) -> None:
    scores: dict[str, Any] = {}
    for model in (rec, res):
        config = evaluate.Config(splits=("val",), max_expressions=4, device="cpu")
        evaluate.run(config, dataset=tiny_dataset, model=model, out=tmp_path / f"eval_{model.name}")
        with open_artifact(tmp_path / f"eval_{model.name}", kind="evaluation") as a:
            assert np.isfinite(a["predicted_box_xyxy"]).all()
            assert ("mask_iou" in a) == (model is res)
            scores[model.name] = a["mask_iou"] if model is res else None
    assert scores["rec.h5"] is None and np.isfinite(scores["res.h5"]).all()
    pseudo, points = tmp_path / "pseudo.h5", tmp_path / "points.h5"
    config = pseudo_label.Config(
        audit_expressions=3, expressions_per_referent=1, device="cpu", box_prompt=False
    )
    pseudo_label.run(config, dataset=tiny_dataset, split=tiny_split, model=res, out=pseudo)
    with open_artifact(pseudo, kind="pseudo_points") as a:
        n = len(a["referent_index"])
        masks, rings = a.ragged("masks/rle"), a.ragged("points_xy")
        assert n and len(masks) == n == len(a["token_probability"]) and a["token_probability"].shape[1] == 1
        assert ((a["confidence"] > 0) & (a["confidence"] <= 1)).all()
        assert all(len(rings[i]) >= 3 or not len(rings[i]) for i in range(n))
    result = resample_points.run(
        resample_points.Config(score_threshold=2.0), dataset=tiny_dataset, pseudo=pseudo, out=points
    )
    assert result.summary["referents"] == n
    shown = visualize_attention.Config(samples=1, pseudo_samples=1, device="cpu")
    figures = visualize_attention.run(
        shown, dataset=tiny_dataset, model=res, split=tiny_split, pseudo=pseudo, out=tmp_path / "attention.h5"
    )
    assert figures.summary["samples"] == 1
    again = train_res.Config(**{**SMALL, "mask_head": "attention", "freeze_detector": True})
    frozen = tmp_path / "frozen.h5"
    train_res.run(again, dataset=tiny_dataset, split=tiny_split, rec=rec, points=points, out=frozen)
    with open_artifact(frozen) as a, open_artifact(rec) as b:
        for name in b.names("best/"):
            assert np.array_equal(a[name.replace("best/", "weights/")], b[name]), (
                name
            )  # nothing but the mask head moved


def test_mask_targets_are_the_true_masks_in_the_models_frame(tiny_dataset: Path) -> None:
    data = ReferringDataset.open(tiny_dataset, masks="all")
    config = preset("refshapes-small-mdetr").replace(sequence="mask")
    ring = largest_outer_contour(data.mask(0))
    table = ContourTable.of_contours(len(data.boxes_xyxy), {0: ring}, {0: 0.5})
    sentence = np.flatnonzero(data.sentence_referent == 0)[:1]
    codec = WordCodec.from_sentences(list(data.texts), 20)
    item = [(int(data.referent_image[0]), sentence)]
    seen = {}
    for mirror in (0.0, 1.0):
        augmentation = Augmentation(colour=0.0, mirror=mirror)
        b = StepDataset(data, codec, config, table, augmentation, SlotWeights(), 0)[(0, 0, item)]
        assert b.mask_weight.tolist() == [0.5] and b.targets.shape == (1, 0)
        rows, columns = (b.masks[0].nonzero()[:, k] for k in (0, 1))
        extent = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
        assert float((extent - b.boxes).abs().max()) < 2  # the mask lies where the box says, mirrored or not
        seen[mirror] = b.masks[0]
    assert torch.equal(seen[0.0].flip(1), seen[1.0]) or float((seen[0.0].flip(1) ^ seen[1.0]).sum()) < 5
    height, width = data.image_sizes_hw[data.referent_image[0]]
    share = rle_area(data.mask_rle(0)) / (height * width)
    assert float(seen[0.0].float().mean()) == pytest.approx(share, rel=0.05)
    hidden = ReferringDataset.open(
        tiny_dataset, masks="none"
    )  # only the ring is known, as for a pseudo label
    b = StepDataset(hidden, codec, config, table, Augmentation(colour=0.0), SlotWeights(), 0)[(0, 0, item)]
    assert float((b.masks[0] & seen[0.0]).sum() / (b.masks[0] | seen[0.0]).sum()) > 0.8


def test_options_of_the_other_family_are_named(tiny_dataset: Path, res: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cctf is no option of the mdetr family"):
        train_rec.run(rec_config(cctf=True), dataset=tiny_dataset, out=tmp_path / "x.h5")
    with pytest.raises(UsageError, match="no crop refinement"):
        train_res.res_architecture(preset("refshapes-small-mdetr"), train_res.Config(zoom=64))
    with pytest.raises(UsageError, match="--queries is no option of the seqtr family"):
        train_rec.run(rec_config(model="refshapes-small"), dataset=tiny_dataset, out=tmp_path / "x.h5")
    config = evaluate.Config(splits=("val",), box_prompt=True, device="cpu")
    with pytest.raises(UsageError, match="box-prompt"):
        evaluate.run(config, dataset=tiny_dataset, model=res, out=tmp_path / "x.h5")
