"""No split that is reported chooses weights: a part of train does that is neither trained on nor labelled, or nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages import evaluate, pseudo_label, resample_points, train_rec, train_res
from stages.artifacts import open_artifact, write_artifact
from stages.data.dataset import ReferringDataset
from stages.errors import UsageError
from stages.inference.predictions import predict_sentences
from stages.training import plan
from stages.training.selection import CHOICE, held_out_referents, held_out_score
from tests.oracles.kept_warnings import KeptWarnings
from tests.oracles.small_artifacts import diamond, write_pseudo
from tests.unit.training.conftest import FAST


@pytest.fixture(scope="module")
def held(tiny_dataset: Path, tiny_split: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A box model and a contour model, each with a fifth of the images held out, and what their steps showed."""
    folder, shown = tmp_path_factory.mktemp("held"), {"rec": set(), "res": set()}
    plain = plan.StepPlan.epoch
    patch, now = pytest.MonkeyPatch(), "rec"

    def spy(self: plan.StepPlan, epoch: int) -> list[plan.Entry]:
        entries = plain(self, epoch)
        shown[now].update(image for _, _, items in entries for image, _ in items)
        return entries

    patch.setattr(plan.StepPlan, "epoch", spy)
    values: dict[str, Any] = {
        **FAST,
        "held_out": 0.2,
        "batch_images": 24,
        "steps_per_epoch": 2,
        "expressions_per_image": 1,
    }
    train_rec.run(train_rec.Config(**values), dataset=tiny_dataset, out=folder / "rec.h5")
    now = "res"
    data = ReferringDataset.open(tiny_dataset)
    rows = [
        (int(r), int(data.sentence_offsets[r]), 0.9, diamond(data.boxes_xyxy[r]))
        for r in data.referents_in("train")
    ]
    write_pseudo(folder / "pseudo.h5", tiny_dataset, rows)
    choice = resample_points.Config(score_threshold=2.0, points=20)
    resample_points.run(choice, dataset=tiny_dataset, pseudo=folder / "pseudo.h5", out=folder / "points.h5")
    train_res.run(
        train_res.Config(**values), dataset=tiny_dataset, split=tiny_split, rec=folder / "rec.h5", out=folder / "res.h5",
        points=folder / "points.h5",
    )  # fmt: skip
    patch.undo()
    return SimpleNamespace(rec=folder / "rec.h5", res=folder / "res.h5", shown=shown)


def test_held_out_images_are_never_trained_on(tiny_dataset: Path, held: SimpleNamespace) -> None:
    data = ReferringDataset.open(tiny_dataset)
    for kind in ("rec", "res"):
        with open_artifact(getattr(held, kind)) as a:
            kept_back, summary = a["held_out_referent"], a.json("summary")
            assert [CHOICE in row for row in a.json("history")] == [True, True]
            best = max(a.json("history"), key=lambda row: row[CHOICE])
            chosen = a.json("selection")
        images = np.unique(data.referent_image[kept_back])
        train = np.unique(data.referent_image[data.referents_in("train")])
        assert len(images) == round(0.2 * len(train)) and set(images) <= set(train)
        assert held.shown[kind] == set(train.tolist()) - set(images.tolist())
        assert np.array_equal(kept_back, held_out_referents(data, "train", 0.2))
        assert summary["best"] == best and summary["selection"] == chosen
        assert chosen["by"] == f"held-out part of train, epoch {best['epoch']}"
        assert chosen["held_out_images"] == len(images)


def test_pseudo_labels_leave_them_out(
    tiny_dataset: Path, tiny_split: Path, held: SimpleNamespace, tmp_path: Path
) -> None:
    out = tmp_path / "pseudo.h5"
    config = pseudo_label.Config(device="cpu", audit_split="")
    summary = pseudo_label.run(
        config, dataset=tiny_dataset, split=tiny_split, model=held.res, out=out
    ).summary
    data = ReferringDataset.open(tiny_dataset)
    kept_back = held_out_referents(data, "train", 0.2)
    with open_artifact(out) as a, open_artifact(tiny_split) as s:
        wanted = np.setdiff1d(data.referents_in("train"), [*kept_back, *np.flatnonzero(s["visible"])])
        assert np.array_equal(np.unique(a["referent_index"]), wanted)
    assert summary["held_out_referents"] == len(kept_back) > 0


