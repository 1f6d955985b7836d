"""resample-points: which sentence is kept and why, and that no mask of the dataset is ever read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import open_artifact, verify_artifact
from stages.artifacts.job import RunOptions
from stages.artifacts.reader import Artifact
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.geometry.boxes import polygon_extent
from stages.resample_points import Config, run
from tests.oracles.small_artifacts import boxes_of, diamond, write_dataset, write_pseudo

BOXES = boxes_of(6).tolist()


def shifted(box: list[float], by: float) -> list[list[float]]:
    return diamond([box[0] + by, box[1], box[2] + by, box[3]])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data.h5", ["train"] * 6)


@pytest.fixture
def pseudo(tmp_path: Path, dataset: Path) -> Path:
    """Referent 0: the second sentence is better; 1: too far off; 2: nothing drawn; 3: unsure; 4: a tie."""
    rows = [
        (0, 0, 0.9, shifted(BOXES[0], 1.5)),
        (0, 1, 0.8, diamond(BOXES[0])),
        (1, 2, 0.9, shifted(BOXES[1], 9)),
        (2, 4, 0.9, []),
        (2, 5, 0.9, [[3, 3]]),
        (3, 6, 0.2, diamond(BOXES[3])),
        (4, 8, 0.5, diamond(BOXES[4])),
        (4, 9, 0.7, diamond(BOXES[4])),
    ]
    return write_pseudo(tmp_path / "pseudo.h5", dataset, rows, n_points=12)


def result(path: Path) -> dict[str, Any]:
    with open_artifact(path, "resampled_points") as a:
        columns = {
            name: a[name]
            for name in a.names()
            if name.split("/")[-1] not in ("reason", "summary", "provenance")
        }
        return {**columns, "reason": a.strings("decisions/reason"), "summary": a.json("summary"), **a.attrs}


def test_every_referent_has_a_reason(tmp_path: Path, dataset: Path, pseudo: Path) -> None:
    out = tmp_path / "points.h5"
    summary = run(Config(min_confidence=0.3), dataset=dataset, pseudo=pseudo, out=out).summary
    r = result(out)
    assert r["decisions/referent_index"].tolist() == [0, 1, 2, 3, 4]
    assert r["reason"] == ["kept", "score above threshold", "no contour", "low confidence", "kept"]
    assert r["referent_index"].tolist() == [0, 4]
    assert r["sentence_index"].tolist() == [1, 9], "lowest score; ties by confidence"
    assert r["weight"].tolist() == [1, 1]
    assert r["score"] == pytest.approx([0, 0], abs=0.07)
    assert r["points_xy"].shape == (2, 12, 2)
    assert summary["kept"] == 2
    assert summary["dropped"] == {"no contour": 1, "low confidence": 1, "score above threshold": 1}
    assert sum(summary["histogram"]["counts"]) == 4, "all referents that draw something"
    assert len(summary["histogram"]["edges"]) == len(summary["histogram"]["counts"]) + 1
    assert not list(verify_artifact(out))


def test_options_change_what_is_kept(tmp_path: Path, dataset: Path, pseudo: Path) -> None:
    def kept(name: str, config: Config) -> dict[str, Any]:
        run(config, dataset=dataset, pseudo=pseudo, out=tmp_path / name)
        return result(tmp_path / name)

    assert kept("a.h5", Config())["referent_index"].tolist() == [0, 3, 4]
    assert kept("b.h5", Config(score_threshold=2.0))["referent_index"].tolist() == [0, 1, 3, 4]
    assert kept("c.h5", Config(score_threshold=0.0))["referent_index"].tolist() == []
    assert kept("d.h5", Config(points=5))["points_xy"].shape == (3, 5, 2)
    assert kept("e.h5", Config(weighting="confidence"))["weight"] == pytest.approx([0.8, 0.2, 0.7])
    tall, bent = (
        kept(f"{b}.h5", Config(between=b, points=64))["points_xy"][0] for b in ("straight", "curve")
    )
    assert np.ptp(bent, axis=0) == pytest.approx(np.ptp(tall, axis=0), abs=1.5)
    assert area(bent) > 1.15 * area(tall), "a diamond bulges, its corners stay"
    fitted = kept("f.h5", Config(score_threshold=2.0, fit="box", points=64))
    for referent, ring in zip(fitted["referent_index"], fitted["points_xy"], strict=True):
        assert polygon_extent(ring) == pytest.approx(BOXES[referent], abs=1.0)


def area(ring_xy: Any) -> float:
    x, y = np.asarray(ring_xy, np.float64).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def test_weights_follow_confidence_and_agreement_with_the_box(tmp_path: Path, dataset: Path) -> None:
    """projection: max(0.05, 1 - score / threshold); both: times the confidence."""
    rows = [(r, 2 * r, 0.5 + 0.1 * r, shifted(BOXES[r], 0.7 * r)) for r in range(4)]
    pseudo = write_pseudo(tmp_path / "p.h5", dataset, rows, n_points=12)
    got = {}
    for how in ("none", "confidence", "projection", "both"):
        config = Config(weighting=how, score_threshold=0.2)
        run(config, dataset=dataset, pseudo=pseudo, out=tmp_path / f"{how}.h5")
        got[how] = result(tmp_path / f"{how}.h5")
    r = got["projection"]
    assert len(r["weight"]) == 4
    assert np.all(np.diff(r["score"]) >= 0)
    assert r["score"][-1] > 0.02
    assert r["weight"] == pytest.approx(1 - r["score"] / 0.2, abs=1e-6)
    assert r["weight"].dtype == np.float32
    assert got["none"]["weight"].tolist() == [1, 1, 1, 1]
    assert got["confidence"]["weight"] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert got["both"]["weight"] == pytest.approx(r["weight"] * got["confidence"]["weight"])


def test_an_outline_that_was_just_kept_still_counts(tmp_path: Path, dataset: Path) -> None:
    rows = [(0, 0, 0.5, shifted(BOXES[0], 2))]
    pseudo = write_pseudo(tmp_path / "p.h5", dataset, rows, n_points=12)
    run(Config(score_threshold=2.0), dataset=dataset, pseudo=pseudo, out=tmp_path / "all.h5")
    score = float(result(tmp_path / "all.h5")["score"][0])
    assert score > 0.02
    for how, weight in (("projection", 0.05), ("both", 0.025)):
        config = Config(weighting=how, score_threshold=score * 1.0001)
        run(config, dataset=dataset, pseudo=pseudo, out=tmp_path / f"{how}.h5")
        assert result(tmp_path / f"{how}.h5")["weight"] == pytest.approx([weight])
    run(
        Config(weighting="projection", score_threshold=0.0),
        dataset=dataset,
        pseudo=pseudo,
        out=tmp_path / "no.h5",
    )
    assert len(result(tmp_path / "no.h5")["weight"]) == 0


def test_masks_of_the_dataset_are_never_read(
    tmp_path: Path, dataset: Path, pseudo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = Artifact.dataset

    def watch(self: Artifact, name: str) -> Any:
        read.append(f"{self.kind}:{name}")
        return original(self, name)

    monkeypatch.setattr(Artifact, "dataset", watch)
    run(Config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "points.h5")
    assert read
    assert not [name for name in read if name.startswith("dataset:masks/rle/values")]


def test_masks_of_the_pseudo_labels_stand_in_for_points(tmp_path: Path, dataset: Path) -> None:
    rows = [(0, 0, 0.9, []), (1, 2, 0.9, diamond(BOXES[1])), (2, 4, 0.9, []), (3, 6, 0.9, [])]
    nothing = [0, 0, 0, 0]
    pseudo = write_pseudo(
        tmp_path / "p.h5", dataset, rows, masks=[BOXES[0], None, None, nothing], n_points=16
    )
    for fit in ("none", "box"):
        out = tmp_path / f"{fit}.h5"
        run(Config(fit=fit), dataset=dataset, pseudo=pseudo, out=out)
        r = result(out)
        assert r["reason"] == ["kept", "kept", "no contour", "no contour"]
        assert polygon_extent(r["points_xy"][0]) == pytest.approx(BOXES[0], abs=1)


def test_number_of_points_follows_the_longest_ring_without_a_record(tmp_path: Path, dataset: Path) -> None:
    pseudo = write_pseudo(tmp_path / "p.h5", dataset, [(0, 0, 0.9, diamond(BOXES[0]))])
    run(Config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "o.h5")
    assert result(tmp_path / "o.h5")["n_points"] == 4


def test_no_pseudo_labels_at_all(tmp_path: Path, dataset: Path) -> None:
    pseudo = write_pseudo(tmp_path / "p.h5", dataset, [])
    summary = run(Config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "o.h5").summary
    assert (summary["referents"], summary["kept"], summary["kept_share"]) == (0, 0, 0.0)


def test_order_of_rows_does_not_matter(tmp_path: Path, dataset: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (r, 2 * r + s, float(rng.random()), shifted(BOXES[r], rng.normal(0, 1)))
        for r in range(6)
        for s in (0, 1)
    ]
    outs = []
    for name, order in (("a", np.arange(12)), ("b", rng.permutation(12))):
        pseudo = write_pseudo(tmp_path / f"p{name}.h5", dataset, [rows[i] for i in order])
        run(Config(), dataset=dataset, pseudo=pseudo, out=tmp_path / f"{name}.h5")
        outs.append(result(tmp_path / f"{name}.h5"))
    assert np.array_equal(outs[0]["sentence_index"], outs[1]["sentence_index"])
    assert np.array_equal(outs[0]["points_xy"], outs[1]["points_xy"])


def test_second_run_does_nothing_and_another_threshold_is_refused(
    tmp_path: Path, dataset: Path, pseudo: Path
) -> None:
    out = tmp_path / "points.h5"
    first = run(Config(), dataset=dataset, pseudo=pseudo, out=out)
    again = run(Config(), dataset=dataset, pseudo=pseudo, out=out)
    assert (first.status, again.status) == ("written", "up-to-date")
    assert again.summary == first.summary
    assert again.digest == first.digest
    with pytest.raises(StaleOutputError, match=r"score-threshold: 0\.1 -> 0\.2"):
        run(Config(score_threshold=0.2), dataset=dataset, pseudo=pseudo, out=out)
    dry = RunOptions(dry_run=True)
    assert (
        run(Config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "x.h5", options=dry).status
        == "would-run"
    )


def test_inputs_must_belong_together(tmp_path: Path, pseudo: Path) -> None:
    other = write_dataset(tmp_path / "other.h5", ["train"] * 6, seed=1)
    with pytest.raises(ArtifactError, match=r"pseudo\.h5 was not made from .*other\.h5"):
        run(Config(), dataset=other, pseudo=pseudo, out=tmp_path / "o.h5")
    assert not (tmp_path / "o.h5").exists()


def test_damaged_pseudo_labels_are_named(tmp_path: Path, dataset: Path) -> None:
    far = write_pseudo(tmp_path / "far.h5", dataset, [(6, 0, 0.9, diamond(BOXES[0]))])
    with pytest.raises(ArtifactError, match="referent 6, the dataset has 6"):
        run(Config(), dataset=dataset, pseudo=far, out=tmp_path / "o.h5")
    nan = write_pseudo(tmp_path / "nan.h5", dataset, [(0, 0, 0.9, [[1, 1], [np.nan, 2], [3, 3]])])
    with pytest.raises(ArtifactError, match=r"nan\.h5 is damaged") as caught:
        run(Config(), dataset=dataset, pseudo=nan, out=tmp_path / "o.h5")
    assert caught.value.facts == ("points_xy/values holds a number that is not finite",)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"score_threshold": 2.5}, r"score-threshold must be in \[0, 2\], got 2.5"),
        ({"points": 2}, "points must be at least 3, got 2"),
        ({"fit": "circle"}, "'circle'"),
        ({"weighting": "scores"}, "'scores'"),
        ({"min_confidence": -1.0}, r"min-confidence must be in \[0, 1\], got -1"),
    ],
)
def test_bad_options_are_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Config(**option)
