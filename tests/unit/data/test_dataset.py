"""The view over a dataset: what it shows, what it cannot be made to show, and that workers can share it."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.data.dataset import ReferringDataset
from stages.data.exports.items import labels_of
from stages.errors import ArtifactError, HiddenMaskError, UsageError
from stages.prepare_data import Config, run
from stages.split_masks import Config as SplitConfig
from stages.split_masks import run as split_masks
from tests.oracles.refer_folder import ReferFolder
from tests.oracles.small_artifacts import write_dataset


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("data")
    run(Config(scale="tiny"), out=base / "d.h5")
    split_masks(SplitConfig(ratio=0.1), dataset=base / "d.h5", out=base / "s.h5")
    return base / "d.h5", base / "s.h5"


def test_tables_agree(files: tuple[Path, Path]) -> None:
    data = ReferringDataset.open(files[0])
    assert data.split_names == ["train", "val", "testA", "testB"]
    assert (np.diff(data.sentence_referent) >= 0).all()
    for referent in (0, 5, len(data.boxes_xyxy) - 1):
        start, stop = data.sentence_offsets[referent : referent + 2]
        assert (data.sentence_referent[start:stop] == referent).all()
        assert data.sentences_of(np.array([referent])).tolist() == list(range(start, stop))
    together = np.concatenate([data.referents_in(name) for name in data.split_names])
    assert sorted(together.tolist()) == list(range(len(data.boxes_xyxy)))
    for index in (0, len(data.image_ids) - 1):
        assert data.image(index).shape == (*data.image_sizes_hw[index], 3)


def test_unknown_split(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="unknown split 'tesA'") as caught:
        ReferringDataset.open(files[0]).referents_in("tesA")
    assert "'testA'" in str(caught.value.hint)


def test_what_each_kind_of_access_shows(files: tuple[Path, Path]) -> None:
    nothing = ReferringDataset.open(files[0], masks="none")
    some = ReferringDataset.open(files[0], split=files[1], masks="split")
    everything = ReferringDataset.open(files[0], masks="all")
    train = everything.referents_in("train")
    assert not nothing.mask_visible.any()
    assert everything.mask_visible.all()
    assert some.mask_visible[train].sum() == round(0.1 * len(train))
    assert some.mask_visible[len(train) :].all()  # other splits are not the split's to hide
    hidden = int(train[~some.mask_visible[train]][0])
    for view in (nothing, some):
        with pytest.raises(HiddenMaskError, match=str(int(view.ref_ids[hidden]))):
            view.mask(hidden)
        with pytest.raises(HiddenMaskError):
            view.mask_rle(hidden)
    assert everything.mask(hidden).any()


def test_bytes_of_hidden_masks_are_never_read(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Overwrite every hidden mask: whatever the view shows stays the same."""
    before = ReferringDataset.open(files[0], split=files[1], masks="split")
    copy = tmp_path / "d.h5"
    shutil.copy(files[0], copy)
    with h5py.File(copy, "r+") as file:
        values, offsets = file["masks/rle/values"], file["masks/rle/offsets"][:]
        for referent in np.flatnonzero(~before.mask_visible):
            values[offsets[referent] : offsets[referent + 1]] = 0
    after = ReferringDataset.open(copy, split=files[1], masks="split")
    shown = np.flatnonzero(before.mask_visible)
    assert len(shown) > 10
    for referent in shown.tolist():
        assert before.mask_rle(referent) == after.mask_rle(referent)
    assert before.texts == after.texts
    assert (before.image(0) == after.image(0)).all()


def test_split_of_another_dataset(files: tuple[Path, Path], tmp_path: Path) -> None:
    run(Config(scale="tiny", seed=1), out=tmp_path / "other.h5")
    with pytest.raises(ArtifactError, match=r"s\.h5 was not made from .*other\.h5"):
        ReferringDataset.open(tmp_path / "other.h5", split=files[1], masks="split")
    with pytest.raises(UsageError, match="needs a split artifact"):
        ReferringDataset.open(files[0], masks="split")
    with pytest.raises(ArtifactError, match="split"):
        ReferringDataset.open(files[1])


def test_referent_without_a_mask(tmp_path: Path) -> None:
    root = ReferFolder(tmp_path / "data").write()
    run(Config(source="refer", root=str(root), name="toy"), out=tmp_path / "d.h5")
    data = ReferringDataset.open(tmp_path / "d.h5", masks="all")
    with pytest.raises(HiddenMaskError, match="referent 4 has no mask"):
        data.mask(3)


def test_picture_damaged_after_it_was_checked(tmp_path: Path) -> None:
    folder = ReferFolder(tmp_path / "data")
    run(Config(source="refer", root=str(folder.write()), name="toy"), out=tmp_path / "d.h5")
    path = folder.pictures / folder.images[0]["file_name"]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ArtifactError, match=r"image COCO_train2014_000000000011\.jpg cannot be decoded"):
        ReferringDataset.open(tmp_path / "d.h5").image(0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (32, "mask bytes are not compressed run lengths"),
        (1, r"mask runs cover \d+ pixels, its image has \d+"),
    ],
    ids=["a number that does not end", "a run too long"],
)
def test_runs_that_do_not_fill_a_mask_are_damage(tmp_path: Path, change: int, told: str) -> None:
    """The C code of pycocotools would write beyond its memory."""
    path = write_dataset(tmp_path / "d.h5", ["train"])
    with h5py.File(path, "r+") as file:
        last = int(file["masks/rle/offsets"][1]) - 1
        file["masks/rle/values"][last] += change
    for read in (
        lambda: ReferringDataset.open(path, masks="all").mask_rle(0),
        lambda: labels_of(path, None, None, ["train"]),
    ):
        with pytest.raises(ArtifactError, match=r"d\.h5 is damaged") as caught:
            read()
        assert re.fullmatch(told, caught.value.facts[0])
        assert caught.value.hint == f"seqres verify {path}"


def test_survives_pickling(files: tuple[Path, Path]) -> None:
    data = ReferringDataset.open(files[0], split=files[1], masks="split")
    data.image(0)  # the file is open now
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.image(3) == data.image(3)).all()
    assert (copy.mask_visible == data.mask_visible).all()


class Sums:
    """A map-style dataset for the loader: a number that depends on picture and mask."""

    def __init__(self, data: ReferringDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return 24

    def __getitem__(self, referent: int) -> int:
        picture = self.data.image(int(self.data.referent_image[referent]))
        return int(picture[self.data.mask(referent)].astype(np.int64).sum())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12
def test_worker_processes_read_the_same(files: tuple[Path, Path]) -> None:
    from torch.utils.data import DataLoader

    data = ReferringDataset.open(files[0], masks="all")
    data.image(0)  # opened before the workers start: they must not share the handle
    sums = Sums(data)
    alone = [sums[i] for i in range(len(sums))]
    loader = DataLoader(sums, batch_size=4, num_workers=1, multiprocessing_context="fork")  # type: ignore[arg-type]
    assert [int(v) for batch in loader for v in batch] == alone
