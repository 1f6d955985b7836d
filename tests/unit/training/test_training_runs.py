"""Training stages on a tiny data set: resume is exact, hidden masks do not matter, bad losses stop the run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from stages import pseudo_label, resample_points, train_rec, train_res
from stages.artifacts import RunOptions, open_artifact
from stages.data import crop_refinement
from stages.errors import ArtifactError, HiddenMaskError, SeqresError, TrainingError, UsageError
from stages.models import semantics
from stages.models.losses import LossSum
from stages.training import loop
from stages.training.checkpoint import resume_path
from tests.oracles.kept_warnings import KeptWarnings
from tests.oracles.small_artifacts import diamond, write_pseudo
from tests.unit.training.conftest import FAST


def rec_config(**changes: Any) -> train_rec.Config:
    return train_rec.Config(**{**FAST, **changes})


def res_config(**changes: Any) -> train_res.Config:
    return train_res.Config(**{**FAST, "box_only_images": 2, **changes})


@pytest.fixture(scope="module")
def rec(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rec") / "rec.h5"
    train_rec.run(rec_config(), dataset=tiny_dataset, out=out)
    return out


@pytest.fixture(scope="module")
def res(tiny_dataset: Path, tiny_split: Path, rec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("res") / "res.h5"
    train_res.run(res_config(), dataset=tiny_dataset, split=tiny_split, rec=rec, out=out)
    return out


def weights_of(path: Path) -> dict[str, np.ndarray]:
    with open_artifact(path) as a:
        return {n: a[n] for g in ("weights/", "ema/", "best/") for n in a.names(g)}


def same_weights(a: Path, b: Path) -> bool:
    x, y = weights_of(a), weights_of(b)
    return x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x)


def test_a_model_is_self_contained_and_its_history_complete(rec: Path) -> None:
    with open_artifact(rec, kind="rec_model") as a:
        history = a.json("history")
        assert [row["epoch"] for row in history] == [1, 2]
        assert all(np.isfinite(row["loss"]) and 0 <= row["val_box_acc50"] <= 1 for row in history)
        assert a.json("vocabulary")["words"][:2] == ["PAD", "UNK"]
        assert a.json("architecture")["sequence"] == "box"
    assert not resume_path(rec).exists()


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_resume_continues_exactly(
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
    assert not out.exists() and resume_path(out).exists()
    monkeypatch.setattr(loop.Trainer, "_step", step)
    torch.manual_seed(999)
    train_rec.run(rec_config(save_every=1), dataset=tiny_dataset, out=out, resume=True)
    assert same_weights(out, rec)
    with open_artifact(out) as a, open_artifact(rec) as b:
        assert [r["loss"] for r in a.json("history")] == [r["loss"] for r in b.json("history")]
    assert not resume_path(out).exists()


def test_a_result_that_cannot_be_stored_is_not_trained_again(
    tiny_dataset: Path, rec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, or the folder gone, after the last step: the training is kept, and --resume writes it."""

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "rec.h5"
    monkeypatch.setattr("stages.artifacts.writer.temporary_file", full)
    with pytest.raises(SeqresError, match="no space left on device"):
        train_rec.run(rec_config(), dataset=tiny_dataset, out=out)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == [".rec.h5.resume"]
    monkeypatch.setattr(loop.Trainer, "_step", lambda *a: pytest.fail("trained again"))
    train_rec.run(rec_config(), dataset=tiny_dataset, out=out, resume=True)
    assert same_weights(out, rec)
    assert [p.name for p in tmp_path.iterdir()] == ["rec.h5"]


