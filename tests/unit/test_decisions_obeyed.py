"""A person's decisions reach the pseudo points and the split, and never open a hidden mask."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import open_artifact, verify_artifact
from stages.data.dataset import ReferringDataset, seen_referents
from stages.errors import ArtifactError, HiddenMaskError, UsageError
from stages.geometry.boxes import polygon_extent
from stages.geometry.rasterise import polygon_to_rle, rle_area
from stages.pseudo_label import Config as PseudoConfig
from stages.pseudo_label import unlabelled_sentences
from stages.resample_points import Config, run
from stages.split_masks import Config as SplitConfig
from stages.split_masks import run as split
from tests.oracles.small_artifacts import SIZE, boxes_of, diamond, digest, write_dataset, write_pseudo

BOXES = boxes_of(6).tolist()
EDITED = [[2, 12], [30, 12], [30, 44], [2, 44]]


def far(box: list[float]) -> list[list[float]]:
    return diamond([box[0] + 9, box[1], box[2] + 9, box[3]])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data.h5", ["train"] * 5 + ["val"])


@pytest.fixture
def pseudo(tmp_path: Path, dataset: Path) -> Path:
    """0 and 1 agree with their box, 2 and 3 do not, 4 is empty. 2 has two sentences, the first agrees less."""
    rows = [
        (0, 0, 0.9, diamond(BOXES[0])),
        (1, 2, 0.8, diamond(BOXES[1])),
        (2, 4, 0.9, far(BOXES[2])),
        (2, 5, 0.9, [[x - 2, y] for x, y in far(BOXES[2])]),
        (3, 6, 0.9, far(BOXES[3])),
        (4, 8, 0.9, []),
    ]
    return write_pseudo(tmp_path / "pseudo.h5", dataset, rows, n_points=12)


def decisions(path: Path, dataset: Path, pseudo: Path | None, *entries: dict[str, Any]) -> Path:
    content = {
        "format": "seqres-decisions",
        "version": 1,
        "dataset_digest": digest(dataset),
        "decisions": entries,
    }
    if pseudo is not None:
        content["pseudo_digest"] = digest(pseudo)
    path.write_text(json.dumps(content), "utf-8")
    return path


@pytest.fixture
def decided(tmp_path: Path, dataset: Path, pseudo: Path) -> Path:
    return decisions(
        tmp_path / "decisions.json", dataset, pseudo,
        {"ref_id": 1, "verdict": "reject"},
        {"ref_id": 2, "verdict": "unsure"},
        {"ref_id": 3, "verdict": "accept", "sentence_index": 4},
        {"ref_id": 5, "polygon": EDITED},
    )  # fmt: skip


def test_resampling_obeys_and_records_why(tmp_path: Path, dataset: Path, pseudo: Path, decided: Path) -> None:
    out = tmp_path / "points.h5"
    config = Config(weighting="both")
    summary = run(config, dataset=dataset, pseudo=pseudo, decisions=decided, out=out).summary
    assert verify_artifact(out) == []
    with open_artifact(out) as a:
        assert a["referent_index"].tolist() == [1, 2, 4]
        assert a["sentence_index"].tolist() == [2, 4, 8]  # the sentence whose mask was looked at
        assert a.strings("decisions/reason") == [
            "review: rejected", "kept", "kept", "score above threshold", "kept",
        ]  # fmt: skip
        assert a.strings("decisions/review") == ["rejected", "unsure", "accepted", "", "corrected"]
        assert a["weight"].tolist() == pytest.approx([0.8, 1, 1], rel=0.05)
        np.testing.assert_allclose(polygon_extent(a["points_xy"][2]), [2, 12, 30, 44], atol=2)
        assert a["points_xy"].shape == (3, 12, 2)
    assert summary["dropped"]["review: rejected"] == 1
    assert summary["review"] == {"accepted": 1, "corrected": 1, "rejected": 1, "unsure": 1}


def test_without_decisions_nothing_is_different(
    tmp_path: Path, dataset: Path, pseudo: Path, decided: Path
) -> None:
    plain = run(Config(), dataset=dataset, pseudo=pseudo, out=tmp_path / "plain.h5")
    with open_artifact(tmp_path / "plain.h5") as a:
        assert "decisions/review" not in a
        assert "review" not in a.json("summary")
    other = run(Config(), dataset=dataset, pseudo=pseudo, decisions=decided, out=tmp_path / "other.h5")
    assert plain.digest != other.digest
    again = run(Config(), dataset=dataset, pseudo=pseudo, decisions=decided, out=tmp_path / "other.h5")
    assert again.status == "up-to-date"


def test_a_decision_needs_its_pseudo_mask(tmp_path: Path, dataset: Path, pseudo: Path) -> None:
    path = decisions(tmp_path / "d.json", dataset, None, {"ref_id": 6, "verdict": "reject"})
    with pytest.raises(ArtifactError, match=r"decides about 1 referents that are not in .*pseudo.h5"):
        run(Config(), dataset=dataset, pseudo=pseudo, decisions=path, out=tmp_path / "p.h5")
    path = decisions(
        tmp_path / "d.json", dataset, None, {"ref_id": 1, "verdict": "accept", "sentence_index": 1}
    )
    with pytest.raises(ArtifactError, match=r"accepts the mask of sentence 1, which .* does not have"):
        run(Config(), dataset=dataset, pseudo=pseudo, decisions=path, out=tmp_path / "p.h5")


def test_an_accepted_mask_that_is_empty_stays_dropped(tmp_path: Path, dataset: Path, pseudo: Path) -> None:
    path = decisions(tmp_path / "d.json", dataset, pseudo, {"ref_id": 5, "verdict": "accept"})
    run(Config(), dataset=dataset, pseudo=pseudo, decisions=path, out=tmp_path / "p.h5")
    with open_artifact(tmp_path / "p.h5") as a:
        assert a.strings("decisions/reason")[4] == "no contour"


def test_accepted_masks_count_as_seen_and_the_true_ones_stay_hidden(
    tmp_path: Path, dataset: Path, pseudo: Path, decided: Path
) -> None:
    before, out = tmp_path / "before.h5", tmp_path / "split.h5"
    split(SplitConfig(count=1, seed=1), dataset=dataset, out=before)
    config = SplitConfig(count=1, seed=1, accepted_masks=True)
    summary = split(config, dataset=dataset, decisions=decided, pseudo=pseudo, out=out).summary
    assert verify_artifact(out) == []
    with open_artifact(before) as a, open_artifact(out) as b:
        assert (a["visible"] == b["visible"]).all()  # the choice of true masks is the same
        visible = int(np.flatnonzero(b["visible"])[0])
        carried = [r for r in (2, 4) if r != visible]
        assert b["accepted/referent_index"].tolist() == carried
        assert np.flatnonzero(seen_referents(b)).tolist() == sorted([visible, *carried])
        data = ReferringDataset.open(dataset)
        sentences = unlabelled_sentences(data, seen_referents(b), PseudoConfig())
        assert not set(data.sentence_referent[sentences].tolist()) & {visible, *carried}
    assert summary["masks_seen"] == 1 + len(carried)
    assert summary["box_only"] == 4 - len(carried)
    learned = ReferringDataset.open(dataset, split=out, masks="training")
    assert np.flatnonzero(learned.mask_visible).tolist() == sorted([visible, *carried, 5])
    assert rle_area(learned.mask_rle(4)) == rle_area(polygon_to_rle(EDITED, SIZE))
    scored = ReferringDataset.open(dataset, split=out, masks="split")  # no truth to compare with
    assert np.flatnonzero(scored.mask_visible).tolist() == [visible, 5]
    with pytest.raises(HiddenMaskError):
        scored.mask_rle(carried[-1])


def test_what_is_accepted_needs_no_mask_drawn(tmp_path: Path) -> None:
    bare = write_dataset(tmp_path / "bare.h5", ["train"] * 4, masked=[False] * 4)
    path = decisions(tmp_path / "d.json", bare, None, {"ref_id": 2, "verdict": "accept"})
    todo = tmp_path / "todo.csv"
    config = SplitConfig(count=3, candidates="all")
    split(config, dataset=bare, decisions=path, export_list=todo, out=tmp_path / "plan.h5")
    assert sorted(line.split(",")[0] for line in todo.read_text().splitlines()[1:]) == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        ({"accepted_masks": True}, (), "--accepted-masks needs --decisions"),
        ({}, ("pseudo",), "--pseudo needs --decisions"),
        ({}, ("decisions",), "--decisions would change nothing"),
        ({"accepted_masks": True}, ("decisions",), "--accepted-masks needs the pseudo masks"),
    ],
)
def test_decisions_for_a_split_are_complete(
    tmp_path: Path,
    dataset: Path,
    pseudo: Path,
    decided: Path,
    config: Any,
    given: tuple[str, ...],
    message: str,
) -> None:
    files = {"decisions": decided, "pseudo": pseudo}
    with pytest.raises(UsageError, match=message):
        split(
            SplitConfig(count=1, **config),
            dataset=dataset,
            out=tmp_path / "s.h5",
            **{k: files[k] for k in given},
        )


def test_edited_outlines_alone_need_no_pseudo_masks(tmp_path: Path, dataset: Path) -> None:
    path = decisions(
        tmp_path / "d.json", dataset, None, *({"ref_id": r, "polygon": EDITED} for r in range(1, 6))
    )
    out = tmp_path / "s.h5"
    split(SplitConfig(count=1, accepted_masks=True), dataset=dataset, decisions=path, out=out)
    with open_artifact(out) as a:
        assert len(a["accepted/referent_index"]) == 4  # the fifth shows its true mask


def test_decisions_about_another_split_are_refused(tmp_path: Path, dataset: Path) -> None:
    path = decisions(tmp_path / "d.json", dataset, None, {"ref_id": 6, "polygon": EDITED})
    with pytest.raises(ArtifactError, match="that are not in split 'train'"):
        split(
            SplitConfig(count=1, accepted_masks=True), dataset=dataset, decisions=path, out=tmp_path / "s.h5"
        )


def test_decisions_are_a_file(tmp_path: Path, dataset: Path, pseudo: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe", "no regular file")):
        with pytest.raises(ArtifactError, match=f"is {what}$"):
            run(Config(), dataset=dataset, pseudo=pseudo, decisions=path, out=tmp_path / "p.h5")
    with pytest.raises(ArtifactError, match=r"no such file: .*nothing.json"):
        run(
            Config(),
            dataset=dataset,
            pseudo=pseudo,
            decisions=tmp_path / "nothing.json",
            out=tmp_path / "p.h5",
        )