def test_hidden_masks_choose_nothing(tiny_dataset: Path, tiny_split: Path, held: SimpleNamespace) -> None:
    """Where the split shows no mask the box of what is drawn is scored; masks elsewhere are not asked for."""
    from stages.weights.model_file import load_model

    loaded = load_model(held.res)
    data = ReferringDataset.open(tiny_dataset, split=tiny_split, masks="split")
    kept_back = held_out_referents(data, "train", 0.2)
    read: set[int] = set()
    plain = data.mask_rle
    data.mask_rle = lambda r: read.add(r) or plain(r)  # type: ignore[method-assign, func-returns-value]
    sentences = data.sentences_of(kept_back)
    scores = held_out_score(loaded, data, sentences, predict_sentences(loaded, data, sentences))
    assert 0 <= scores[CHOICE] <= 1
    assert read == set(kept_back[data.mask_visible[kept_back]].tolist()) and len(read) < len(kept_back)


def test_without_held_out_images_the_last_average_is_best(tiny_dataset: Path, tmp_path: Path) -> None:
    """Whatever the validation split says."""
    out = tmp_path / "rec.h5"
    summary = train_rec.run(train_rec.Config(**FAST), dataset=tiny_dataset, out=out).summary  # type: ignore[arg-type]
    with open_artifact(out) as a:
        for name in a.names("ema/"):
            assert np.array_equal(a[name], a[name.replace("ema/", "best/")])
        assert a.json("selection")["by"] == "last moving average" and len(a["held_out_referent"]) == 0
    assert summary["best"] == summary["final"]


def test_the_same_images_in_every_stage_and_a_smaller_share_within(tiny_dataset: Path) -> None:
    data = ReferringDataset.open(tiny_dataset)
    small, large = (set(held_out_referents(data, "train", share).tolist()) for share in (0.1, 0.3))
    assert small < large
    assert len(np.unique(data.referent_image[list(held_out_referents(data, "train", 1e-9))])) == 1
    assert not len(held_out_referents(data, "train", 0.0))
    with pytest.raises(UsageError, match=r"held-out 0.999 of the \d+ images of 'train' leaves none"):
        held_out_referents(data, "train", 0.999)
    with pytest.raises(UsageError, match="held-out must be in"):
        train_rec.Config(held_out=1.0)


def test_every_table_says_what_chose_the_weights(
    tiny_dataset: Path, held: SimpleNamespace, tmp_path: Path
) -> None:
    names = {}
    for weights in ("best", "ema", "raw"):
        config = evaluate.Config(splits=("val",), max_expressions=3, device="cpu", weights=weights)  # type: ignore[arg-type]
        out = tmp_path / f"{weights}.h5"
        summary = evaluate.run(config, dataset=tiny_dataset, model=held.rec, out=out).summary
        names[weights] = summary["weights_chosen_by"]
    assert names["best"].startswith("held-out part of train, epoch ")
    assert (names["ema"], names["raw"]) == ("last moving average", "last step")
    rows = evaluate.compare([tmp_path / "best.h5", tmp_path / "raw.h5"])
    assert [row["weights"] for row in rows] == [names["best"], "last step"]


def test_old_models_were_chosen_on_their_validation_split(
    tiny_dataset: Path, held: SimpleNamespace, tmp_path: Path
) -> None:
    """A file without `selection`: said in the table, and a warning where that split is scored."""
    old, heard = tmp_path / "old.h5", KeptWarnings()
    record = {"config": {"validation_split": {"value": "val"}}}
    with (
        open_artifact(held.rec) as a,
        write_artifact(old, "rec_model", fingerprint="f", provenance=record) as w,
    ):
        w.attr("dataset_digest", a.attrs["dataset_digest"])
        for name in ("architecture", "vocabulary", "preprocessing", "history", "summary"):
            w.json(name, a.json(name))
        for name in (*a.names("weights/"), *a.names("best/")):
            w.column(name, a[name])
    for split, warned in (("val", 1), ("testA", 1)):
        config = evaluate.Config(splits=(split,), max_expressions=3, device="cpu")
        out = tmp_path / f"{split}.h5"
        summary = evaluate.run(config, dataset=tiny_dataset, model=old, out=out, reporter=heard).summary
        assert summary["weights_chosen_by"] == "best validation on val"
        assert len(heard.warnings) == warned
    assert "chosen on val" in heard.warnings[0]
