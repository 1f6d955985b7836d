"""A pipe would be waited for and a device never ends: no reader of a file that somebody names opens one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages import split_masks
from stages.artifacts import open_artifact
from stages.artifacts.digest import file_sha256
from stages.configs import read_layers
from stages.data.images import Unreadable, look_at
from stages.data.readers.json_lists import load_json_lists
from stages.data.readers.mask_files import read_mask_picture
from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.records import Invalid, load_json, open_text
from stages.data.readers.table_file import open_table
from stages.errors import ArtifactError, SeqresError
from stages.file_kinds import what_file_is
from stages.weights.darknet import read_floats
from stages.weights.released_files import read_checkpoint, read_vocabulary, read_word_vectors
from tests.oracles.small_artifacts import write_dataset

READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "artifact": (open_artifact, "a.h5"),
    "checkpoint": (read_checkpoint, "a.pth"),
    "darknet": (read_floats, "a.weights"),
    "fingerprint": (file_sha256, "a.x"),
    "json": (load_json, "a.json"),
    "lists": (load_json_lists, "a.json"),
    "mask": (lambda path: read_mask_picture(path, "a.png", (2, 2)), "a.png"),
    "picture": (look_at, "a.png"),
    "pickle": (load_plain_pickle, "a.p"),
    "recipe": (lambda path: read_layers(str(path), "train-rec", ["train-rec"]), "a.toml"),
    "table": (open_table, "a.csv"),
    "text": (open_text, "a.txt"),
    "vectors": (read_word_vectors, "a.npz"),
    "words": (read_vocabulary, "a.json"),
}


@pytest.fixture(autouse=True)
def _not_for_ever() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "device"])
def endless(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / name
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        return path

    return make


@pytest.mark.parametrize("reader", READERS)
def test_what_never_ends_is_refused(endless: Callable[[str], Path], reader: str) -> None:
    read, name = READERS[reader]
    with pytest.raises((SeqresError, Invalid, Unreadable), match="no regular file"):
        read(endless(name))


def test_nothing_is_said_about_its_kind(endless: Callable[[str], Path]) -> None:
    assert what_file_is(endless("a.png")) is None


def test_a_list_of_referents_is_refused_before_it_is_counted(
    endless: Callable[[str], Path], tmp_path: Path
) -> None:
    data = write_dataset(tmp_path / "d.h5", ["train"] * 3)
    config = split_masks.Config(import_list=str(endless("list.txt")))
    with pytest.raises(ArtifactError, match="no regular file"):
        split_masks.run(config, dataset=data, out=tmp_path / "s.h5")
