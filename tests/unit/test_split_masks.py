"""split-masks: nested, seeded, exact choices; nothing else can be seen."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import open_artifact, verify_artifact
from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError, UsageError
from stages.prepare_data import Config as DataConfig
from stages.prepare_data import run as prepare
from stages.split_masks import Config, run
from tests.oracles.listed_ids import read_ref_ids
from tests.oracles.refer_folder import ReferFolder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "d.h5"
    prepare(DataConfig(scale="tiny"), out=path)
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in which train referent 4 has no mask."""
    base = tmp_path_factory.mktemp("mixed")
    root = ReferFolder(base / "data").write()
    prepare(DataConfig(source="refer", root=str(root), name="toy"), out=base / "d.h5")
    return base / "d.h5"


def split(dataset: Path, out: Path, **config: Any) -> np.ndarray:
    run(Config(**config), dataset=dataset, out=out)
    assert verify_artifact(out) == []
    with open_artifact(out, kind="split") as a:
        return a["visible"]


@pytest.mark.parametrize("unit", ["referent", "image"])
@pytest.mark.parametrize("seed", [0, 7])
def test_smaller_shares_lie_in_larger_ones(dataset: Path, tmp_path: Path, unit: str, seed: int) -> None:
    ratios = [0.001, 0.01, 0.05, 0.1, 0.5, 0.9, 1.0]
    shares = [split(dataset, tmp_path / f"{ratio}.h5", ratio=ratio, unit=unit, seed=seed) for ratio in ratios]
    for smaller, larger in itertools.pairwise(shares):
        assert not (smaller & ~larger).any()
    data = ReferringDataset.open(dataset)
    train = data.referent_split == 0
    assert shares[0].sum() >= 1
    assert (shares[-1] == train).all()
    if unit == "referent":
        assert shares[3].sum() == round(0.1 * train.sum())
    else:
        images = data.referent_image
        for visible in shares:
            shown = np.isin(images, images[visible])
            assert (visible == (shown & train)).all()  # all of an image or nothing
        assert len(np.unique(images[shares[3]])) == round(0.1 * len(np.unique(images[train])))


def test_seeds_differ_and_repeat(dataset: Path, tmp_path: Path) -> None:
    first = run(Config(ratio=0.2, seed=1), dataset=dataset, out=tmp_path / "a.h5")
    again = run(Config(ratio=0.2, seed=1), dataset=dataset, out=tmp_path / "b.h5")
    other = run(Config(ratio=0.2, seed=2), dataset=dataset, out=tmp_path / "c.h5")
    assert first.digest == again.digest != other.digest


def test_the_choice_is_fixed_for_ever(mixed: Path, tmp_path: Path) -> None:
    """Literal values: a change of library or code that moves them breaks published splits."""
    split(mixed, tmp_path / "s.h5", count=2, seed=0)
    with open_artifact(tmp_path / "s.h5") as a:
        assert a["rank"].tolist() == RANKS_OF_SEED_0
        assert a["labelled_ref_id"].tolist() == LABELLED_OF_SEED_0
        assert (a.attrs["strategy"], a.attrs["unit"], a.attrs["seed"], a.attrs["count"]) == (
            "nested",
            "referent",
            0,
            2,
        )


RANKS_OF_SEED_0 = [1, 0, 2, -1, -1, -1, -1]
LABELLED_OF_SEED_0 = [1, 2]


