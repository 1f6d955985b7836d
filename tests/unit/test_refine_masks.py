"""refine-masks: what is written, with a predictor whose masks are known, by colour, and with a tiny SAM."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages import prepare_data, resample_points
from stages.artifacts import RunOptions, open_artifact, verify_artifact
from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.geometry.boxes import ellipse_in, polygon_extent
from stages.geometry.projection import projection_scores
from stages.geometry.rasterise import box_to_rle, ellipse_to_rle, polygon_to_rle, rle_to_mask
from stages.metrics.segmentation import overlaps
from stages.refine_masks import Config, run
from stages.refinement import hub
from tests.oracles.small_artifacts import diamond, write_dataset, write_pseudo
from tests.oracles.tiny_segmenters import write_tiny_segmenter


class Known:
    """Draws for each box what `answer` says, and counts."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.encoded, self.prompt_points = answer, 0, -1
        self.prompts: list[tuple[list[float], np.ndarray]] = []

    def encode(self, picture: np.ndarray) -> tuple[int, int]:
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        self.encoded += 1
        return picture.shape[0], picture.shape[1]

    def segment(
        self, encoded: tuple[int, int], boxes: np.ndarray, drawn: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        self.prompts += list(zip(boxes.tolist(), drawn, strict=True))
        masks = [[rle_to_mask(rle) for rle in self.answer(box, encoded)] for box in boxes]
        return np.array(masks), np.full((len(boxes), len(masks[0])), 0.75, np.float32)


def use(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Known:
    known = Known(answer)

    def load(source: str, device: Any, prompt_points: int) -> Known:
        known.prompt_points = prompt_points
        return known

    monkeypatch.setattr(hub, "load_hub_segmenter", load)
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
    return Config(**{"segmenter": "somewhere", "device": "cpu", **changes})


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
        assert a["decisions/segmenter_score"][0] == 0.75 and np.isnan(a["decisions/segmenter_score"][2])
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


def test_prompts_are_the_known_box_and_the_better_outline(
    dataset: Path, pseudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, data = use(monkeypatch, true_ellipse), ReferringDataset.open(dataset)
    run(config(prompt_points=2), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    assert {tuple(box) for box, _ in known.prompts} == {
        tuple(data.boxes_xyxy[r].tolist()) for r in (0, 1, 3, 4, 5)
    }
    for box, drawn in known.prompts:
        inside = rle_to_mask(polygon_to_rle(diamond(box), data.image_sizes_hw[0]))
        assert np.array_equal(drawn, inside)
    assert known.prompt_points == 2


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
    strict = config(min_contour_iou=0.9)
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_box_iou": 1.2}, r"min-box-iou must be in \[0, 1\], got 1.2"),
        ({"min_contour_iou": -0.1}, "min-contour-iou must be in .* got -0.1"),
        ({"prompt_points": 17}, "prompt-points must be in .* got 17"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(**options)


# ---- by colour ----


def test_without_a_checkpoint_colours_decide(dataset: Path, tmp_path: Path) -> None:
    """Ellipses in the boxes of shapes that no ellipse describes come nearer to their true masks."""
    data = ReferringDataset.open(dataset, masks="all")
    referents = range(20)
    rows = [
        (r, int(data.sentence_offsets[r]), 0.9, ellipse_in(data.boxes_xyxy[r], 40).tolist())
        for r in referents
    ]
    pseudo = write_pseudo(tmp_path / "p.h5", dataset, rows, n_points=40)
    loose = Config(device="cpu", min_box_iou=0.6)
    result = run(loose, dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    assert verify_artifact(tmp_path / "r.h5") == []

    def iou(path: Path) -> np.ndarray:
        with open_artifact(path) as a:
            rings = a.ragged("points_xy")
            drawn = [polygon_to_rle(rings[r], data.image_sizes_hw[data.referent_image[r]]) for r in referents]
        return overlaps(drawn, [data.mask_rle(r) for r in referents]).iou

    before, after = iou(pseudo), iou(tmp_path / "r.h5")
    with open_artifact(tmp_path / "r.h5") as a:
        refined = a["refined"]
        assert "decisions/segmenter_score" not in a
        assert not a.provenance["external"]
    assert result.summary["refined"] == refined.sum() > 5
    assert np.array_equal(after[~refined], before[~refined])
    assert after[refined].mean() > before[refined].mean() + 0.1
    assert run(loose, dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5").status == "up-to-date"
    again = run(loose, dataset=dataset, pseudo=pseudo, out=tmp_path / "again.h5")
    assert again.digest == result.digest


# ---- a tiny SAM through the real loading code ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_segmenter(tmp_path_factory.mktemp("sam") / "tiny-sam")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_checkpoint_draws_and_is_recorded(
    dataset: Path, pseudo: Path, folder: Path, tmp_path: Path
) -> None:
    out, loose = tmp_path / "r.h5", config(segmenter=str(folder), min_box_iou=0.0, min_contour_iou=0.0)
    summary = run(loose, dataset=dataset, pseudo=pseudo, out=out).summary
    assert summary["refined"] + summary["left_as_they_were"]["nothing drawn"] == 5
    with open_artifact(out) as a:
        (external,) = a.provenance["external"]
        assert (external["role"], external["path"]) == ("segmenter", str(folder))
        assert a.provenance["device"] == "cpu"
        assert np.isfinite(a["decisions/segmenter_score"]).sum() == summary["refined"]
    again = run(loose, dataset=dataset, pseudo=pseudo, out=out)
    assert again.status == "up-to-date"
    first = again.digest
    assert run(loose, dataset=dataset, pseudo=pseudo, out=out, options=RunOptions(force=True)).digest == first


def test_another_checkpoint_at_the_same_place_is_noticed(
    dataset: Path, pseudo: Path, copy: Path, tmp_path: Path
) -> None:
    run(config(segmenter=str(copy)), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    (copy / "note.txt").write_text("changed")
    with pytest.raises(StaleOutputError, match="made from something else") as caught:
        run(config(segmenter=str(copy)), dataset=dataset, pseudo=pseudo, out=tmp_path / "r.h5")
    assert any(fact.startswith("segmenter: ") for fact in caught.value.facts)
