"""prepare-data --textures: the same scenes, masks and sentences, wearing parts of photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from stages import prepare_data
from stages.artifacts import open_artifact
from stages.data.dataset import ReferringDataset
from stages.data.refshapes.folder import generate_scene, write_refer_layout
from stages.data.refshapes.textures import MOST_PICTURES, dress, load_textures, texture_files
from stages.errors import ArtifactError, StaleOutputError, UsageError


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three pictures of noise, each around its own colour."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, colour in (("a.jpg", (250, 20, 20)), ("b.JPEG", (20, 250, 20)), ("more/c.png", (20, 20, 250))):
        noise = np.clip(np.array(colour) + rng.normal(0, 10, (300, 420, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), noise)
    (folder / "notes.txt").write_text("no picture")
    return folder


def prepare(out: Path, textures: Path | None) -> prepare_data.StageResult:
    config = prepare_data.Config(scale="tiny", textures=textures and str(textures))
    return prepare_data.run(config, out=out)


def test_only_the_pictures_change(photographs: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "painted.h5", None)
    prepare(tmp_path / "dressed.h5", photographs)
    with open_artifact(tmp_path / "painted.h5") as a, open_artifact(tmp_path / "dressed.h5") as b:
        for name in a.names():
            if name.split("/")[0] in ("images", "provenance"):
                continue
            if a.dataset(name).dtype.kind in "iufb":
                assert np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f"), name
    painted, dressed = (ReferringDataset.open(tmp_path / f"{n}.h5") for n in ("painted", "dressed"))
    assert np.abs(painted.image(0).astype(int) - dressed.image(0)).mean() > 20


def test_ground_and_shapes_wear_pictures(photographs: Path) -> None:
    """Each of the pictures is of one colour: the ground has that of one, shapes lose some of their paint."""
    textures = load_textures(texture_files(photographs))
    assert sorted(t.shape for t in textures) == [(229, 320, 3)] * 3
    told = 0
    for seed in range(12):
        scene = generate_scene(np.random.default_rng([11, seed]))
        picture = dress(scene, textures, np.random.default_rng(seed)).astype(int)
        ground = ~np.any([item.full_mask for item in scene.objects], axis=0)
        ground &= cv2.erode(ground.view(np.uint8), np.ones((7, 7))).view(bool)
        assert picture[ground].std(0).max() < 25, "the ground is one picture"
        for item in scene.objects:
            inside = cv2.erode(item.mask.view(np.uint8), np.ones((3, 3))).view(bool)
            assert np.abs(picture - scene.image)[inside].mean() > 10
        told += int(picture[ground].mean(0).max() > 180)
        again = dress(scene, textures, np.random.default_rng(seed))
        assert np.array_equal(picture, again)
    assert told == 12, "each ground is one of the colours"


def test_several_processes_write_the_same_bytes(photographs: Path, tmp_path: Path) -> None:
    files = texture_files(photographs)
    written = []
    for workers in (1, 2):
        root = tmp_path / str(workers)
        write_refer_layout(root, "tiny", 0, workers=workers, counts={"train": 4}, textures=files)
        written.append([p.read_bytes() for p in sorted((root / "images").rglob("*.jpg"))])
    assert len(written[0]) == 4 and written[0] == written[1]


def test_other_pictures_make_another_data_set(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.h5"
    prepare(out, photographs)
    assert prepare(out, photographs).status == "up-to-date"
    moved = photographs.rename(tmp_path / "moved")
    assert prepare(out, moved).status == "up-to-date", "what is in them counts, not where they lie"
    (moved / "a.jpg").unlink()
    with pytest.raises(StaleOutputError, match="textures"):
        prepare(out, moved)


def test_a_large_folder_is_sampled_evenly(tmp_path: Path) -> None:
    for i in range(MOST_PICTURES * 2 + 1):
        (tmp_path / f"{i:04d}.jpg").touch()
    names = [int(p.stem) for p in texture_files(tmp_path)]
    assert len(names) == MOST_PICTURES and max(np.diff(names)) <= 3
    assert names[0] == 0 and names[-1] == 2 * MOST_PICTURES


def test_what_cannot_be_worn(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in (
        (tmp_path / "none", "is no folder"),
        (tmp_path / "empty", "no JPEG or PNG picture in"),
    ):
        with pytest.raises(UsageError, match=message):
            prepare(tmp_path / "d.h5", folder)
    with pytest.raises(UsageError, match="--textures is for --source refshapes"):
        prepare_data.run(
            prepare_data.Config(source="refer", root="x", textures=str(photographs)), out=tmp_path / "d.h5"
        )
    broken = photographs / "more" / "c.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ArtifactError, match=r"c\.png cannot be decoded"):
        prepare(tmp_path / "d.h5", photographs)
    broken.write_bytes(b"GIF89a")
    with pytest.raises(ArtifactError, match=r"c\.png is no picture"):
        prepare(tmp_path / "d.h5", photographs)
    assert not (tmp_path / "d.h5").exists()