def test_only_referents_of_the_split_with_a_mask_are_candidates(mixed: Path, tmp_path: Path) -> None:
    visible = split(mixed, tmp_path / "s.h5", ratio=1.0)
    assert visible.tolist() == [True, True, True, False, False, False, False]
    summary = run(Config(ratio=1.0), dataset=mixed, out=tmp_path / "s.h5").summary
    assert (summary["referents"], summary["candidates"], summary["box_only"]) == (4, 3, 1)
    visible = split(mixed, tmp_path / "v.h5", ratio=1.0, split_name="val")
    assert visible.tolist() == [False, False, False, False, True, True, False]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_count(mixed: Path, tmp_path: Path, count: int) -> None:
    assert split(mixed, tmp_path / "s.h5", count=count).sum() == count


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ratio": 0.0}, r"ratio must be in \(0, 1\], got 0"),
        ({"ratio": 1.5}, r"ratio must be in \(0, 1\], got 1.5"),
        ({"ratio": -0.1}, "got -0.1"),
        ({"ratio": float("nan")}, "ratio must be a finite number"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 4}, "count must be at most 3, got 4"),
        ({"count": 3, "unit": "image"}, "count must be at most 1, got 3"),
        ({}, "how many masks"),
        ({"ratio": 0.5, "count": 1}, "--ratio and --count exclude each other"),
        ({"ratio": 0.5, "import_list": "x"}, "--ratio and --import-list exclude each other"),
        ({"ratio": 0.5, "split_name": "tran"}, "unknown split 'tran'"),
        ({"ratio": 0.5, "unit": "pixel"}, "unit must be one of referent, image, got 'pixel'"),
    ],
)
def test_bad_options(mixed: Path, tmp_path: Path, config: dict[str, Any], message: str) -> None:
    out = tmp_path / "s.h5"
    with pytest.raises(UsageError, match=message):
        run(Config(**config), dataset=mixed, out=out)
    assert not out.exists()


def test_no_candidate(tmp_path: Path) -> None:
    folder = ReferFolder(tmp_path / "data")
    for entry in folder.annotations:
        entry["segmentation"] = []
    prepare(DataConfig(source="refer", root=str(folder.write()), name="toy"), out=tmp_path / "d.h5")
    with pytest.raises(ArtifactError, match=r"no referent of split 'train' in .* has a mask"):
        run(Config(ratio=0.5), dataset=tmp_path / "d.h5", out=tmp_path / "s.h5")


