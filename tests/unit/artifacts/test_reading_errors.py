"""Everything that can be wrong with a file has its own message and a hint; nothing in a file is trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.artifacts import KINDS, PRODUCERS, open_artifact, recompute_digest, verify_artifact
from stages.artifacts.hdf5 import store_attribute
from stages.artifacts.schema import value_problem
from stages.errors import ArtifactError

Write = Callable[..., Path]
Edit = Callable[[h5py.File], None]


def error_of(path: Path, kind: str | tuple[str, ...] | None = None) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        open_artifact(path, kind)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    assert caught.value.message[0] == caught.value.message[0].lower() or str(path) in caught.value.message
    return caught.value


def test_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    error = error_of(tmp_path / "data.h5", "dataset")
    assert error.message == f"no such file: {tmp_path / 'data.h5'}"
    assert error.hint == f"make it with: seqres prepare-data --out {tmp_path / 'data.h5'}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"seven", "is not an HDF5 file"),
        (b"\x89HDF\r\n\x1a\nxx", "is damaged"),
    ],
)
def test_files_that_are_no_hdf5(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    assert words in error_of(path).message


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder, not an artifact" in error_of(tmp_path).message


def test_hdf5_of_another_program(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    assert "not one written by seqres" in error_of(tmp_path / "a.h5").message


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "split"])
def test_the_wrong_kind_names_the_right_command(write_sample: Write, kind: str) -> None:
    error = error_of(write_sample("split"), kind)
    assert f"is a split artifact, expected {kind}" in error.message
    assert error.hint == f"make it with: seqres {PRODUCERS[kind]}"


def test_the_wrong_kind_of_several(write_sample: Write) -> None:
    error = error_of(write_sample("split"), ("rec_model", "res_model"))
    assert "expected rec_model or res_model" in error.message
    assert error.hint == "make it with: seqres train-rec or seqres train-res"


def _attribute(name: str, value: object) -> Edit:
    return lambda file: store_attribute(file.attrs, name, value)


def _replace(path: str, array: np.ndarray | None) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[path]
        if array is not None:
            file[path] = array

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_attribute("seqres_kind", "banana"), "is of the unknown kind 'banana'"),
        (_attribute("schema_version", 7), "has dataset schema version 7; this seqres reads up to 1"),
        (_attribute("schema_version", "one"), "has the schema version 'one'"),
        (lambda f: f.attrs.__delitem__("by"), "attribute by is missing"),
        (_replace("images/id", None), "images/id is missing"),
        (_replace("images/id", np.zeros(2)), "images/id has type <f8, expected int"),
        (_replace("images/id", np.zeros((2, 1), int)), "images/id has shape (2, 1), expected 1 dimensions"),
        (_replace("images/height", np.zeros(5, int)), "images/height has 5 rows, but images/id has 2"),
        (_replace("referents/box_xyxy", np.zeros((3, 5))), "(3, 5), expected 4 in the last place"),
        (_replace("referents/has_mask", np.zeros(3, int)), "referents/has_mask has type <i8, expected bool"),
        (_replace("masks/rle/offsets", None), "masks/rle/offsets is missing"),
        (_replace("masks/rle/offsets", np.array([0, 0, 1, 9])), "ends at 9, but there are 3 values"),
        (_replace("masks/rle/offsets", np.array([1, 1, 1, 3])), "starts at 1, not 0"),
        (_replace("referents/sentence_offsets", np.array([0, 1, 2, 3])), "ends at 3, but there are 5 values"),
    ],
)  # fmt: skip
def test_each_difference_from_the_schema_is_told(write_sample: Write, edit: Edit, words: str) -> None:
    path = write_sample("dataset")
    with h5py.File(path, "a") as file:
        edit(file)
    error = error_of(path)
    assert words in str(error)


def test_all_differences_are_listed(write_sample: Write) -> None:
    path = write_sample("dataset")
    with h5py.File(path, "a") as file:
        del file["images/id"], file["categories/name"]
    assert error_of(path).facts == ("images/id is missing", "categories/name is missing")


@pytest.mark.parametrize("keep", [0.95, 0.5, 0.05])
def test_a_cut_off_file(write_sample: Write, keep: float) -> None:
    path = write_sample("dataset")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert "is damaged" in error_of(path).message


def test_flipped_bytes_never_escape_as_foreign_exceptions(write_sample: Write) -> None:
    path = write_sample("split")
    content = path.read_bytes()
    noticed = 0
    for position in range(8, len(content), 131):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            noticed += bool(verify_artifact(path))
        except ArtifactError:
            noticed += 1
    assert noticed > 0


def _external_storage(file: h5py.File) -> None:
    del file["rank"]
    file.create_dataset("rank", shape=(3,), dtype="i8", external=[("/etc/passwd", 0, 24)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="i8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(3,))
    file.create_virtual_dataset("virtual", layout)


def _cycle(file: h5py.File) -> None:
    file.create_group("loop")["self"] = file["/"]


def _absurd(file: h5py.File) -> None:
    file.create_dataset("x", shape=(1 << 40,), dtype="f8", chunks=(1024,), compression="gzip")


def _deep(file: h5py.File) -> None:
    file.create_group("/".join("abcdefghijklm"))


def _named_type(file: h5py.File) -> None:
    file["type"] = np.dtype("f4")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda f: f.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")), "x is a link"),
        (lambda f: f.__setitem__("x", h5py.SoftLink("/visible")), "x is a link"),
        (_external_storage, "rank is stored in another file"),
        (_virtual, "virtual is stored in another file"),
        (_cycle, "loop/self is reached twice"),
        (_deep, "is nested too deeply"),
        (_named_type, "type is neither a group nor a dataset"),
        (_absurd, "x claims 8796093022208 bytes but 0 are stored"),
        (lambda f: f.create_dataset("x", data=np.zeros(1000), compression="lzf"), "x uses filters"),
        (lambda f: f.create_dataset("x", data=np.zeros(3, [("a", "f4")])), "x has a type that is no number"),
        (lambda f: f.create_dataset("x", data=np.zeros(3, complex)), "x has a type that is no number"),
        (lambda f: f.create_dataset("x", data=np.array([b"abc"])), "x has type |S3"),
        (lambda f: f.attrs.__setitem__("x", "text of variable length"), "attribute x is no plain number"),
        (lambda f: f.create_dataset("x", data=h5py.Empty("f4")), "x holds nothing"),
    ],
)  # fmt: skip
def test_what_artifacts_never_contain_is_refused(write_sample: Write, edit: Edit, words: str) -> None:
    path = write_sample("split")
    with h5py.File(path, "a") as file:
        edit(file)
    error = error_of(path)
    assert "is not built like a seqres artifact" in error.message
    assert words in error.facts[0]
    with pytest.raises(ArtifactError):
        recompute_digest(path)


def test_numbers_text_and_names_are_not_mixed_up(write_sample: Write) -> None:
    with open_artifact(write_sample("dataset")) as artifact:
        with pytest.raises(ArtifactError, match=r"images/id of .* holds numbers, not text"):
            artifact.strings("images/id")
        with pytest.raises(ArtifactError, match=r"images/file_name of .* holds text, not numbers"):
            artifact["images/file_name"]
        with pytest.raises(ArtifactError, match="has no images/wdith"):
            artifact["images/wdith"]


def test_verify_lists_every_finding(write_sample: Write) -> None:
    path = write_sample("dataset")
    with h5py.File(path, "a") as file:
        file["referents/image_index"][1] = 99
        file["referents/box_xyxy"][2] = [5, 5, 1, 9]
        file["masks/rle/offsets"][1] = 3
        file["sentences/referent_index"][0] = 2
        del file["counts"]
        file["counts"] = "{broken"
    findings = "\n".join(verify_artifact(path))
    for words in (
        "referents/image_index: row 1 is 99, outside 0..1 (1 rows)",
        "referents/box_xyxy: row 2 is [5.0, 5.0, 1.0, 9.0], not x1 y1 x2 y2",
        "masks/rle/offsets: offsets fall from 3 to",
        "sentences/referent_index: row 0 is 2, the offsets say 0",
        "counts: counts is no valid JSON",
        "content digest is",
    ):
        assert words in findings


def test_verify_notices_one_changed_number(write_sample: Write) -> None:
    path = write_sample("split")
    with h5py.File(path, "a") as file:
        file["rank"][0] += 1
    (finding,) = verify_artifact(path)
    assert "content digest is" in finding


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_released_versions_stay_readable(project_root: Path, kind: str) -> None:
    """tests/golden/artifacts keeps one file of every version that was ever written."""
    files = sorted((project_root / "tests" / "golden" / "artifacts").glob(f"{kind}-v*.h5"))
    assert files
    for path in files:
        with open_artifact(path, kind) as artifact:
            assert artifact.digest == json.loads(path.with_suffix(".json").read_text())["digest"]
        assert verify_artifact(path) == []


def test_an_attribute_that_is_no_finite_number_is_refused(write_sample: Callable[..., Path]) -> None:
    """No digest can be made of a file that takes it over."""
    path = write_sample("split")
    with h5py.File(path, "r+", locking=False) as file:
        file.attrs["ratio"] = np.float64("nan")
    with pytest.raises(ArtifactError) as caught:
        open_artifact(path, "split")
    assert caught.value.facts == ("attribute ratio is nan, no finite number",)


@pytest.mark.parametrize(
    ("kind", "column", "wrong", "words"),
    [
        ("dataset", "referents/sentence_offsets", 2**31 - 1, "offsets fall from 2147483647"),
        ("resampled_points", "points_xy", np.nan, "a number that is not finite"),
        ("pseudo_points", "points_xy/values", np.inf, "a number that is not finite"),
    ],
)
def test_numbers_that_cannot_be_are_told_when_they_are_read(
    write_sample: Write, kind: str, column: str, wrong: float, words: str
) -> None:
    path = write_sample(kind)
    with h5py.File(path, "r+", locking=False) as file:
        values = file[column][()]
        values.reshape(-1)[1] = wrong
        file[column][...] = values
    with open_artifact(path, kind) as artifact, pytest.raises(ArtifactError) as caught:
        list(artifact.ragged("points_xy")) if column.endswith("/values") else artifact[column]
    assert words in caught.value.facts[0]


def test_numbers_of_another_type_are_told_when_they_are_read(write_sample: Write) -> None:
    path = write_sample("pseudo_points")
    with open_artifact(path, "pseudo_points") as artifact:
        with h5py.File(path, "r", locking=False) as file:
            stored = file["referent_index"][()]
        words = value_problem(artifact, "referent_index", stored.astype(np.float64))
    assert words == "referent_index has type <f8, expected int"
