"""Run lengths: our coder and pycocotools' agree byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from stages.errors import ArtifactError
from stages.geometry.rasterise import mask_to_rle
from stages.geometry.runs import counts_to_bytes, pack_rles, rle_counts, split_runs


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.floats(0, 1))
def test_counts_agree_with_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    rle = mask_to_rle(mask)
    runs = rle_counts(rle["counts"])
    flat = mask.T.reshape(-1)
    expected, value = [], False
    for run in runs:
        expected += [value] * int(run)
        value = not value
    assert expected == flat.tolist()
    assert counts_to_bytes(runs) == rle["counts"]


@given(st.lists(st.integers(0, 2**33), max_size=12))
def test_any_runs_survive(runs: list[int]) -> None:
    assert rle_counts(counts_to_bytes(runs)).tolist() == runs


def test_large_runs_are_written_as_pycocotools_does() -> None:
    runs = [0, 1, 100_000, 3, 5, 70_000, 2]
    height = 1000
    width = -(-sum(runs) // height)
    runs[-1] += height * width - sum(runs)
    rle = coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    assert counts_to_bytes(runs) == rle["counts"]


def test_many_at_once_equal_each_alone() -> None:
    rng = np.random.default_rng(0)
    rles = [mask_to_rle(rng.random((9, 7)) < p) for p in (0, 0.1, 0.5, 0.9, 1)]
    runs, offsets = split_runs(*pack_rles(rles))
    for i, rle in enumerate(rles):
        assert runs[offsets[i] : offsets[i + 1]].tolist() == rle_counts(rle["counts"]).tolist()


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x00", b"P", "ü", b"oooooooooooooo0"])
def test_garbage_is_refused(data: bytes | str) -> None:
    with pytest.raises(ArtifactError, match="not compressed run lengths"):
        rle_counts(data)
