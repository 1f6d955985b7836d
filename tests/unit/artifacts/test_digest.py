"""The digest sees the content and nothing but the content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import ArtifactWriter, open_artifact
from stages.artifacts.digest import combine, file_sha256

Write = Callable[..., Path]
ROWS = np.arange(60_000, dtype=np.float32).reshape(-1, 3)


def digest_of(path: Path) -> str:
    with open_artifact(path) as artifact:
        return artifact.digest


@pytest.fixture
def reference(write_sample: Write) -> str:
    return digest_of(write_sample("split", "reference.h5", more=lambda w: w.column("x", ROWS)))


def test_it_ignores_storage_provenance_and_notes(write_sample: Write, reference: str) -> None:
    def stored_otherwise(writer: ArtifactWriter) -> None:
        writer.note_attr("image_root", "/elsewhere")
        writer.note_json("epoch_seconds", [3.5])
        writer.column("x", np.asfortranarray(ROWS.astype(">f4")), compress=False)

    path = write_sample("split", fingerprint="other", provenance={"seconds": 3}, more=stored_otherwise)
    assert digest_of(path) == reference


def _changed(value: float) -> np.ndarray:
    array = ROWS.copy()
    array[-1, -1] += value
    return array


@pytest.mark.parametrize(
    "more",
    [
        lambda w: w.column("x", _changed(1)),
        lambda w: w.column("x", ROWS.astype(np.float64)),
        lambda w: w.column("x", ROWS.reshape(3, -1)),
        lambda w: w.column("y", ROWS),
        lambda w: (w.column("x", ROWS), w.attr("more", 1)),
        lambda w: (w.column("x", ROWS), w.strings("t", ["a"])),
        lambda w: (w.column("x", ROWS), w.json("j", {"a": 1})),
    ],
    ids=["value", "dtype", "shape", "name", "attribute", "text", "json"],
)
def test_it_sees_every_change_of_content(write_sample: Write, reference: str, more: Any) -> None:
    assert digest_of(write_sample("split", more=more)) != reference


def test_it_tells_where_one_text_ends(write_sample: Write) -> None:
    one = write_sample("split", "a.h5", more=lambda w: w.strings("t", ["ab", "c"]))
    other = write_sample("split", "b.h5", more=lambda w: w.strings("t", ["a", "bc"]))
    assert digest_of(one) != digest_of(other)


def test_the_definition_is_pinned() -> None:
    # A change here makes every artifact that exists look damaged: raise "seqres-digest-1" instead.
    hashes = {"x": ("<f4", (2, 3), "00"), "a/b": ("text", (), "11")}
    assert (
        combine("split", 1, {"ratio": 0.1, "names": ["ü"]}, hashes)
        == "ee150a339582036e021447b15e3f48721c0c5af7cee5cbb53315f4942aa6b6a3"
    )


def test_a_folder_is_hashed_by_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("a")
    first = file_sha256(folder)
    (folder / "deep" / "a.txt").write_text("b")
    second = file_sha256(folder)
    (folder / "deep" / "a.txt").rename(folder / "deep" / "b.txt")
    assert len({first, second, file_sha256(folder)}) == 3
