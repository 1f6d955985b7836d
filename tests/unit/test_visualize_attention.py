"""visualize-attention around a model that is made up: what is chosen, drawn, shown of the truth, and stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.artifacts import open_artifact, verify_artifact
from stages.artifacts.job import RunOptions
from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.figures import overlays, samples
from stages.figures.samples import Truth, point_maps, spread_points
from stages.inference.attention import AttentionSample
from stages.visualize_attention import Config, run
from tests.oracles.small_artifacts import SIZE, diamond, write_dataset, write_model, write_pseudo, write_split

SPLITS = ["train"] * 6 + ["val"] * 5


def made_up(dataset: ReferringDataset, sentence: int) -> AttentionSample:
    """The diamond in the true box; step k looks at cell k of a 3 x 4 grid."""
    box = dataset.boxes_xyxy[dataset.sentence_referent[sentence]]
    maps = np.zeros((12, 3, 4), np.float32)
    maps.reshape(12, 12)[np.arange(12), np.arange(12)] = 1
    ring = np.asarray(diamond(box), np.float32)
    return AttentionSample(
        np.arange(12, dtype=np.int32), ring, box.astype(np.float32), maps, np.arange(4, 12, 2)
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace loading and running of models and reading of pictures; the list holds what was asked for."""
    asked: list[Any] = []
    history = [{"epoch": 1, "loss": 2.0, "val_miou": 0.2}, {"epoch": 2, "loss": 1.5, "val_miou": 0.4}]

    def attention(
        loaded: Any, data: ReferringDataset, rows: Sequence[int], box_prompt: bool
    ) -> list[AttentionSample]:
        assert np.asarray(rows).dtype.kind == "i"  # also where none is shown
        asked.append((loaded.path, list(rows), box_prompt))
        return [made_up(data, int(s)) for s in rows]

    def load(path: Path, device: Any, *, weights: str) -> Any:
        return SimpleNamespace(path=path, device="cpu", history=history)

    monkeypatch.setattr("stages.inference.attention.attention_for_sentences", attention)
    monkeypatch.setattr("stages.weights.model_file.load_model", load)
    monkeypatch.setattr(ReferringDataset, "image", lambda self, i: np.full((*SIZE, 3), 20 * i, np.uint8))
    return asked


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A dataset, a split that shows the masks of train referents 0 and 1, a model, pseudo labels of 2 to 5."""
    dataset = write_dataset(tmp_path / "data.h5", SPLITS)
    split = write_split(tmp_path / "split.h5", dataset, [True] * 2 + [False] * 9)
    rows = [(r, 2 * r, 0.9, diamond((5 + r, 10, 25 + r, 40))) for r in (2, 3, 4, 5)]
    pseudo = write_pseudo(tmp_path / "pseudo.h5", dataset, rows)
    return {
        "dataset": dataset,
        "split": split,
        "model": write_model(tmp_path / "model.h5", dataset),
        "pseudo": pseudo,
    }


def resampled(files: dict[str, Path], folder: Path) -> Path:
    from stages import resample_points

    out = folder / "points.h5"
    resample_points.run(
        resample_points.Config(score_threshold=2.0, points=8),
        dataset=files["dataset"],
        pseudo=files["pseudo"],
        out=out,
    )
    return out


def test_two_models_pseudo_labels_and_charts_make_one_page(
    files: dict[str, Path], calls: list[Any], tmp_path: Path
) -> None:
    second = write_model(tmp_path / "naive.h5", files["dataset"])
    out, points = tmp_path / "attention.h5", resampled(files, tmp_path)
    result = run(Config(samples=3, pseudo_samples=2), **files, compare_model=second, points=points, out=out)
    folder = tmp_path / "attention_figures"
    page = (folder / "index.html").read_text("utf-8")
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert pictures == result.summary["figures"]
    assert sorted(p.name for p in folder.iterdir()) == sorted([*pictures, "index.html"])
    assert len(pictures) == 3 + 2
    assert page.count("<svg") == 3  # scores of the pseudo labels, loss, validation
    assert "thing" in page and "model: IoU 0." in page and "naive: IoU 0." in page
    assert verify_artifact(out) == []
    assert calls[0][1] == calls[1][1]  # both models saw the same sentences

    with open_artifact(out, "attention") as a:
        assert a["model"].tolist() == [0, 0, 0, 1, 1, 1]
        assert a["sentence_index"].tolist() == calls[0][1] * 2
        shapes, maps = a["map_shape"], a.ragged("maps")
        assert np.array_equal(
            maps[0].reshape(shapes[0]), made_up(ReferringDataset.open(files["dataset"]), 0).maps
        )
        assert len(a["pseudo/referent_index"]) == 2


def test_what_data_say_is_never_markup(
    files: dict[str, Path], calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "<script>alert(1)</script>"
    opened = ReferringDataset.open

    def hostile(*args: Any, **more: Any) -> ReferringDataset:
        data = opened(*args, **more)
        data.texts = [f'"{evil}" onerror="x'] * len(data.texts)
        return data

    monkeypatch.setattr(ReferringDataset, "open", hostile)
    model = files["model"].rename(tmp_path / "<img src=x onerror=alert(1)>.h5")
    config = Config(expressions=(3,), split_name=f"</title>{evil}")
    run(config, dataset=files["dataset"], model=model, out=tmp_path / "a.h5")
    page = (tmp_path / "a_figures" / "index.html").read_text("utf-8")
    assert "<script" not in page and "<img src=x" not in page and ' onerror="x' not in page
    assert "&lt;script&gt;" in page and "&lt;img src=x" in page


def test_scores_are_shown_also_when_no_pseudo_label_was_kept(
    files: dict[str, Path], calls: list[Any], tmp_path: Path
) -> None:
    from stages import resample_points

    points = tmp_path / "none.h5"
    resample_points.run(
        resample_points.Config(score_threshold=0.0, points=8),
        dataset=files["dataset"], pseudo=files["pseudo"], out=points,
    )  # fmt: skip
    result = run(Config(samples=1), **files, points=points, out=tmp_path / "a.h5")
    page = (tmp_path / "a_figures" / "index.html").read_text("utf-8")
    assert result.summary["pseudo_samples"] == 0
    assert "Pseudo labels" in page and page.count("<svg") == 3


def test_the_same_call_is_up_to_date_until_its_pictures_are_gone(
    files: dict[str, Path], calls: list[Any], tmp_path: Path
) -> None:
    out, folder = tmp_path / "a.h5", tmp_path / "pictures"
    config = Config(samples=1, figures=str(folder))
    first = run(config, **files, out=out)
    assert run(config, **files, out=out).status == "up-to-date"
    assert len(calls) == 1
    (folder / "index.html").unlink()
    for file in folder.iterdir():
        file.unlink()
    asked = run(config, **files, out=out, options=RunOptions(dry_run=True))
    assert asked.status == "would-run" and asked.reasons == (f"{folder} does not exist",)
    again = run(config, **files, out=out)
    assert (again.status, again.digest) == ("written", first.digest)
    assert (folder / "index.html").is_file()
    with pytest.raises(StaleOutputError, match="was made from something else"):
        run(Config(samples=2, figures=str(folder)), **files, out=out)


def test_a_dry_run_draws_nothing(files: dict[str, Path], calls: list[Any], tmp_path: Path) -> None:
    result = run(Config(), **files, out=tmp_path / "a.h5", options=RunOptions(dry_run=True))
    assert result.status == "would-run"
    assert not calls and not (tmp_path / "a_figures").exists()


def test_samples_are_distinct_referents_drawn_by_seed(
    files: dict[str, Path], calls: list[Any], tmp_path: Path
) -> None:
    for i, seed in enumerate((0, 0, 3)):
        run(
            Config(samples=4, seed=seed),
            dataset=files["dataset"],
            model=files["model"],
            out=tmp_path / f"{i}.h5",
        )
    chosen = [rows for _, rows, _ in calls]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(
        len({s // 2 for s in rows}) == 4 and min(rows) >= 12 for rows in chosen
    )  # val starts at referent 6


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"split_name": "vla"}, "unknown split 'vla'"),
        ({"expressions": (22,)}, "expressions must be below 22, got 22"),
        ({"ref_ids": (7, 99)}, "ref_id 99 is not in"),
        ({"split_name": "train", "with_mask": True}, "nothing to show in split 'train'"),
        ({"split_name": "test"}, "nothing to show in split 'test'|unknown split 'test'"),
    ],
)
def test_what_cannot_be_shown_is_said(
    config: dict[str, Any], message: str, files: dict[str, Path], calls: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        run(Config(**config), dataset=files["dataset"], model=files["model"], out=tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists() and not (tmp_path / "a_figures").exists()


def test_sentences_and_ref_ids_can_be_named(files: dict[str, Path], calls: list[Any], tmp_path: Path) -> None:
    inputs = {"dataset": files["dataset"], "model": files["model"]}
    run(Config(expressions=(21, 3)), **inputs, out=tmp_path / "a.h5")
    run(Config(ref_ids=(8, 1), box_prompt=True), **inputs, out=tmp_path / "b.h5")
    assert [c[1:] for c in calls] == [([21, 3], False), ([14, 0], True)]
    with pytest.raises(UsageError, match="cannot be given together"):
        Config(expressions=(1,), ref_ids=(1,))


def test_a_folder_of_somebody_else_stops_the_run_before_any_work(
    files: dict[str, Path], calls: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "a_figures").mkdir()
    (tmp_path / "a_figures" / "thesis.txt").write_text("x")
    with pytest.raises(ArtifactError, match="a_figures exists and is not a page"):
        run(Config(), **files, out=tmp_path / "a.h5")
    assert not calls


def test_inputs_of_another_dataset_are_refused(
    files: dict[str, Path], calls: list[Any], tmp_path: Path
) -> None:
    other = write_dataset(tmp_path / "other.h5", SPLITS, seed=1)
    for role in ("split", "pseudo"):
        given = {"dataset": other, "model": files["model"], role: files[role]}
        with pytest.raises(ArtifactError, match=f"{role}.h5 was not made from"):
            run(Config(), **given, out=tmp_path / "a.h5")


def test_hidden_truth_is_shown_only_on_request(files: dict[str, Path]) -> None:
    def shown(**how: Any) -> list[bool]:
        masks = "split" if how.get("split") else "all"
        data = ReferringDataset.open(files["dataset"], split=how.get("split"), masks=masks)  # type: ignore[arg-type]
        truth = Truth(data, may_see_train=how["may_see_train"])
        assert [truth.contour(r) is not None for r in range(11)] == [truth.allowed(r) for r in range(11)]
        assert all((truth.iou(made_up(data, 0).points_xy, r) is None) != truth.allowed(r) for r in range(11))
        return [truth.allowed(r) for r in range(11)]

    assert shown(may_see_train=False) == [False] * 6 + [True] * 5
    assert shown(split=files["split"], may_see_train=True) == [True] * 2 + [False] * 4 + [True] * 5
    assert shown(may_see_train=True) == [True] * 11


def test_chosen_points_are_spread_evenly_or_as_asked() -> None:
    assert spread_points(12, 3) == [0, 4, 8]
    assert spread_points(2, 5) == [0, 1]
    assert spread_points(0, 3) == []
    assert spread_points(4, 3, (4, 1, 9)) == [3, 0]


def test_the_map_of_a_point_is_that_of_its_two_steps(files: dict[str, Path]) -> None:
    sample = made_up(ReferringDataset.open(files["dataset"]), 0)
    maps = point_maps(sample).reshape(4, 12)
    assert [np.flatnonzero(m).tolist() for m in maps] == [[4, 5], [6, 7], [8, 9], [10, 11]]
    assert maps.sum(1) == pytest.approx(1)


def test_a_model_that_draws_nothing_still_makes_a_picture(
    files: dict[str, Path], calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = AttentionSample(
        np.zeros(12, np.int32),
        np.zeros((0, 2), np.float32),
        None,
        np.zeros((12, 3, 4), np.float32),
        np.zeros(0, np.int64),
    )
    monkeypatch.setattr("stages.inference.attention.attention_for_sentences", lambda *a: [nothing])
    out = tmp_path / "a.h5"
    run(Config(samples=1), dataset=files["dataset"], model=files["model"], out=out)
    assert (tmp_path / "a_figures" / "attention_001.png").is_file()
    with open_artifact(out) as a:
        assert np.isnan(a["box_xyxy"]).all() and len(a.ragged("points_xy")[0]) == 0


def test_a_detector_is_shown_with_the_one_map_of_its_query(
    files: dict[str, Path], calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detected(
        loaded: Any, data: ReferringDataset, rows: Sequence[int], prompt: bool
    ) -> list[AttentionSample]:
        all_steps = [made_up(data, int(s)) for s in rows]
        none = np.zeros(4, np.int64)
        return [replace(sample, maps=sample.maps[4:5], step_of_point=none) for sample in all_steps]

    monkeypatch.setattr("stages.inference.attention.attention_for_sentences", detected)
    rows: list[Any] = []
    figure = samples.attention_figure

    def watched(*args: Any, **more: Any) -> Any:
        rows.append(args[2][0])
        return figure(*args, **more)

    monkeypatch.setattr("stages.figures.samples.attention_figure", watched)
    run(Config(samples=1), dataset=files["dataset"], model=files["model"], out=tmp_path / "a.h5")
    one = rows[0]
    assert one.chosen is None and one.maps.shape == (1, 3, 4) and one.maps[0, 1, 0] == 1
    picture = figure(np.zeros((*SIZE, 3), np.uint8), "a", [one])
    dotted = figure(np.zeros((*SIZE, 3), np.uint8), "a", [replace(one, chosen=[0])])
    assert picture.shape == dotted.shape
    red = [(np.asarray(p) == overlays.CHOSEN).all(-1).sum() for p in (picture, dotted)]
    assert red[0] == 0 < red[1]


def test_attention_of_a_whole_split_is_measured(
    files: dict[str, Path], calls: list[Any], tmp_path: Path
) -> None:
    """Every masked val expression of both models; the numbers stand in columns, summary and page."""
    second = write_model(tmp_path / "naive.h5", files["dataset"])
    out = tmp_path / "a.h5"
    result = run(Config(samples=1, measure=True), **files, compare_model=second, out=out)
    with open_artifact(out, "attention") as a:
        n = len(a["measured/model"]) // 2
        assert n > 1 and a["measured/model"].tolist() == [0] * n + [1] * n
        assert len(set(a["measured/sentence_index"][:n])) == n
        inside, box = a["measured/in_mask"], a["measured/in_box"]
        assert (inside <= box + 1e-6).all() and (box <= 1).all() and (a["measured/distance"] > 0).all()
    means = result.summary["attention"]["model"]
    assert means["expressions"] == n and means["without_contour"] == 0
    assert means["in_box"] == pytest.approx(box[:n].mean(), abs=1e-6)
    assert "Attention, measured" in (tmp_path / "a_figures" / "index.html").read_text("utf-8")
    assert verify_artifact(out) == []

    fewer = run(Config(samples=1, measure=True, max_expressions=2), **files, out=tmp_path / "b.h5")
    assert fewer.summary["attention"]["model"]["expressions"] == 2
    alone = run(Config(samples=0, pseudo_samples=0, measure=True), **files, out=tmp_path / "d.h5")
    assert alone.summary["attention"]["model"] == means and alone.summary["figures"] == []
    plain = run(Config(samples=1), **files, out=tmp_path / "c.h5")
    assert "attention" not in plain.summary
