"""What is written is what is read, whatever the type, shape and way of writing."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.artifacts import KINDS, ArtifactWriter, open_artifact, recompute_digest, verify_artifact
from stages.artifacts.ragged import Ragged, pack
from stages.errors import ArtifactError, SeqresError

Write = Callable[..., Path]
_FIXTURES = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
_DTYPES = st.sampled_from(["bool", "u1", "<i4", "<i8", ">i4", "<f2", "<f4", ">f8"])
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_valid_and_its_digest_is_recomputed(write_sample: Write, kind: str) -> None:
    path = write_sample(kind)
    with open_artifact(path, kind) as artifact:
        assert artifact.digest == recompute_digest(path)
        assert artifact.provenance == {"stage": "sample"}
        assert artifact.created_by.startswith("seqres ")
    assert verify_artifact(path) == []


@_FIXTURES
@given(
    array=hnp.arrays(_DTYPES, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)),
    packed=st.booleans(),
)
def test_a_column_comes_back_equal(write_sample: Write, array: np.ndarray, packed: bool) -> None:
    path = write_sample("split", more=lambda w: w.column("x/y", array, compress=packed))
    with open_artifact(path) as artifact:
        back = artifact["x/y"]
        assert back.dtype == array.dtype.newbyteorder("<")
        np.testing.assert_array_equal(back, array)
        assert artifact.digest == recompute_digest(path)


@_FIXTURES
@given(lengths=st.lists(st.integers(0, 5), max_size=8), tail=st.sampled_from([(), (2,)]))
def test_a_ragged_column_comes_back_equal(
    write_sample: Write, lengths: list[int], tail: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(len(lengths))
    rows = [rng.normal(size=(n, *tail)).astype(np.float32) for n in lengths]
    path = write_sample("split", more=lambda w: w.ragged("r", *pack(rows, np.float32, tail)))
    with open_artifact(path) as artifact:
        ragged = artifact.ragged("r")
        for view in (ragged, ragged.load(), pickle.loads(pickle.dumps(ragged))):
            assert len(view) == len(rows)
            for got, expected in zip(view, rows, strict=True):
                np.testing.assert_array_equal(got, expected)
        assert ragged.lengths.tolist() == lengths
        assert "r" in artifact
        with pytest.raises(IndexError, match=f"row {len(rows)} of r"):
            ragged[len(rows)]


@_FIXTURES
@given(texts=st.lists(_TEXT, max_size=6))
def test_text_comes_back_equal(write_sample: Write, texts: list[str]) -> None:
    path = write_sample("split", more=lambda w: w.strings("t", texts))
    with open_artifact(path) as artifact:
        assert artifact.strings("t") == texts
        assert artifact.digest == recompute_digest(path)


@pytest.mark.parametrize("n_rows", [0, 3, 2000])
def test_a_stream_equals_the_same_rows_at_once(write_sample: Write, n_rows: int) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 255, int(rng.integers(0, 9000)), dtype=np.uint8) for _ in range(n_rows)]
    streamed = write_sample("split", "a.h5", more=lambda w: w.ragged_stream("r", (r.tobytes() for r in rows)))
    at_once = write_sample("split", "b.h5", more=lambda w: w.ragged("r", *pack(rows, np.uint8)))
    with open_artifact(streamed) as a, open_artifact(at_once) as b:
        assert a.digest == b.digest == recompute_digest(streamed)
        for i in range(0, n_rows, 97):
            np.testing.assert_array_equal(a.ragged("r")[i], rows[i])


def test_bytes_that_are_packed_already_are_stored_plainly(write_sample: Write) -> None:
    values = np.zeros(1 << 20, np.uint8)
    path = write_sample("split", more=lambda w: w.ragged("r", values, [0, len(values)]))
    with h5py.File(path) as file:
        assert file["r/values"].chunks is None
    path = write_sample("split", more=lambda w: w.column("zeros", np.zeros(1 << 20)))
    assert path.stat().st_size < 1 << 18


def test_attributes_keep_their_python_type(write_sample: Write) -> None:
    values: dict[str, Any] = {
        "text": "ü", "empty": "", "none": None, "int": -3, "float": 0.1, "yes": True, "texts": ["a", "ß"],
        "no_texts": [], "numbers": [1, 2], "numpy": np.int64(7),
    }  # fmt: skip

    def more(writer: ArtifactWriter) -> None:
        for name, value in values.items():
            writer.attr(name, value)
        writer.note_attr("image_root", "/photos")

    with open_artifact(write_sample("split", more=more)) as artifact:
        for name, value in values.items():
            assert artifact.attrs[name] == value
            assert type(artifact.attrs[name]) is not np.int64
        assert artifact.attrs["image_root"] == artifact.notes["image_root"] == "/photos"
        assert "image_root" not in artifact.semantic_attrs


def test_json_has_no_numpy_and_no_nan(write_sample: Write) -> None:
    value = {
        "a": np.float32(0.5),
        "b": [np.nan, float("inf")],
        "c": np.arange(2),
        "d": (1, None),
        "e": Path("x"),
    }
    with open_artifact(write_sample("split", more=lambda w: w.json("j", value))) as artifact:
        assert artifact.json("j") == {"a": 0.5, "b": [None, None], "c": [0, 1], "d": [1, None], "e": "x"}


@pytest.mark.parametrize(
    "index",
    [slice(2, 5), [7, 0, 7], [], [-1, 3], np.arange(1000) % 7 == 0, np.array([999, 5, 400])],
    ids=["slice", "repeats", "none", "negative", "mask", "far"],
)
def test_rows_equals_numpy_indexing(write_sample: Write, index: Any) -> None:
    array = np.random.default_rng(0).normal(size=(1000, 3))
    path = write_sample("split", more=lambda w: w.column("x", array, compress=True))
    with open_artifact(path) as artifact:
        expected = (
            array[np.asarray(index, dtype=np.int64) if index == [] else index]
            if not isinstance(index, np.ndarray)
            else array[index]
        )
        np.testing.assert_array_equal(artifact.rows("x", index), expected)
        with pytest.raises(IndexError, match="row 1000 of x, which has 1000"):
            artifact.rows("x", [1000])


def test_a_view_can_be_sent_to_another_process(write_sample: Write, project_root: Path) -> None:
    path = write_sample("dataset")
    with open_artifact(path) as artifact:
        expected = artifact["referents/box_xyxy"]
        code = "import pickle,sys; a=pickle.load(sys.stdin.buffer); print(a['referents/box_xyxy'].tolist())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps(artifact),
            capture_output=True,
            cwd=project_root,
            check=True,
        )
        assert done.stdout.decode().strip() == str(expected.tolist())


def test_a_forked_worker_opens_its_own_handle(write_sample: Write) -> None:
    with open_artifact(write_sample("split")) as artifact:
        before = artifact["visible"]
        handle = artifact._file
        artifact._pid -= 1  # what the child of a fork sees
        np.testing.assert_array_equal(artifact["visible"], before)
        assert artifact._file is not handle


def test_a_file_replaced_under_a_worker_is_noticed(write_sample: Write) -> None:
    path = write_sample("split")
    artifact = pickle.loads(pickle.dumps(open_artifact(path)))
    write_sample("split", value=1)
    with pytest.raises(ArtifactError, match=r"split\.h5 was replaced while it was in use"):
        artifact["visible"]
    path.unlink()
    with pytest.raises(ArtifactError, match="was removed while it was in use"):
        artifact["visible"]


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (lambda w: w.column("x", np.array(["a"])), "x: a column of type <U1"),
        (lambda w: w.column("x", np.zeros(2, complex)), "type complex128"),
        (lambda w: w.column("../x", np.zeros(2)), r"dataset name '\.\./x'"),
        (lambda w: w.column("a b", np.zeros(2)), "dataset name 'a b'"),
        (lambda w: w.attr("content_digest", "x"), "attribute 'content_digest' is set by the writer"),
        (lambda w: w.attr("x", {"a": 1}), "attribute 'x' cannot hold dict"),
        (lambda w: w.ragged("r", np.zeros(3), [0, 2]), "r: offsets end at 2, but there are 3 values"),
        (lambda w: w.ragged("r", np.zeros(3), [0, 2, 1, 3]), "offsets fall from 2 to 1 at row 1"),
        (lambda w: w.ragged("r", np.zeros(3), [1, 3]), "offsets start at 1"),
        (lambda w: w.json("j", object()), "cannot store object as JSON"),
    ],
)  # fmt: skip
def test_what_the_format_cannot_hold_is_refused(write_sample: Write, more: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        write_sample("split", "new.h5", more=more)


def test_text_with_nul_is_refused(write_sample: Write) -> None:
    with pytest.raises(SeqresError, match=r"t cannot hold the text 'a\\x00b'"):
        write_sample("split", more=lambda w: w.strings("t", ["a\0b"]))


def test_ragged_from_memory_checks_its_offsets() -> None:
    with pytest.raises(ArtifactError, match="points: offsets end at 5, but there are 3 values"):
        Ragged.from_arrays(np.zeros(3), np.array([0, 5]), "points")
