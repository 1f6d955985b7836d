"""train-res --init: a round starts from the model of the round before, whole or without its decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import pseudo_label, train_rec, train_res
from stages.artifacts import open_artifact
from stages.errors import ArtifactError, UsageError
from stages.models.build import build_model
from stages.models.presets import preset
from stages.reporter import SilentReporter
from stages.training.start import READERS, differences
from tests.oracles.kept_warnings import KeptWarnings
from tests.oracles.small_artifacts import diamond, write_pseudo
from tests.unit.training.conftest import FAST

SHORT: dict[str, Any] = {**FAST, "epochs": 1, "steps_per_epoch": 1, "validation_expressions": 2}
SILENT = SilentReporter()
STILL = 1e-12  # a learning rate that leaves the weights where they start


def res_config(**changes: Any) -> train_res.Config:
    return train_res.Config(**{**SHORT, "box_only_images": 1, "zoom": 64, **changes})


@pytest.fixture(scope="module")
def rec(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rec") / "rec.h5"
    train_rec.run(train_rec.Config(**SHORT), dataset=tiny_dataset, out=out)
    return out


@pytest.fixture(scope="module")
def first(tiny_dataset: Path, tiny_split: Path, rec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "first.h5"
    train_res.run(
        res_config(seed=1, lr=0.01, warmup_epochs=0.0),
        dataset=tiny_dataset,
        split=tiny_split,
        rec=rec,
        out=out,
    )
    return out


@pytest.fixture
def second(tiny_dataset: Path, tiny_split: Path, rec: Path, first: Path, tmp_path: Path) -> Any:
    """Train with --init first.h5 and any other options; the path of the model."""

    def run(
        init: Path | None = first,
        split: Path = tiny_split,
        points: Path | None = None,
        reporter: Any = SILENT,
        **changes: Any,
    ) -> Path:
        config = res_config(**{"lr": STILL, "weight_decay": 0.0, **changes})
        out = tmp_path / "second.h5"
        train_res.run(
            config,
            dataset=tiny_dataset,
            split=split,
            rec=rec,
            init=init,
            points=points,
            out=out,
            reporter=reporter,
        )
        return out

    return run


def moved(a: Path, group: str, b: Path, group_b: str) -> set[str]:
    """Top-level parts of the model whose parameters differ; statistics of batch norm follow the pictures."""
    out = set()
    with open_artifact(a) as x, open_artifact(b) as y:
        for name in x.names(f"{group}/"):
            name = name.removeprefix(f"{group}/")
            if "running_" in name or "num_batches" in name:
                continue
            if not np.allclose(x[f"{group}/{name}"], y[f"{group_b}/{name}"], atol=1e-6):
                out.add(name.split(".")[0])
    return out


def test_a_round_starts_from_the_moving_average_of_the_one_before(
    second: Any, first: Path, rec: Path
) -> None:
    out = second()
    assert moved(out, "weights", first, "best") == set()
    assert moved(out, "locator", rec, "best") == set(), "the box model still finds the windows"
    assert moved(first, "weights", first, "best"), "or this test would not tell them apart"


def test_other_weights_of_it(second: Any, first: Path) -> None:
    assert moved(second(from_weights="raw"), "weights", first, "weights") == set()


def test_keeping_the_encoder_starts_the_decoder_anew(second: Any, first: Path) -> None:
    parts = moved(second(init_keep="encoder"), "weights", first, "best")
    assert parts == {
        "decoder", "token_embedding", "slot_embedding", "task_embedding", "predictor", "point_content",
    }  # fmt: skip


@pytest.mark.parametrize("keep", ["all", "encoder"])
def test_another_architecture_is_refused_by_its_key(second: Any, first: Path, keep: str) -> None:
    with pytest.raises(
        ArtifactError, match=r"first\.h5 has another architecture than this run: cctf: True -> False"
    ) as caught:
        second(cctf=False, zoom=48, init_keep=keep)
    assert caught.value.facts == ("image.size: 64 -> 48",)


@pytest.mark.parametrize("name", ["refshapes-small", "refshapes-small-mdetr"])
def test_what_marks_the_referent_stays_with_the_encoder(name: str) -> None:
    model = build_model(preset(name), 9)
    heads = [n for n in model.state_dict() if n.startswith("grounding_head.")]
    assert heads
    assert all(n.startswith(READERS[model.config.family]) for n in heads)


def test_where_pretrained_weights_came_from_is_no_difference() -> None:
    a = preset("refshapes-small").to_dict()
    b = {**a, "vision": {**a["vision"], "source": "elsewhere"}, "n_bins": 7}
    assert differences(a, b) == ["n_bins: 100 -> 7"]
    assert differences(a, {**a, "image": {**a["image"], "mean": list(a["image"]["mean"])}}) == []


def test_other_words_are_refused(
    second: Any, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.data.text import WordCodec

    monkeypatch.setattr(
        WordCodec, "to_dict", lambda self: {"kind": "words", "words": ["PAD"], "max_words": 3}
    )
    with pytest.raises(ArtifactError, match=r"first\.h5 reads other words than this run"):
        second()


@pytest.fixture
def shown_in(
    second: Any, tiny_dataset: Path, tiny_split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Train with so many pseudo points (None = of every hidden referent); per step, the masks among the expressions' contours."""
    from stages import resample_points
    from stages.training import loader

    def run(labels: int | None, **changes: Any) -> list[list[bool]]:
        points = tmp_path / "points.h5"
        with open_artifact(tiny_dataset) as a, open_artifact(tiny_split) as split:
            first_sentence = a["referents/sentence_offsets"]
            hidden = np.flatnonzero((a["referents/split"] == 0) & ~split["visible"])[:labels]
            rows = [
                (int(r), int(first_sentence[r]), 0.9, diamond(a["referents/box_xyxy"][r])) for r in hidden
            ]
        pseudo = write_pseudo(tmp_path / "pseudo.h5", tiny_dataset, rows)
        resample_points.run(
            resample_points.Config(score_threshold=2.0), dataset=tiny_dataset, pseudo=pseudo, out=points
        )
        seen: list[list[bool]] = []
        take = loader.StepDataset.__getitem__

        def watch(self: Any, entry: loader.Entry) -> loader.Batch:
            owner = self.dataset.sentence_referent
            seen.append([bool(self.dataset.mask_visible[owner[s]].all()) for _, s in entry[2]])
            return take(self, entry)

        monkeypatch.setattr(loader.StepDataset, "__getitem__", watch)
        second(points=points, box_only_images=0, expressions_per_image=1, **changes)
        return seen

    return run


