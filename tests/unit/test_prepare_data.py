"""prepare-data: from a REFER folder or from nothing to a dataset artifact, and every way in which it refuses."""

from __future__ import annotations

import dataclasses
import shutil
import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.artifacts import open_artifact, verify_artifact
from stages.artifacts.job import RunOptions
from stages.data.dataset import ReferringDataset
from stages.data.images import header_size
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.prepare_data import PUBLISHED, Config, run
from tests.oracles.kept_warnings import KeptWarnings
from tests.oracles.refer_folder import ReferFolder

_COUNTS = tomllib.loads(PUBLISHED.read_text("utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> ReferFolder:
    made = ReferFolder(tmp_path / "data")
    made.write()
    return made


def prepare(
    folder: ReferFolder, out: Path, *, options: RunOptions = RunOptions(), **config: Any
) -> dict[str, Any]:
    settings = {"source": "refer", "root": str(folder.root), "name": "toy", **config}
    return run(Config(**settings), out=out, options=options).summary


def picture_path(folder: ReferFolder, row: int) -> Path:
    return folder.pictures / folder.images[row]["file_name"]


@pytest.mark.parametrize("embed", [True, False])
def test_the_artifact_says_what_the_folder_says(folder: ReferFolder, tmp_path: Path, embed: bool) -> None:
    out = tmp_path / "d.h5"
    summary = prepare(folder, out, embed_images=embed)
    assert verify_artifact(out) == []
    assert summary["splits"]["train"] == {"images": 2, "referents": 4, "sentences": 5, "with_mask": 3}
    assert summary["splits"]["total"] == {"images": 3, "referents": 7, "sentences": 8, "with_mask": 6}
    with open_artifact(out, kind="dataset") as a:
        assert a.attrs["split_names"] == ["train", "val", "testA"]
        assert a.json("counts")["val"] == {"images": 1, "referents": 2, "sentences": 2, "with_mask": 2}
        assert ("images/encoded" in a) == embed
        if embed:
            assert a.ragged("images/encoded")[0].tobytes() == picture_path(folder, 0).read_bytes()
    data = ReferringDataset.open(out, masks="all")
    assert data.image(1).shape == (24, 32, 3)
    assert abs(int(data.image(1)[0, 0, 0]) - 120) <= 2
    assert data.mask(0).sum() == 100


def test_embedded_artifact_needs_the_folder_no_more(folder: ReferFolder, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "d.h5", embed_images=True)
    prepare(folder, tmp_path / "r.h5")
    picture_path(folder, 0).unlink()
    assert ReferringDataset.open(tmp_path / "d.h5").image(0).shape == (24, 32, 3)
    with pytest.raises(ArtifactError, match=r"000000000011\.jpg: no such file") as caught:
        ReferringDataset.open(tmp_path / "r.h5").image(0)
    assert "--embed-images" in str(caught.value.hint)


def test_up_to_date_then_stale(folder: ReferFolder, tmp_path: Path) -> None:
    out = tmp_path / "d.h5"
    prepare(folder, out)
    settings = Config(source="refer", root=str(folder.root), name="toy")
    assert run(settings, out=out).status == "up-to-date"
    folder.annotation(101)["bbox"] = [2, 2, 9, 9]
    folder.write()
    with pytest.raises(StaleOutputError, match="made from something else") as caught:
        run(settings, out=out)
    assert any(fact.startswith("instances:") for fact in caught.value.facts)
    assert run(settings, out=out, options=RunOptions(force=True)).status == "written"


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def blank(path: Path) -> None:
    path.write_bytes(b"")


def other_size(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((32, 24, 3), np.uint8))


@pytest.mark.parametrize(
    ("damage", "embed", "words"),
    [
        (remove, True, "no such file"),
        (remove, False, "no such file"),
        (truncate, True, "cannot be decoded"),
        (truncate, False, "cannot be decoded"),
        (blank, True, "cannot be decoded"),
        (blank, False, "cannot be decoded"),
        (other_size, True, "24x32, the annotations say 32x24"),
        (other_size, False, "24x32, the annotations say 32x24"),
    ],
)
def test_bad_pictures_are_named_or_left_out(
    folder: ReferFolder, tmp_path: Path, damage: Any, embed: bool, words: str
) -> None:
    out = tmp_path / "d.h5"
    damage(picture_path(folder, 0))
    with pytest.raises(ArtifactError, match="1 of 3 images") as caught:
        prepare(folder, out, embed_images=embed)
    assert "000000000011.jpg" in caught.value.facts[0]
    assert words in caught.value.facts[0]
    assert "--skip-missing" in str(caught.value.hint)
    assert not out.exists()
    listener = KeptWarnings()
    config = Config(source="refer", root=str(folder.root), name="toy", embed_images=embed, skip_missing=True)
    summary = run(config, out=out, reporter=listener).summary
    assert summary["splits"]["total"]["images"] == 2
    assert summary["notices"] == {"images left out": 1, "referents left out with their image": 3}
    assert "000000000011.jpg" in listener.warnings[0]
    assert verify_artifact(out) == []


def test_pictures_that_came_back_are_noticed(folder: ReferFolder, tmp_path: Path) -> None:
    out = tmp_path / "d.h5"
    path = picture_path(folder, 0)
    data = path.read_bytes()
    path.unlink()
    prepare(folder, out, skip_missing=True)
    prepare(folder, out, skip_missing=True)  # up to date
    path.write_bytes(data)
    with pytest.raises(StaleOutputError, match="1 images were missing, 1 of them are there now"):
        prepare(folder, out, skip_missing=True)
    summary = prepare(folder, out, skip_missing=True, options=RunOptions(force=True))
    assert summary["splits"]["total"]["images"] == 3


def test_all_pictures_missing_is_an_error_even_with_skip(folder: ReferFolder, tmp_path: Path) -> None:
    for row in range(3):
        picture_path(folder, row).unlink()
    with pytest.raises(ArtifactError, match="3 of 3 images") as caught:
        prepare(folder, tmp_path / "d.h5", skip_missing=True)
    assert "--images" in str(caught.value.hint)


def test_where_pictures_may_be(folder: ReferFolder, tmp_path: Path) -> None:
    for place in (
        "images/mscoco/images/train2014",
        "toy/images/train2014",
        "toy/images",
        "train2014",
        "elsewhere",
    ):
        target = folder.root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.pictures.rename(tmp_path / "moving")
        shutil.rmtree(target, ignore_errors=True)
        (tmp_path / "moving").rename(target)
        folder.pictures = target
        out = tmp_path / (place.replace("/", "_") + ".h5")
        if place == "elsewhere":
            with pytest.raises(ArtifactError, match="images"):
                prepare(folder, out)
        prepare(folder, out, images=str(target) if place == "elsewhere" else None)
        with open_artifact(out) as a:
            assert a.attrs["image_root"] == str(target.resolve())


def test_chosen_folder_of_pictures_must_exist(folder: ReferFolder, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no such folder: .*nowhere"):
        prepare(folder, tmp_path / "d.h5", images=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/passwd", "a/../../../b.jpg"])
def test_picture_names_stay_in_their_folder(folder: ReferFolder, tmp_path: Path, name: str) -> None:
    folder.images[0]["file_name"] = name
    folder.write()
    with pytest.raises(ArtifactError, match="leaves the image folder"):
        prepare(folder, tmp_path / "d.h5", skip_missing=True)


def test_nothing_is_written_for_invalid_data(folder: ReferFolder, tmp_path: Path) -> None:
    folder.annotation(106)["bbox"] = [20, 10, 60, 6]
    folder.write()
    with pytest.raises(ArtifactError, match="ref 7"):
        prepare(folder, tmp_path / "d.h5")
    assert list(tmp_path.glob("*.h5")) == []
    assert prepare(folder, tmp_path / "d.h5", skip_invalid=True)["notices"] == {
        "invalid referents left out": 1
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"source": "refer"}, "needs --root"),
        ({"source": "refshapes", "root": "x"}, "--root is for --source refer"),
        ({"source": "refshapes", "embed_images": False}, "not embedded need a folder"),
        ({"source": "refer", "root": "x", "keep_layout": "y"}, "--keep-layout is for"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(Config(**config), out=tmp_path / "d.h5")


def test_counts_stand_beside_the_published_ones(folder: ReferFolder, tmp_path: Path) -> None:
    folder.folder.rename(folder.root / "refcoco")
    summary = run(
        Config(source="refer", root=str(folder.root), name="refcoco"), out=tmp_path / "d.h5"
    ).summary
    assert summary["published"]["train"] == {
        "images": "2 of 16994",
        "referents": "4 of 42404",
        "sentences": "5 of 120624",
    }
    assert summary["published"]["total"]["sentences"] == "8 of 142210"
    assert summary["published"]["testB"]["referents"] == "0 of 1810"


@pytest.mark.parametrize(
    ("name", "by"),
    [
        (name, by)
        for name, authors in _COUNTS.items()
        for by in authors
        if (name, by) != ("refcocog", "google") and len(authors[by]) > 1
    ],
)
def test_published_splits_add_up(name: str, by: str) -> None:
    *splits, total = _COUNTS[name][by].values()
    assert {key: sum(split.get(key, 0) for split in splits) for key in total} == total


def test_refshapes_from_nothing(tmp_path: Path) -> None:
    """Generated, read by the REFER reader, embedded; the same seed gives the same digest."""
    config = Config(scale="tiny", seed=3)
    first = run(config, out=tmp_path / "a.h5")
    second = run(config, out=tmp_path / "b.h5")
    other = run(dataclasses.replace(config, seed=4), out=tmp_path / "c.h5")
    assert first.digest == second.digest != other.digest
    assert first.summary == second.summary
    assert verify_artifact(tmp_path / "a.h5") == []
    total = first.summary["splits"]["total"]
    assert total["with_mask"] == total["referents"] > 100
    assert first.summary["refshapes"]["ellipse_iou"] <= 0.60
    with open_artifact(tmp_path / "a.h5") as a:
        assert "image_root" not in a.attrs  # the folder that it was made in is gone
    data = ReferringDataset.open(tmp_path / "a.h5", masks="all")
    for referent in range(0, len(data.boxes_xyxy), 7):
        rows, columns = np.nonzero(data.mask(referent))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert data.boxes_xyxy[referent].tolist() == box


def test_kept_layout_reads_to_the_same_content(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    made = run(Config(scale="tiny", keep_layout=str(layout)), out=tmp_path / "a.h5")
    read = run(
        Config(source="refer", root=str(layout), name="refshapes", embed_images=True), out=tmp_path / "b.h5"
    )
    with open_artifact(tmp_path / "a.h5") as a, open_artifact(tmp_path / "b.h5") as b:
        for name in a.names("images") + a.names("referents") + a.names("sentences") + a.names("masks"):
            if a.entries[name].is_text:
                assert a.strings(name) == b.strings(name)
            else:
                assert (a[name] == b[name]).all()
    assert made.summary["splits"] == read.summary["splits"]


def test_header_sizes(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)
    for name in ("a.jpg", "b.png"):
        cv2.imwrite(str(tmp_path / name), picture)
    cv2.imwrite(str(tmp_path / "c.jpg"), picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    whole = (tmp_path / "a.jpg").read_bytes()
    exif = b"\xff\xe1" + (60_002).to_bytes(2) + b"\xff\xc0" * 30_000  # what looks like a frame header inside
    (tmp_path / "d.jpg").write_bytes(whole[:2] + b"\xff" + exif + whole[2:])
    for name in ("a.jpg", "b.png", "c.jpg", "d.jpg"):
        with open(tmp_path / name, "rb") as stream:
            assert header_size(stream) == (37, 53), name
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x00", b"GIF89a", whole[:30]):
        (tmp_path / "e").write_bytes(data)
        with open(tmp_path / "e", "rb") as stream:
            assert header_size(stream) is None


def test_missing_pictures_are_told_with_those_that_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "000000004711.jpg").touch()
    from stages.prepare_data import _with_nearest

    lines = _with_nearest(
        ["COCO_val2014_000000004711.jpg: no such file", "a.jpg: cannot be decoded", "b.jpg: no such file"],
        tmp_path,
    )
    assert lines == [
        "COCO_val2014_000000004711.jpg: no such file, there is 000000004711.jpg",
        "a.jpg: cannot be decoded",
        "b.jpg: no such file",
    ]
