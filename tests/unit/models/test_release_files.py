"""Foreign files: what is read, and that what could run code is refused by name without being run."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.errors import ArtifactError
from stages.weights.released_files import read_checkpoint, read_vocabulary, read_word_vectors

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(2), "n": torch.tensor(3)}
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Bomb:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def save(content: Any, path: Path, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@FORMATS
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_with_everything_that_the_release_saves(
    tmp_path: Path, prefix: str, zipped: bool
) -> None:
    state = collections.OrderedDict((prefix + k, v) for k, v in STATE.items())
    average = {prefix + k: v + 1 for k, v in STATE.items()}
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    content = {
        "state_dict": state, "ema_state_dict": average, "optimizer": optimiser, "epoch": 7, "lr": 5e-4,
        "miou": np.float64(58.25), "best_d_acc": torch.tensor(83.5), "scheduler": {"milestones": collections.Counter([75])},
    }  # fmt: skip
    found = read_checkpoint(save(content, tmp_path / "a.pth", zipped))
    assert list(found.state) == list(STATE)
    assert all(torch.equal(found.state[k], STATE[k]) for k in STATE)
    assert found.average is not None
    assert torch.equal(found.average["a.weight"], STATE["a.weight"] + 1)
    assert found.facts == {"epoch": 7.0, "lr": 5e-4, "miou": 58.25, "best_d_acc": 83.5}
    assert found.ignored == ["optimizer", "scheduler"]


def test_a_bare_state_dict_and_half_precision(tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()}
    found = read_checkpoint(save(half, tmp_path / "a.pth"))
    assert found.average is None
    assert {v.dtype for v in found.state.values()} == {torch.float32, torch.int64}


@FORMATS
def test_code_in_a_checkpoint_is_refused_by_name_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path = save({"state_dict": STATE, "meta": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pth", zipped)
    with pytest.raises(ArtifactError, match="not plain tensors") as caught:
        read_checkpoint(path)
    assert any("system" in fact for fact in caught.value.facts)
    assert caught.value.hint is not None
    assert not (tmp_path / "ran").exists()


@FORMATS
def test_harmless_foreign_objects_are_named_too(tmp_path: Path, zipped: bool) -> None:
    path = save({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth", zipped)
    with pytest.raises(ArtifactError, match="not plain tensors") as caught:
        read_checkpoint(path)
    assert "refused: argparse.Namespace" in caught.value.facts


@FORMATS
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_checkpoint_is_an_error_about_the_file(
    tmp_path: Path, share: float, zipped: bool
) -> None:
    path = save({"state_dict": {"a": torch.randn(200, 50)}}, tmp_path / "cut.pth", zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ArtifactError, match=r"cut\.pth"):
        read_checkpoint(path)


@pytest.mark.parametrize("data", [b"", b"no checkpoint at all", b"\x80\x04.", b"PK\x03\x04" + b"0" * 40])
def test_other_files_are_no_checkpoints(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"x\.pth"):
        read_checkpoint(path)
    with pytest.raises(ArtifactError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds a list"),
        ({"state_dict": {"a": 3}}, "no state dict"),
        ({}, "no state dict"),
        (
            {"state_dict": {"layer.weight": torch.tensor([1.0, float("nan")])}},
            r"layer\.weight holds numbers that are not finite",
        ),
    ],
)
def test_contents_that_are_no_weights(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        read_checkpoint(save(content, tmp_path / "a.pth"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_word_list_in_any_protocol(tmp_path: Path, protocol: int) -> None:
    table = {"PAD": 0, "CLS": 2, "UNK": 1, "café": 3}
    path = tmp_path / "token_to_ix.pkl"
    path.write_bytes(pickle.dumps(table, protocol))
    assert read_vocabulary(path) == ["PAD", "UNK", "CLS", "café"]
    path = tmp_path / "words.json"
    path.write_text(json.dumps(table))
    assert read_vocabulary(path) == ["PAD", "UNK", "CLS", "café"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_word_list_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "token_to_ix.pkl"
    path.write_bytes(pickle.dumps({"PAD": 0, "x": Bomb(tmp_path / "ran")}, protocol))
    with pytest.raises(ArtifactError, match="plain words") as caught:
        read_vocabulary(path)
    assert any("system" in fact for fact in caught.value.facts)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(pickle.dumps(collections.OrderedDict(PAD=0), protocol))
    with pytest.raises(ArtifactError, match="plain words") as caught:
        read_vocabulary(path)
    assert "refused: collections.OrderedDict" in caught.value.facts


@pytest.mark.parametrize("content", [b"junk", pickle.dumps({"a": 0})[:-3], pickle.dumps(["a"]), pickle.dumps({"a": 1}),
                                     pickle.dumps({"a": 0, "b": 0}), pickle.dumps({1: 0}), pickle.dumps({"a": True}), pickle.dumps({})])  # fmt: skip
def test_other_files_are_no_word_lists(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token_to_ix.pkl"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="is no word list"):
        read_vocabulary(path)


def test_word_vectors(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((4, 3))
    np.savez_compressed(tmp_path / "word_emb.npz", word_emb=table)
    found = read_word_vectors(tmp_path / "word_emb.npz")
    assert found.dtype == np.float32
    assert np.array_equal(found, table.astype(np.float32))
    np.savez(tmp_path / "objects.npz", word_emb=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ArtifactError, match=r"objects\.npz") as caught:
        read_word_vectors(tmp_path / "objects.npz")
    assert caught.value.facts == ("refused: an array of Python objects",)
    np.savez(tmp_path / "flat.npz", word_emb=np.ones(5))
    with pytest.raises(ArtifactError, match="no table") as caught:
        read_word_vectors(tmp_path / "flat.npz")
    assert "(5,)" in caught.value.facts[0]
    (tmp_path / "cut.npz").write_bytes((tmp_path / "word_emb.npz").read_bytes()[:60])
    with pytest.raises(ArtifactError, match=r"cut\.npz"):
        read_word_vectors(tmp_path / "cut.npz")
    with pytest.raises(ArtifactError, match=r"absent\.npz"):
        read_word_vectors(tmp_path / "absent.npz")