def test_a_resume_state_that_cannot_be_saved_is_told_and_no_more(
    tiny_dataset: Path, rec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    notes = KeptWarnings()
    monkeypatch.setattr("stages.training.loop.save_resume", full)
    train_rec.run(rec_config(), dataset=tiny_dataset, out=tmp_path / "rec.h5", reporter=notes)
    assert same_weights(tmp_path / "rec.h5", rec)
    assert any(line.endswith("could not be saved: no space left on device") for line in notes.warnings)


def test_an_interruption_tells_what_is_saved(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: loop.Trainer, batch: Any) -> float:
        if self.progress.epoch or self.progress.step == stop:
            raise KeyboardInterrupt
        return step(self, batch)

    step, stop, notes = loop.Trainer._step, 1, KeptWarnings()
    monkeypatch.setattr(loop.Trainer, "_step", interrupted)
    for at, words in (0, "nothing yet"), (1, "epoch 1, step 1"), (99, "epoch 2, step 0"):
        stop = at
        with pytest.raises(KeyboardInterrupt):
            train_rec.run(rec_config(), dataset=tiny_dataset, out=tmp_path / f"{at}.h5", reporter=notes)
        assert notes.warnings[-1].endswith(f"; saved: {words}")


def test_resume_refuses_another_configuration_and_damage(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "rec.h5"
    with pytest.raises(ArtifactError, match="nothing to resume"):
        train_rec.run(rec_config(), dataset=tiny_dataset, out=out, resume=True)
    torch.save({"fingerprint": "another"}, resume_path(out))
    with pytest.raises(ArtifactError, match="another configuration"):
        train_rec.run(rec_config(), dataset=tiny_dataset, out=out, resume=True)
    resume_path(out).write_bytes(b"no torch file")
    with pytest.raises(ArtifactError, match="damaged"):
        train_rec.run(rec_config(), dataset=tiny_dataset, out=out, resume=True)


def test_workers_do_not_change_the_result(tiny_dataset: Path, rec: Path, tmp_path: Path) -> None:
    train_rec.run(rec_config(workers=1), dataset=tiny_dataset, out=tmp_path / "rec.h5")
    assert same_weights(tmp_path / "rec.h5", rec)


def test_a_loss_that_is_not_finite_stops_with_its_parts(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = LossSum(torch.tensor(float("nan"), requires_grad=True), torch.tensor(1.0))
    broken = dataclasses.replace(semantics.CORRECTED, token_sums=lambda *a, **k: bad)
    monkeypatch.setattr(semantics, "CORRECTED", broken)
    with pytest.raises(TrainingError, match="loss is nan at step 0 of epoch 1") as caught:
        train_rec.run(rec_config(), dataset=tiny_dataset, out=tmp_path / "rec.h5")
    assert any("box tokens" in fact for fact in caught.value.facts)
    assert not (tmp_path / "rec.h5").exists()


def test_unknown_split_and_preset_are_named(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'trian'"):
        train_rec.run(rec_config(train_split="trian"), dataset=tiny_dataset, out=tmp_path / "x.h5")
    with pytest.raises(UsageError, match="huge"):
        rec_config(model="huge")


@pytest.mark.parametrize("sequence", ["contour", "multitask"])
def test_other_sequences_train_and_draw(
    tiny_dataset: Path, tiny_split: Path, rec: Path, tmp_path: Path, sequence: str
) -> None:
    token = "task-wise" if sequence == "multitask" else "zero"
    config = res_config(sequence=sequence, task_token=token, cctf=False, pmca=False, epochs=1)
    train_res.run(config, dataset=tiny_dataset, split=tiny_split, rec=rec, out=tmp_path / "res.h5")
    result = pseudo_label.run(
        pseudo_label.Config(device="cpu"),
        dataset=tiny_dataset,
        split=tiny_split,
        model=tmp_path / "res.h5",
        out=tmp_path / "p.h5",
    )
    assert result.summary["prompt"] == ("box" if sequence == "multitask" else "none")


def test_pseudo_labels_cover_exactly_the_unlabelled_sentences(
    tiny_dataset: Path, tiny_split: Path, res: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pseudo.h5"
    result = pseudo_label.run(
        pseudo_label.Config(device="cpu"), dataset=tiny_dataset, split=tiny_split, model=res, out=out
    )
    with (
        open_artifact(out, kind="pseudo_points") as a,
        open_artifact(tiny_dataset) as d,
        open_artifact(tiny_split) as s,
    ):
        train = list(d.attrs["split_names"]).index("train")
        box_only = (d["referents/split"] == train) & ~s["visible"].astype(bool)
        owner = d["sentences/referent_index"]
        assert np.array_equal(np.sort(a["sentence_index"]), np.flatnonzero(box_only[owner]))
        assert np.array_equal(a["referent_index"], owner[a["sentence_index"]])
        assert (a["token_probability"] > 0).all() and (a["token_probability"] <= 1).all()
        assert (a["token_probability"][:, :4] == 1).all()  # the box was given
        size = np.array([160, 160])
        points = a["points_xy/values"]
        assert ((points >= 0) & (points <= size)).all()
        boxes = d["referents/box_xyxy"][a["referent_index"]]
        assert (
            np.abs(a["box_xyxy"] - boxes).max() <= 0.5 * 160 / 100 + 1e-3
        )  # a given box comes back to half a bin
    assert result.summary["audit"]["split"] == "val"
    assert set(result.summary["audit"]["miou"]) == {"pseudo_mask", "filled_true_box", "ellipse_in_true_box"}


def test_crop_refinement_predicts_in_the_window_of_the_box(
    tiny_dataset: Path, tiny_split: Path, rec: Path, tmp_path: Path
) -> None:
    """The model carries its locator; with the box given, the window and the prompt are that box's."""
    from stages.data.dataset import ReferringDataset
    from stages.inference.attention import attention_for_sentences
    from stages.inference.predictions import predict_sentences
    from stages.weights.model_file import load_model

    out = tmp_path / "res.h5"
    train_res.run(
        res_config(zoom=64, epochs=1, mirror=0.5), dataset=tiny_dataset, split=tiny_split, rec=rec, out=out
    )
    loaded = load_model(out)
    assert loaded.config.image.size == 64 and loaded.locator is not None
    with open_artifact(out) as a, open_artifact(rec) as b:
        assert all(np.array_equal(a[f"locator/{n[5:]}"], b[n]) for n in b.names("best/"))
    data = ReferringDataset.open(tiny_dataset)
    sentences = np.arange(12)
    located = predict_sentences(loaded.locator, data, sentences).boxes_xyxy
    free = predict_sentences(loaded, data, sentences, batch_images=5)
    again = predict_sentences(loaded, data, sentences[::-1].copy(), batch_images=2)
    assert np.array_equal(free.tokens, again.tokens[::-1])
    side = np.maximum((located[:, 2:] - located[:, :2]).max(1), 4)  # the smallest window shows 4 pixels
    window = np.ceil(side * 1.3) + 2
    assert all((np.ptp(p, 0) <= w).all() for p, w in zip(free.points_xy, window, strict=True) if len(p))
    given = predict_sentences(loaded, data, sentences, box_prompt=True)
    boxes = data.boxes_xyxy[data.sentence_referent[sentences]]
    bin_size = (boxes[:, 2:] - boxes[:, :2]).max(1) * 1.3 / 100
    assert (np.abs(given.boxes_xyxy - boxes).max(1) <= 0.5 * bin_size + 1.1).all()
    sample = attention_for_sentences(loaded, data, sentences[:2], box_prompt=True)[0]
    assert sample.maps.shape[1:] == (40, 40)
    assert sample.layer_maps is not None and np.array_equal(sample.layer_maps[:, -1], sample.maps)
    x0, y0, x1, y1 = boxes[0] / 4
    outside = sample.maps.copy()
    side = max(x1 - x0, y1 - y0)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    y, x = np.mgrid[:40, :40]
    outside[:, (abs(x - cx) < 0.66 * side + 1) & (abs(y - cy) < 0.66 * side + 1)] = 0
    assert sample.maps.max() > 0 and not outside.any()


@pytest.fixture(scope="module")
def scrambled(tiny_dataset: Path, tiny_split: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset with the bytes of every hidden mask set to 0; its digest is still written on it."""
    path = tmp_path_factory.mktemp("scrambled") / "dataset.h5"
    shutil.copy(tiny_dataset, path)
    with open_artifact(tiny_dataset) as d, open_artifact(tiny_split) as s:
        train = list(d.attrs["split_names"]).index("train")
        hidden = (d["referents/split"] == train) & ~s["visible"].astype(bool)
    with h5py.File(path, "r+") as f:
        offsets, values = f["masks/rle/offsets"][:], f["masks/rle/values"][:]
        for r in np.flatnonzero(hidden):
            values[offsets[r] : offsets[r + 1]] = 0
        assert hidden.any()
        f["masks/rle/values"][:] = values
    return path


def test_hidden_masks_cannot_matter(
    tiny_dataset: Path, tiny_split: Path, scrambled: Path, res: Path, rec: Path, tmp_path: Path
) -> None:
    """Scramble the bytes of every hidden mask: models and pseudo labels stay the same to the byte."""
    train_res.run(res_config(), dataset=scrambled, split=tiny_split, rec=rec, out=tmp_path / "res.h5")
    assert same_weights(tmp_path / "res.h5", res)
    for data, out in ((tiny_dataset, "a.h5"), (scrambled, "b.h5")):
        pseudo_label.run(
            pseudo_label.Config(device="cpu"), dataset=data, split=tiny_split, model=res, out=tmp_path / out
        )
    with open_artifact(tmp_path / "a.h5") as a, open_artifact(tmp_path / "b.h5") as b:
        assert a.digest == b.digest


def test_hidden_masks_cannot_matter_to_pasted_objects_either(
    tiny_dataset: Path,
    tiny_split: Path,
    scrambled: Path,
    rec: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With pseudo outlines of hidden objects among the targets, which are turned, but never cut out."""
    points = tmp_path / "points.h5"
    with open_artifact(tiny_dataset) as d, open_artifact(tiny_split) as s:
        hidden = np.flatnonzero((d["referents/split"] == 0) & ~s["visible"].astype(bool))
        offsets, boxes = d["referents/sentence_offsets"], d["referents/box_xyxy"]
        rows = [(int(r), int(offsets[r]), 0.9, diamond(boxes[r])) for r in hidden]
    pseudo = write_pseudo(tmp_path / "pseudo.h5", tiny_dataset, rows)
    choice = resample_points.Config(score_threshold=2.0, points=20)
    summary = resample_points.run(choice, dataset=tiny_dataset, pseudo=pseudo, out=points).summary
    assert summary["kept"] == len(hidden) > 20
    pasted, angles = [], set()
    paste, random_turn = crop_refinement.paste, crop_refinement.random_turn
    monkeypatch.setattr(crop_refinement, "paste", lambda *a: pasted.append(1) or paste(*a))
    monkeypatch.setattr(crop_refinement, "random_turn", lambda *a: angles.add(a[3]) or random_turn(*a))
    config = res_config(zoom=64, epochs=1, paste=0.7, rotate=30.0, mirror=0.5)
    for data, out in ((tiny_dataset, "a.h5"), (scrambled, "b.h5")):
        train_res.run(config, dataset=data, split=tiny_split, rec=rec, points=points, out=tmp_path / out)
    assert same_weights(tmp_path / "a.h5", tmp_path / "b.h5")
    assert pasted
    assert angles == {30.0}, "the options reach the training"


def test_the_dataset_view_refuses_hidden_masks(tiny_dataset: Path, tiny_split: Path) -> None:
    from stages.data.dataset import ReferringDataset

    data = ReferringDataset.open(tiny_dataset, split=tiny_split, masks="split")
    hidden = int(np.flatnonzero(data.has_mask & ~data.mask_visible)[0])
    with pytest.raises(HiddenMaskError, match=str(data.ref_ids[hidden])):
        data.mask(hidden)


def test_up_to_date_and_changed_options(tiny_dataset: Path, rec: Path) -> None:
    assert train_rec.run(rec_config(), dataset=tiny_dataset, out=rec).status == "up-to-date"
    assert train_rec.run(rec_config(workers=1), dataset=tiny_dataset, out=rec).status == "up-to-date"
    with pytest.raises(ArtifactError, match="made from something else"):
        train_rec.run(rec_config(lr=0.5), dataset=tiny_dataset, out=rec)
    assert (
        train_rec.run(
            rec_config(lr=0.5), dataset=tiny_dataset, out=rec, options=RunOptions(force=True, dry_run=True)
        ).status
        == "would-run"
    )