@pytest.mark.parametrize(
    "text", ["3\n1\n", "1, 3", "# mine\n1 # first\n3\n", "[3, 1]", '{"ref_ids": [1, 3]}', '["1", "3"]']
)
def test_imported_lists(mixed: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    visible = split(mixed, tmp_path / "s.h5", import_list=str(path))
    assert visible.tolist() == [True, False, True, False, False, False, False]
    with open_artifact(tmp_path / "s.h5") as a:
        assert a.attrs["strategy"] == "list"
        assert sorted(a["rank"][:3].tolist()) == [0, 1, 2]


def test_changed_list_is_noticed(mixed: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("1")
    split(mixed, tmp_path / "s.h5", import_list=str(path))
    path.write_text("2")
    with pytest.raises(ArtifactError, match="made from something else"):
        split(mixed, tmp_path / "s.h5", import_list=str(path))


def test_bad_lists(mixed: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(json.dumps([1, 4, 5, *range(900, 920)]))
    with pytest.raises(ArtifactError, match="lists 22 ref ids that cannot be shown") as caught:
        run(Config(import_list=str(path)), dataset=mixed, out=tmp_path / "s.h5")
    assert caught.value.facts[0].startswith("not in the dataset: 900, 901")
    assert caught.value.facts[0].endswith("and 10 more")
    assert caught.value.facts[1] == "without a mask, or not in split 'train': 4, 5"
    for text, message in (
        (" ", "lists no ref id"),
        ("1 two", "holds something that is no ref id"),
        ("[1.5]", "1.5 is no whole number"),
        ("[1", "no valid JSON"),
        ('{"a": 1}', "holds no list"),
    ):
        path.write_text(text)
        with pytest.raises(ArtifactError) as caught:
            run(Config(import_list=str(path)), dataset=mixed, out=tmp_path / "s.h5")
        assert message in str(caught.value)
    with pytest.raises(ArtifactError, match="no such file"):
        run(Config(import_list=str(tmp_path / "absent")), dataset=mixed, out=tmp_path / "s.h5")


def test_read_ref_ids_of_windows_text(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(b"1\r\n2\r\n")
    assert read_ref_ids(tmp_path / "l") == {1, 2}


# ---- the release's lists of labelled instances ----


@pytest.fixture
def sample(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """instances_sample_*.json in which refs 1 and 2 of the training split are labelled."""
    from tests.oracles.public_formats import seqtr_lists

    lists: dict[str, Any] = seqtr_lists(ReferFolder(tmp_path / "other"))
    lists["train"] = [lists["train"][1], lists["train"][0]]
    path = tmp_path / "instances_sample_5.json"
    path.write_text(json.dumps(lists))
    return path, lists


def test_the_releases_list_becomes_a_split(mixed: Path, tmp_path: Path, sample: tuple[Path, Any]) -> None:
    visible = split(mixed, tmp_path / "s.h5", import_list=str(sample[0]))
    assert visible.tolist() == [True, True, False, False, False, False, False]
    with open_artifact(tmp_path / "s.h5") as a:
        assert a["labelled_ref_id"].tolist() == [1, 2]


def test_the_list_fits_however_the_dataset_was_read(tmp_path: Path, sample: tuple[Path, Any]) -> None:
    """From the release's own list, whose referents have other ids."""
    from tests.oracles.public_formats import write_seqtr

    folder = ReferFolder(tmp_path / "data")
    folder.write()
    root = write_seqtr(folder).parent
    prepare(DataConfig(source="seqtr", root=str(root), images=str(folder.pictures)), out=tmp_path / "d.h5")
    visible = split(tmp_path / "d.h5", tmp_path / "s.h5", import_list=str(sample[0]))
    assert visible.tolist() == [True, True, False, False, False, False, False]


def test_equal_boxes_are_told_apart_by_their_expressions(
    mixed: Path, tmp_path: Path, sample: tuple[Path, Any]
) -> None:
    path, lists = sample
    lists["val"] = [{**lists["val"][1], "expressions": ["The same SQUARES!"]}]
    path.write_text(json.dumps(lists))
    visible = split(mixed, tmp_path / "s.h5", import_list=str(path), split_name="val")
    assert visible.tolist() == [False] * 5 + [True, False]


def test_entries_of_another_dataset_are_listed(mixed: Path, tmp_path: Path, sample: tuple[Path, Any]) -> None:
    path, lists = sample
    lists["train"] += [{**lists["train"][0], "bbox": [9, 9, 3, 3]}, {**lists["train"][0], "image_id": 5}, 7]
    lists["train"] += [{"image_id": 11}, lists["train"][1]]
    path.write_text(json.dumps(lists))
    with pytest.raises(ArtifactError, match="5 of the 7 entries of train fit no referent") as caught:
        run(Config(import_list=str(path)), dataset=mixed, out=tmp_path / "s.h5")
    assert caught.value.facts[0] == "train[2]: image 11 with another box"
    assert caught.value.facts[1] == "train[3]: image 5 not in the dataset"
    assert "TypeError: 7 is no object" in caught.value.facts[2]
    lists["train"][3]["bbox"] = ["a/" * 3000, 1, 1, 1]
    path.write_text(json.dumps(lists))
    with pytest.raises(ArtifactError) as long:
        run(Config(import_list=str(path)), dataset=mixed, out=tmp_path / "s.h5")
    assert max(map(len, long.value.facts)) < 200
    assert "KeyError: 'bbox'" in caught.value.facts[3]
    assert caught.value.facts[4] == "train[6]: image 11 listed twice"
    del lists["train"]
    path.write_text(json.dumps(lists))
    with pytest.raises(ArtifactError, match="lists no entries under 'train'") as caught:
        run(Config(import_list=str(path)), dataset=mixed, out=tmp_path / "s.h5")
    assert caught.value.facts == ("it has: val, testA",)


@pytest.mark.parametrize("text", ["1.0\n3.0\n", "[1.0, 3]", '["1", "3.0"]', '{"ref_ids": [1.0, 3.0]}'])
def test_ids_as_text_or_whole_floats(tmp_path: Path, text: str) -> None:
    (tmp_path / "l").write_text(text, encoding="utf-8-sig")
    assert read_ref_ids(tmp_path / "l") == {1, 3}
