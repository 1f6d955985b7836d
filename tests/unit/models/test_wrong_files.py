"""Files given as weights that are something else, names with wrappers' prefixes, and a hub that cannot be reached."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import hub
from stages.artifacts import open_artifact
from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.records import load_json
from stages.errors import ArtifactError
from stages.weights.darknet import read_floats
from stages.weights.released_files import read_checkpoint, read_vocabulary, read_word_vectors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n"
PAGE = b"\n<HTML><body>please log in</body></html>"
WEIGHTS = {"vis_enc.a": torch.ones(2), "head.b": torch.ones(3)}


@pytest.mark.parametrize(
    "read",
    [
        read_checkpoint,
        read_floats,
        read_vocabulary,
        read_word_vectors,
        open_artifact,
        load_json,
        load_plain_pickle,
    ],
)
@pytest.mark.parametrize(("content", "words"), [(POINTER, "Git LFS pointer"), (PAGE, "web page")])
def test_pointers_and_pages_are_said_as_what_they_are(
    tmp_path: Path, read: Any, content: bytes, words: str
) -> None:
    path = tmp_path / "given.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=words):
        read(path)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "model._orig_mod."]
)
def test_prefixes_of_wrappers_are_left_out(tmp_path: Path, prefix: str) -> None:
    torch.save({"state_dict": {prefix + k: v for k, v in WEIGHTS.items()}}, tmp_path / "w.pth")
    stored = read_checkpoint(tmp_path / "w.pth")
    assert stored.state.keys() == WEIGHTS.keys()
    assert stored.stripped == prefix


def test_a_few_tensors_beside_the_model_are_left_out(tmp_path: Path) -> None:
    """Those of a metric or a loss in a Lightning module."""
    inside = {f"model.layer.{k}": torch.ones(1) for k in range(30)}
    torch.save(
        {"state_dict": {**inside, "metric.total": torch.ones(1), "loss.weight": torch.ones(2)}},
        tmp_path / "w.ckpt",
    )
    stored = read_checkpoint(tmp_path / "w.ckpt")
    assert (stored.stripped, stored.beside) == ("model.", ["loss.weight", "metric.total"])
    assert stored.state.keys() == {f"layer.{k}" for k in range(30)}
    torch.save({**inside, **{f"head.{k}": torch.ones(1) for k in range(20)}}, tmp_path / "w.ckpt")
    stored = read_checkpoint(tmp_path / "w.ckpt")  # two parts of one model
    assert stored.stripped == "" and len(stored.state) == 50


def test_a_compiled_part_and_an_average_are_named_as_the_plain_ones(tmp_path: Path) -> None:
    torch.save({"n_averaged": torch.tensor(3), "module.a._orig_mod.b": torch.ones(2)}, tmp_path / "w.pth")
    assert list(read_checkpoint(tmp_path / "w.pth").state) == ["a.b"]


def test_other_checkpoints_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"optimizer": {"state": {}}, "epoch": 3}, path)
    with pytest.raises(ArtifactError, match="state of an optimiser, but no weights"):
        read_checkpoint(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ArtifactError, match="a whole pickled module"):
        read_checkpoint(path)
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="is cut off"):
        read_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(ArtifactError, match="is an empty file"):
        read_checkpoint(path)
    with pytest.raises(ArtifactError, match="no such file") as caught:
        read_checkpoint(tmp_path / "W.PTH")
    assert caught.value.hint == f"did you mean {path}?"


def test_a_hub_out_of_reach_is_told_and_a_copy_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    monkeypatch.setattr(hub, "_copy_of", {"owner/known": "/copies/known"}.get)
    assert hub.reachable_source("owner/known") == "/copies/known"
    with pytest.raises(ArtifactError, match="no pretrained model at 'owner/unknown'") as caught:
        hub.reachable_source("owner/unknown")
    assert "the hub cannot be reached" in str(caught.value)


@pytest.mark.parametrize(
    "source", ["./bert", "/weights/bert", "a/b/c", "weights/trunk.weights", "~/bert", "a b"]
)
def test_a_path_is_never_looked_up_on_the_hub(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: pytest.fail("asked the hub"))
    with pytest.raises(ArtifactError, match="there is no such folder"):
        hub.reachable_source(source)


def test_a_file_is_no_pretrained_model(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(POINTER)
    with pytest.raises(ArtifactError, match="is a file, a pretrained model is a folder"):
        hub.reachable_source(str(tmp_path / "model"))


NESTED = b")" + b"\x85" * 100_000
HOSTILE_PICKLES = {
    "bytes made of a number": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "a set of nested tuples": b"\x80\x02cbuiltins\nset\n](" + NESTED + b"e\x85R.",
    "a key of nested tuples": b"\x80\x02}" + NESTED + b"K\x01s.",
    "no opcodes": b"\x80\x02tt.",
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", HOSTILE_PICKLES)
def test_a_checkpoint_takes_no_more_memory_than_it_has_bytes(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / "a.pth"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", HOSTILE_PICKLES[name])
            archive.writestr("a/version", b"3\n")
    else:
        path.write_bytes(HOSTILE_PICKLES[name])
    words = "refused: builtins.bytearray" if "made of" in name else "nested more than|no pickle"
    with pytest.raises(ArtifactError, match=words):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02}" + NESTED + b"K\x01s.", "nested more than 200 deep"),
        (b"\x80\x04\x8f(" + NESTED + b"\x90.", "nested more than 200 deep"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "place 2147483647 of its memory"),
        (b"\x80\x02]p2000000000\n.", "place 2000000000 of its memory"),
    ],
    ids=["key", "set", "place", "place in words"],
)
def test_a_word_list_takes_no_more_stack_and_memory_than_it_has_bytes(
    tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / "token_to_ix.pkl").write_bytes(data)
    with pytest.raises(ArtifactError, match=words):
        read_vocabulary(tmp_path / "token_to_ix.pkl")


def test_a_hostile_state_of_a_numpy_type_does_not_reach_numpy(tmp_path: Path) -> None:
    """`numpy.dtype.__setstate__` ends the process on six values: found by fuzzing."""
    torch.save(
        {"state_dict": WEIGHTS, "best": np.float64(0.5)},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=False,
    )
    data = (tmp_path / "a.pth").read_bytes()
    state = b"NNNJ\xff\xff\xff\xff"
    assert data.count(state) == 1
    (tmp_path / "b.pth").write_bytes(data.replace(state, state[2:]))
    assert (
        read_checkpoint(tmp_path / "b.pth").facts
        == read_checkpoint(tmp_path / "a.pth").facts
        == {"best": 0.5}
    )


def test_an_archive_on_several_disks_is_no_checkpoint(tmp_path: Path) -> None:
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 1, 0, 2)
    (tmp_path / "a.pth").write_bytes(b"PK\3\4" + bytes(100) + locator + end)
    with pytest.raises(ArtifactError, match="multiple disks"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_checkpoint_with_packed_entries_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pth")
    packed = zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "a.pth") as stored, packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(ArtifactError, match="is packed"):
        read_checkpoint(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1, dtype=torch.float16).expand(10**6, 10**6),
        torch.sparse_coo_tensor(size=(10**6, 10**6), check_invariants=True),
        torch.zeros(10**6, 10**6, device="meta"),
    ],
    ids=["a view", "sparse", "meta"],
)
def test_tensors_claim_no_size_that_the_file_does_not_hold(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"a.weight": tensor, "b": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(ArtifactError, match=r"holds no numbers for a\.weight"):
        read_checkpoint(tmp_path / "a.pth")


def test_nested_values_and_shared_weights_of_a_real_checkpoint_are_no_bombs(tmp_path: Path) -> None:
    shared = torch.ones(3)
    content = {
        "state_dict": {"a": shared, "b": shared},
        "args": {"sizes": (1, (2, (3,))), "names": {"a", "b"}},
        "epoch": 3,
    }
    for zipped in (True, False):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        read = read_checkpoint(tmp_path / "a.pth")
        assert sorted(read.state) == ["a", "b"] and read.facts == {"epoch": 3.0}


def test_word_vectors_that_are_no_array_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "word_emb.npz", "w") as made:
        made.writestr("word_emb.npy", b"not an array")
    with pytest.raises(ArtifactError, match="no table of word vectors") as caught:
        read_word_vectors(tmp_path / "word_emb.npz")
    assert "a file that is no array" in caught.value.facts[0]
