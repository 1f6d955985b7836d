"""Annotation files of any length: read entry by entry, with the same result as read as a whole, in bounded memory."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.artifacts import spool
from stages.artifacts.packed import Packing
from stages.data.readers import json_lists, plain_pickle
from stages.data.readers.entry_file import EntryFile
from stages.data.readers.json_lists import load_json_lists
from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.records import load_json
from stages.errors import ArtifactError, SeqresError

ROOT = Path(__file__).resolve().parents[3]
PLAIN = [{"id": 7, "text": "café \ud83d", "box": [1, 2.5, -3e-2]}, None, [], "a", (1, b"x"), {1}, True]


def test_entries_come_back_from_the_disk_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_IN_MEMORY", 10)
    entries = EntryFile()
    entries.extend(PLAIN)
    assert (list(entries), entries[-1], entries[1:3], len(entries)) == (PLAIN, True, PLAIN[1:3], len(PLAIN))
    entries.append("later")  # after reading
    assert entries[len(PLAIN)] == "later"
    with pytest.raises(IndexError):
        entries[99]


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, place: int) -> int:
            return place

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    entries = EntryFile()
    monkeypatch.setattr(entries._spool, "_file", Full())
    with pytest.raises(SeqresError, match="no space left") as caught:
        entries.append([1])
    assert "TMPDIR" in str(caught.value.hint)


def unfolded(value: Any) -> Any:
    if isinstance(value, EntryFile):
        return list(value)
    return {k: unfolded(v) for k, v in value.items()} if isinstance(value, dict) else value


DOCUMENT = {
    "info": {"a": [1, 2]},
    "images": [{"id": 1, "name": 'ä\\"]}, [\n', "size": [480, 640.25]}, {"id": 10**30}],
    "numbers": [0, -1.5, 12345, 1e-7, True, None, "[", []],
    "empty": [],
    "last": 3,
}


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("content", [DOCUMENT, DOCUMENT["numbers"], [], {}, 12.5, "text"])
@pytest.mark.parametrize("how", [{}, {"indent": 1}, {"separators": (",", ":"), "ensure_ascii": False}])
def test_json_in_pieces_is_the_same_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, content: Any, how: dict[str, Any]
) -> None:
    monkeypatch.setattr(json_lists, "_PIECE", piece)
    monkeypatch.setattr(json_lists, "load_json", None)  # it must not be needed
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, **how) + "\n", "utf-16" if piece == 3 else "utf-8-sig")
    assert unfolded(load_json_lists(path)) == content


@pytest.mark.parametrize(
    "text",
    ["", "[1,]", "[1 2]", '{"a": [1], "a": [2]}', '{"a": [{"b": 1, "b": 2}]}', '{"a" [1]}', "[1] 2", "[1.]", "[1", "{1: 2}"],
)  # fmt: skip
def test_what_is_no_json_gets_the_message_of_the_whole_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    facts = []
    for load in (load_json, load_json_lists):
        with pytest.raises(ArtifactError, match=r"no valid JSON|is an empty") as caught:
            load(path)
        facts.append(caught.value.facts)
    assert facts[0] == facts[1]


def test_a_repeated_list_that_is_the_same_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [NaN, 1], "b": [2], "b": [2]}')
    assert load_json_lists(tmp_path / "a.json")["b"] == [2]


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_entry_by_entry(tmp_path: Path, protocol: int) -> None:
    shared, word = {"deep": [1, {2: "b"}]}, "a word"
    content = [{"i": i, "same": shared, "word": word, "twice": [word, word, str(i)]} for i in range(2500)]
    path = tmp_path / "a.p"
    path.write_bytes(pickle.dumps(content, protocol))
    loaded = load_plain_pickle(path)
    assert isinstance(loaded, EntryFile)
    assert list(loaded) == content


def test_a_pickle_cannot_change_what_reads_it(tmp_path: Path) -> None:
    state = b"\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01s\x86b."
    for data in (state, state.replace(b"\x86b.", b"b.")):
        (tmp_path / "a.p").write_bytes(data)
        with pytest.raises(ArtifactError, match="no pickle that can be read"):
            load_plain_pickle(tmp_path / "a.p")


def test_a_length_beyond_the_file_is_never_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.p").write_bytes(b"\x80\x04\x8d" + (1 << 60).to_bytes(8, "little") + b"abc.")
    with pytest.raises(ArtifactError, match="no pickle that can be read") as caught:
        load_plain_pickle(tmp_path / "a.p")
    assert "in a file of 15" in caught.value.facts[0]


def test_packed_strings_are_a_list_in_any_order() -> None:
    packing = Packing(str)
    texts = ["", "ä mug", "b", "日本"]
    for text in texts:
        packing.append(text)
    packed = packing.packed()
    assert packed == texts and packed[1:] == texts[1:] and packed[-1] == "日本"
    assert packed.take(np.array([3, 3, 0])) == ["日本", "日本", ""]
    assert packed.take(np.array([False, True, False, True])).lengths.tolist() == [6, 6]


MEASURE = """
import sys
from pathlib import Path
from stages import prepare_data
root = Path(sys.argv[1])
prepare_data.run(prepare_data.Config(source="refer", root=str(root)), out=root / "a.h5")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def refer_folder(root: Path, referents: int) -> Path:
    """One picture of 50 names; every referent has a polygon of 30 points and three sentences."""
    (root / "images").mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "0.png"), np.zeros((64, 64, 3), np.uint8))
    for k in range(1, 50):
        (root / "images" / f"{k}.png").hardlink_to(root / "images" / "0.png")
    t = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    ring = (np.stack([np.cos(t), np.sin(t)], 1) * 20 + 30.123).reshape(-1).tolist()
    box = [10.1, 10.1, 40.0, 40.0]
    annotations = [
        {"id": k, "image_id": k % 50, "category_id": 1, "bbox": box, "segmentation": [ring], "iscrowd": 0}
        for k in range(referents)
    ]
    images = [{"id": k, "file_name": f"{k}.png", "height": 64, "width": 64} for k in range(50)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "mug"}]}
    (root / "instances.json").write_text(json.dumps(content))
    refs = []
    for k in range(referents):
        said = [f"the mug number {k} {s}" for s in ("left", "right", "middle")]
        sentences = [
            {"sent_id": 3 * k + n, "sent": s, "raw": s + " ", "tokens": s.split()} for n, s in enumerate(said)
        ]
        refs.append({"ref_id": k, "ann_id": k, "image_id": k % 50, "split": "train", "sentences": sentences})
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    return root


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_of_prepare_data_hardly_grows_with_the_referents(tmp_path: Path) -> None:
    """As Python objects a referent takes 6 kB here (refs, annotations, records), as columns 1 kB."""
    peaks = []
    for n in (300, 3000):
        command = [sys.executable, "-c", MEASURE, str(refer_folder(tmp_path / str(n), n))]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout))
    assert (peaks[1] - peaks[0]) / 2700 < 3  # kB


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("block", [16, 100, 1 << 18])
def test_what_a_pickle_asks_for_again_is_found_in_blocks_of_any_size(
    protocol: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_pickle, "_BLOCK", block)
    shared = [f"word {i} " * (i % 40) for i in range(300)]
    value = [{"key": shared[i], "again": shared[-i], "n": i**9, "s": {i}, "b": b"\n" * i} for i in range(300)]
    data = pickle.dumps(value, protocol)
    asked = Counter(
        argument
        for code, argument, _ in pickletools.genops(data)
        if code.name in ("GET", "BINGET", "LONG_BINGET")
    )
    assert len(asked) > 290
    assert plain_pickle._fetches(io.BytesIO(data), len(data)) == asked
    assert plain_pickle._fetches(io.BytesIO(data[: len(data) // 2]), len(data)) <= asked, (
        "cut off: no endless loop"
    )
