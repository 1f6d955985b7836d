"""A list read in pieces is the list that is read step by step; what is not written as usual is left to that."""

import io
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from stages.data.readers import pickle_pieces, plain_pickle
from stages.data.readers.entry_file import EntryFile
from stages.data.readers.pickle_pieces import pieces_of
from stages.data.readers.plain_pickle import load_plain_pickle
from stages.errors import ArtifactError

KEY, LATE = {"deep": [1, {2: "b"}]}, {"late": [[]]}  # which is beyond the places that stand in one byte


def referents(n: int) -> list[Any]:
    return [
        {"id": i, "text": f"ä {i}", "tokens": [str(i)], "key": LATE if i % 900 > 700 else KEY, "box": [1.5, -i, None, True, 2**40 + i]} for i in range(n)
    ]  # fmt: skip


LISTS: dict[str, list[Any]] = {
    "empty": [],
    "one number": [1],
    "one list": [[1, 2]],
    "lists of lists": [[[]], [[1], [2, 3]], {}],
    "one in the last group": referents(1001),
    "several groups": referents(2500),
    "a text longer than a block": ["a" * 70_000, "b"],
}


@pytest.fixture(autouse=True)
def short_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_pieces, "_SHORTEST_PIECE", 0)


def cut(data: bytes) -> pickle_pieces.Pieces | None:
    return pieces_of(io.BytesIO(data), len(data))


def step_by_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as without:
        without.setattr(plain_pickle, "pieces_of", lambda stream, size: None)
        return load_plain_pickle(path)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("block", [9, 64, 1 << 18])
def test_pieces_make_the_same_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int
) -> None:
    monkeypatch.setattr(pickle_pieces, "_BLOCK", block)
    (path := tmp_path / "a.p").write_bytes(data := pickle.dumps(LISTS[name], 2))
    assert (pieces := cut(data)) is not None
    assert len(pieces.groups) == {"several groups": 4, "one in the last group": 3}.get(
        name, 1 if len(LISTS[name]) < 2 else 2
    )
    assert list(load_plain_pickle(path)) == LISTS[name] == list(step_by_step(path, monkeypatch))


def test_parts_that_groups_share_are_the_same_wherever_they_stand() -> None:
    pieces = cut(data := pickle.dumps(referents(2500), 2))
    assert pieces is not None and pieces.shared.min() < 256 < pieces.shared.max()
    entries = [entry for group in pieces.read(io.BytesIO(data), "utf-8") for entry in group]
    assert entries[0]["key"] is entries[2400]["key"] and entries[701]["key"] is entries[2550 - 900]["key"]


def test_byte_strings_and_places_of_python_2(tmp_path: Path) -> None:
    data = b"\x80\x02]q\x01(}q\x02U\x02idq\x03U\x02\xc3\xa4q\x04se}q\x05h\x03K\x02sa."
    assert (pieces := cut(data)) is not None and pieces.shared.tolist() == [3]
    (path := tmp_path / "a.p").write_bytes(data)
    assert list(load_plain_pickle(path)) == [{"id": "ä"}, {"id": 2}]
    path.write_bytes(data.replace(b"\xc3\xa4", b"\xe4b"))
    assert list(load_plain_pickle(path)) == [{"id": "äb"}, {"id": 2}]


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(referents(3), 0),
        pickle.dumps(referents(3), 4),
        pickle.dumps([(1, 2)], 2),
        pickle.dumps({"a": [1]}, 2),
        pickle.dumps("a", 2),
        pickle.dumps([1, {2}], 2),
        b"\x80\x02]r\xff\xff\xff\x7fK\x01a.",  # a place that would take 32 GB
        b"\x80\x02]q\x00K\x01q\x00a.",  # a place filled twice
        b"\x80\x02]q\x00(]q\x01h\x00aK\x01e.",  # the list in itself
        b"\x80\x02]q\x00]q\x01(K\x01e.",  # something beside it
        b"\x80\x02]q\x00X\xff\xff\xff\x7fa.",
        b"\x80\x02]q\x00(",
        b"",
    ],
)
def test_what_is_written_otherwise_is_read_step_by_step(data: bytes) -> None:
    assert cut(data) is None


def test_a_long_group_is_read_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(referents(1500), 2)
    monkeypatch.setattr(pickle_pieces, "_BLOCK", 100)
    assert cut(data) is not None
    for limit, value in (("_LARGEST_PIECE", len(data) // 2), ("_MOST_SHARED", 2)):
        with monkeypatch.context() as small:
            small.setattr(pickle_pieces, limit, value)
            assert cut(data) is None


def test_groups_without_entries_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pieces = cut(b"\x80\x02]q\x00" + b"(K\x01e" * 10_000 + b".")
    assert pieces is not None and len(pieces.groups) == 1


def test_a_file_that_changes_meanwhile_runs_nothing() -> None:
    pieces = cut(pickle.dumps([list(range(20))], 2))
    assert pieces is not None
    changed = b"\x80\x02]q\x00cos\nsystem\nX\x02\x00\x00\x00ls\x85R" + bytes(40)
    with pytest.raises(pickle.UnpicklingError, match="changed while"):
        list(pieces.read(io.BytesIO(changed), "utf-8"))


def test_damaged_lists_end_as_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pickle.dumps([*referents(6), [[1, "b"], []], KEY], 2).replace(
        b"X\x02\x00\x00\x00idq", b"U\x02idq"
    )
    path, rng, in_pieces = tmp_path / "a.p", random.Random(0), 0

    def outcome(load: Any) -> str:
        try:
            return repr(list(found) if isinstance(found := load(), EntryFile) else found)
        except ArtifactError:
            return "refused"

    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 2)):
            data[rng.randrange(len(data))] = rng.choice([rng.randrange(256), *b"]}(aesuKq.h"])
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        in_pieces += cut(path.read_bytes()) is not None
        found = outcome(lambda: load_plain_pickle(path))
        assert found == outcome(lambda: step_by_step(path, monkeypatch)), bytes(data)
    assert in_pieces > 40