@pytest.mark.parametrize("asked", [0, 1, 3, 99])
def test_masks_have_their_share_of_every_step(shown_in: Any, asked: int) -> None:
    """Of 4 images a step; one at least is left to whatever contour is next."""
    steps = shown_in(None, mask_images=asked, steps_per_epoch=3)
    assert [len(step) for step in steps] == [4, 4, 4]
    assert all(sum(step) >= min(asked, 3) for step in steps)
    assert not all(all(step) for step in steps)


def test_a_single_pseudo_label_is_seen_as_often_as_a_mask(shown_in: Any) -> None:
    """It does not stand for its kind in every step, which would teach the model this one contour by heart."""
    steps = shown_in(1, mask_images=2, steps_per_epoch=12)
    assert sum(not shown for step in steps for shown in step) in (1, 2)


def test_box_only_objects_may_stand_for_ellipses(
    tiny_dataset: Path, tiny_split: Path, tmp_path: Path
) -> None:
    """Masks stay masks, pseudo points stay, and everybody else gets the ellipse in the known box."""
    from stages.data.dataset import ReferringDataset
    from stages.geometry.boxes import polygon_extent
    from stages.geometry.rasterise import ellipse_to_rle, polygon_to_rle
    from stages.metrics.segmentation import overlaps

    data = ReferringDataset.open(tiny_dataset, split=tiny_split, masks="split")
    train = data.referents_in("train")
    plain, counts = train_res.contour_table(data, res_config(), None)
    table, with_ellipses = train_res.contour_table(data, res_config(ellipse_weight=0.25), None)
    assert counts == {"masks": int(data.mask_visible[train].sum()), "pseudo": 0, "ellipses": 0}
    assert with_ellipses == {**counts, "ellipses": len(train) - counts["masks"]}
    for r in train:
        if data.mask_visible[r]:
            assert np.array_equal(table.contour(r), plain.contour(r)) and table.weight[r] == 1
            continue
        assert len(plain.contour(r)) == 0 and table.weight[r] == 0.25
        assert polygon_extent(table.contour(r)) == pytest.approx(data.boxes_xyxy[r], abs=0.1)
        size = tuple(data.image_sizes_hw[data.referent_image[r]])
        same = overlaps([polygon_to_rle(table.contour(r), size)], [ellipse_to_rle(data.boxes_xyxy[r], size)])
        assert same.iou[0] > 0.93
    assert not table.weight[data.referents_in("val")].any()


def test_some_referents_are_labelled(
    tiny_dataset: Path, tiny_split: Path, first: Path, tmp_path: Path
) -> None:
    labelled = []
    for seed in (0, 0, 1):
        out = tmp_path / f"pseudo{len(labelled)}.h5"
        config = pseudo_label.Config(audit_split="", max_referents=7, seed=seed, device="cpu")
        pseudo_label.run(config, dataset=tiny_dataset, split=tiny_split, model=first, out=out)
        with open_artifact(out) as a:
            labelled.append(np.unique(a["referent_index"]).tolist())
    assert [len(r) for r in labelled] == [7, 7, 7]
    assert labelled[0] == labelled[1] != labelled[2]


def test_options_that_contradict_each_other(second: Any, rec: Path) -> None:
    with pytest.raises(UsageError, match="from-scratch and init contradict"):
        second(from_scratch=True)
    with pytest.raises(UsageError, match="init-keep encoder says what of another model is kept"):
        second(init=None, init_keep="encoder")
    with pytest.raises(ArtifactError, match=r"rec\.h5"):
        second(init=rec)


def test_a_model_that_saw_other_masks_is_told(
    second: Any, tiny_dataset: Path, first: Path, tmp_path: Path
) -> None:
    from stages import split_masks

    fewer = tmp_path / "fewer.h5"
    split_masks.run(split_masks.Config(ratio=0.2), dataset=tiny_dataset, out=fewer)
    heard = KeptWarnings()
    out = second(reporter=heard)
    assert heard.warnings == []
    out.unlink()
    second(split=fewer, reporter=heard)
    assert len(heard.warnings) == 1
    assert "may know masks that" in heard.warnings[0]


def test_the_teacher_is_the_moving_average(
    tiny_dataset: Path, tiny_split: Path, first: Path, tmp_path: Path
) -> None:
    """What pseudo-label draws with unless told otherwise: after one epoch the best average is the last one."""
    digests = {}
    for name in ("default", "ema", "raw"):
        given = {} if name == "default" else {"weights": name}
        config = pseudo_label.Config(
            device="cpu", train_split="val", audit_split="", expressions_per_referent=1, **given
        )
        out = tmp_path / f"{name}.h5"
        pseudo_label.run(config, dataset=tiny_dataset, split=tiny_split, model=first, out=out)
        with open_artifact(out) as a:
            digests[name] = a["token_probability"].tobytes()
    assert digests["default"] == digests["ema"] != digests["raw"]
